"""The tables of the READMEs that come of committed results, written where they stand.

python -m benchmarks.results.write_tables

A table stands between a comment that says what it is made of and `<!-- end -->`:

- `<!-- base-to-novel: METHODS -->` has the feature sets side by side, base / novel / HM, and the mean of the HMs;
- `<!-- few-shot FILE: METHODS -->` one feature set, by shots;
- `<!-- worlds FILE: METHODS -->` the data sets of one file side by side;
- `<!-- retrieval FILE: METHODS -->` the pairs of one file side by side, recall at 1 of captions, of images.

Figures are means over seeds, of which fewer than the most stand in brackets.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from hyperadapt.evaluation import harmonic_mean
from hyperadapt.report.layout import MISSING
from hyperadapt.report.published import declared_flags
from hyperadapt.report.records import read_records

RESULTS = Path(__file__).parent
PAGES = (RESULTS.parents[1] / "README.md", RESULTS / "README.md")
SETS = {
    "whurs19-RN50": "WHU RN50",
    "whurs19-ViT-B-32": "WHU ViT-B/32",
    "whurs19-ViT-L-14": "WHU ViT-L/14",
    "caltech101-67-ViT-B-32": "Caltech-67",
    "imagenet1k-ViT-B-32": "ImageNet",
}
SUFFIXES = {
    "-euclidean": "its twin in flat space",
    "-no-hierarchy": "it without hierarchy",
    "-random-text": "it with random texts",
    "-hand-prompts": "it with frozen hand prompts",
}
MARKS = {"frozen-novel": " °", "half": " (*half*)"}
TABLE = re.compile(
    r"(<!-- (base-to-novel|few-shot|worlds|retrieval) ?(\S*): (.+?) -->\n\n)(.*?)(\n\n<!-- end -->)", re.DOTALL
)
Runs = Sequence[dict[str, Any]]


@cache
def runs_of(file: str) -> tuple[dict[str, Any], ...]:
    """All runs of a committed file."""
    return tuple(read_records(RESULTS / f"{file}.json"))


def by_method(runs: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Runs of each method."""
    found = defaultdict(list)
    for run in runs:
        found[run["method"]["name"]].append(run)
    return found


def by_dataset(file: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Runs of each method on each data set of a file."""
    names = sorted({run["dataset"] for run in runs_of(file)})
    return {name: by_method(run for run in runs_of(file) if run["dataset"] == name) for name in names}


def title(name: str, runs: Runs) -> str:
    """What the first column says."""
    shown = next((words for suffix, words in SUFFIXES.items() if name.endswith(suffix)), name)
    return shown + "".join(mark for flag, mark in MARKS.items() if flag in declared_flags(runs))


def accuracy(runs: Runs, exam: str) -> float:
    """Per cent, mean over seeds."""
    return 100 * fmean(run["counts"][exam]["correct"] / run["counts"][exam]["total"] for run in runs)


def halves(runs: Runs) -> str:
    """Base / novel / HM of the means."""
    base, novel = (accuracy(runs, exam) for exam in ("base", "novel"))
    return f"{base:.1f}/{novel:.1f}/**{harmonic_mean(base, novel):.1f}**"


def cell(runs: Runs, shown: Callable[[Runs], str], most: int) -> str:
    """A figure, and how many seeds it is of where these are not all; a dash without runs."""
    return MISSING if not runs else shown(runs) + (f" ({len(runs)})" if len(runs) < most else "")


def rendered(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    first, *others = ("| " + " | ".join(row) + " |" for row in (header, *rows))
    return "\n".join((first, "|" + "---|" * len(header), *others))


def side_by_side(columns: dict[str, dict[str, list[dict[str, Any]]]], methods: Sequence[str], mean: bool) -> str:
    """Base-to-novel of several data sets.

    Args:
        columns: runs by method, by title of the column.
        methods: rows.
        mean: whether the mean over the columns of HM follows.
    """
    most = max(len(runs) for column in columns.values() for runs in column.values())
    found = {name: [column.get(name, []) for column in columns.values()] for name in methods}
    means = {
        name: fmean(harmonic_mean(accuracy(runs, "base"), accuracy(runs, "novel")) for runs in own)
        for name, own in found.items()
        if all(own)
    }
    rows = []
    for name, own in found.items():
        row = [title(name, [run for runs in own for run in runs]), *(cell(runs, halves, most) for runs in own)]
        if mean:
            best = name in means and means[name] == max(means.values())
            row.append(MISSING if name not in means else f"**{means[name]:.2f}**" if best else f"{means[name]:.2f}")
        rows.append(row)
    return rendered(("method", *columns, *(["mean HM"] if mean else [])), rows)


def base_to_novel(methods: Sequence[str]) -> str:
    """All feature sets."""
    columns = {
        shown: by_method(run for run in runs_of(file) if run["protocol"] == "base-to-novel")
        for file, shown in SETS.items()
    }
    return side_by_side(columns, methods, mean=True)


def worlds(file: str, methods: Sequence[str]) -> str:
    """The data sets of a file."""
    return side_by_side(by_dataset(file), methods, mean=False)


def recalls(runs: Runs) -> str:
    """Recall at 1 of the captions of an image, of the images of a caption."""
    found = (
        100 * fmean(run["recall"][key]["hits"] / run["recall"][key]["total"] for run in runs)
        for key in ("image_to_text@1", "text_to_image@1")
    )
    return ", ".join(f"{figure:.1f}" for figure in found)


def retrieval(file: str, methods: Sequence[str]) -> str:
    """The pairs of a file."""
    columns = by_dataset(file)
    most = max(len(runs) for column in columns.values() for runs in column.values())
    rows = [[name, *(cell(column.get(name, []), recalls, most) for column in columns.values())] for name in methods]
    return rendered(("method", *columns), rows)


def few_shot(file: str, methods: Sequence[str]) -> str:
    """One feature set, by shots."""
    runs = [run for run in runs_of(file) if run["protocol"] == "few-shot"]
    shots = sorted({run["shots"] for run in runs})
    columns = [by_method(run for run in runs if run["shots"] == k) for k in shots]
    most = max(len(own) for column in columns for own in column.values())
    rows = [
        [name, *(cell(column.get(name, []), lambda own: f"{accuracy(own, 'all'):.1f}", most) for column in columns)]
        for name in methods
    ]
    return rendered((SETS[file], *map(str, shots)), rows)


def written(text: str) -> str:
    """A page with its tables made anew."""

    def table(found: re.Match[str]) -> str:
        before, kind, file, methods, _, after = found.groups()
        names = methods.split(", ")
        makers = {"few-shot": few_shot, "worlds": worlds, "retrieval": retrieval}
        return before + (base_to_novel(names) if kind == "base-to-novel" else makers[kind](file, names)) + after

    return TABLE.sub(table, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
