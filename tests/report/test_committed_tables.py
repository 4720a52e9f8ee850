"""The tables of the READMEs are those of the committed results."""

import json
import re

import pytest

from benchmarks.results.write_tables import PAGES, RESULTS, SETS, TABLE, few_shot, written
from hyperadapt.report.collection import expand
from hyperadapt.report.layout import MISSING


@pytest.mark.parametrize("page", PAGES, ids=[page.parent.name for page in PAGES])
def test_tables_say_what_the_files_say(page):
    """`python -m benchmarks.results.write_tables` would change nothing."""
    text = page.read_text(encoding="utf-8")
    assert TABLE.search(text)
    assert written(text) == text


def test_a_figure_is_the_mean_accuracy_of_its_runs():
    file = "whurs19-RN50"
    path = RESULTS / f"{file}.json"
    shares = [
        run["counts"]["all"]["correct"] / run["counts"]["all"]["total"]
        for run in expand(json.loads(path.read_text()), str(path))
        if (run["protocol"], run["method"]["name"], run["shots"]) == ("few-shot", "prolip", 4)
    ]
    row = f"| prolip | {100 * sum(shares) / len(shares):.1f} |"
    table = few_shot(file, ["prolip", "unheard-of"])
    header, _, ours, none = table.splitlines()
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    assert columns == [SETS[file], "1", "2", "4", "8", "16"]
    assert ours.split(" | ")[columns.index("4")] == row.split(" | ")[1].rstrip(" |")
    assert none == "| unheard-of" + 5 * f" | {MISSING}" + " |"


def test_a_page_that_was_changed_by_hand_is_made_anew():
    page = PAGES[1].read_text(encoding="utf-8")
    spoilt = re.sub(r"\| prolip \| \d+\.\d/", "| prolip | 12.3/", page, count=1)
    assert spoilt != page
    assert written(spoilt) == written(page)
