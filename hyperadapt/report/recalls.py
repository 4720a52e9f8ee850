"""Tables of retrieval: recall in both directions, means over seeds."""

from collections.abc import Iterable
from statistics import fmean

from hyperadapt.errors import InputError
from hyperadapt.report.layout import Section, Table, in_per_cent
from hyperadapt.report.published import declared_flags
from hyperadapt.report.records import Record
from hyperadapt.retrieval.recall import TITLES

Runs = dict[int, Record]
"""Results by seed."""
HEADER = ("method", *TITLES, "seeds", "flags")
NOTE = "Per cent, means over seeds; i2t: captions of an image, t2i: images of a caption."


def recall_tables(records: Iterable[Record]) -> list[Table]:
    """One table a backbone, a section a set of pairs; runs of other protocols are left aside.

    Args:
        records: results.

    Raises:
        InputError: when two are of the same run with other data.
    """
    found: dict[str, dict[str, dict[str, Runs]]] = {}
    for record in records:
        if "recall" not in record:
            continue
        pairs, method, seed = record["dataset"], record["method"]["name"], record["seed"]
        runs = found.setdefault(record["backbone"], {}).setdefault(pairs, {}).setdefault(method, {})
        if seed in runs:
            raise InputError(
                f"there are two results of retrieval with {method} on {pairs}, seed {seed}, made of other data or "
                "views; keep them in folders of their own"
            )
        runs[seed] = record
    tables = []
    for backbone, sets in found.items():
        sections = tuple(Section(name, _rows(methods)) for name, methods in sets.items())
        tables.append(Table(f"retrieval, {backbone}", HEADER, sections, (NOTE,)))
    return tables


def _rows(methods: dict[str, Runs]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (name, *_cells(list(runs.values())), str(len(runs)), " ".join(declared_flags(runs.values())))
        for name, runs in methods.items()
    )


def _cells(runs: list[Record]) -> list[str]:
    recalls = [run["recall"] for run in runs]
    return [in_per_cent(fmean(each[key]["hits"] / each[key]["total"] for each in recalls)) for key in recalls[0]]
