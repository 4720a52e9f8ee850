"""How far answers lie from the truth over a class tree, for the likeliest class and for that of least expected cost."""

from collections.abc import Iterator
from statistics import fmean

from hyperadapt.hierarchy import TreeCounts
from hyperadapt.report.intervals import paired
from hyperadapt.report.layout import MISSING, Section, Table, in_per_cent
from hyperadapt.report.records import Group, Record

DECISIONS = {"argmax": "likeliest", "expected_cost": "least cost"}


def mistakes_table(group: Group, reference: str | None) -> Table | None:
    """One row a method, number of shots, exam and way to decide; None where no run knew a class tree.

    Args:
        group: runs.
        reference: the method whose likeliest classes heights are compared with on the same draws; None, or one that is
            not there, for no comparison.
    """
    sections = [Section(source, rows) for source in group.sources if (rows := tuple(_rows(group, source, reference)))]
    if not sections:
        return None
    against = reference if reference in group.methods else "reference"
    header = ("method", "shots", "exam", "answer", "top-1", "height", f"minus {against}", "its error", "of mistakes")
    notes = (
        "height: of the lowest common ancestor of answer and truth, in edges, 0 for a right answer; mean over images, "
        "then over mistakes. edges: between answer and truth, mean over images.",
        "by depth: per cent of images whose answer and truth share their ancestor 1, 2, ... edges below the root.",
        f"minus {against}: of the height, to the likeliest classes of that method, paired by draw.",
    )
    title = f"{group.protocol}, {group.backbone}: mistakes over the class tree"
    return Table(title, (*header, "edges", "by depth", "seeds"), tuple(sections), notes)


def _rows(group: Group, source: str, reference: str | None) -> Iterator[tuple[str, ...]]:
    for method in group.methods:
        for shots in group.shots:
            runs = group.runs.get((source, method, shots), {})
            beside = group.runs.get((source, reference or "", shots), {})
            for exam in next(iter(runs.values()), {}).get("mistakes", {}):
                for decision, name in DECISIONS.items():
                    found = _counts(runs, exam, decision)
                    if found:
                        own = method == reference and decision == "argmax"
                        difference = _difference(found, {} if own else _counts(beside, exam, "argmax"))
                        yield method, str(shots), exam, name, *_cells(found, difference), str(len(found))


def _counts(runs: dict[int, Record], exam: str, decision: str) -> dict[int, TreeCounts]:
    """By seed; runs without a tree, or that did not sit the exam, are left out."""
    plain = {seed: run.get("mistakes", {}).get(exam, {}).get(decision) for seed, run in runs.items()}
    return {seed: TreeCounts.from_dict(counts) for seed, counts in plain.items() if counts is not None}


def _difference(ours: dict[int, TreeCounts], theirs: dict[int, TreeCounts]) -> tuple[str, str]:
    if not ours.keys() & theirs.keys():
        return MISSING, MISSING
    heights = [{seed: counts.mean_height for seed, counts in each.items()} for each in (ours, theirs)]
    mean, error, _ = paired(heights[:1], heights[1:])
    return f"{mean:+.3f}", MISSING if error is None else f"{error:.3f}"


def _cells(found: dict[int, TreeCounts], difference: tuple[str, str]) -> tuple[str, ...]:
    """Means over seeds."""
    runs = list(found.values())
    of_mistakes = [run.severity for run in runs if run.severity is not None]
    depths = zip(*([count / run.total for count in run.by_depth] for run in runs), strict=True)
    return (
        in_per_cent(fmean(run.accuracy for run in runs)),
        f"{fmean(run.mean_height for run in runs):.3f}",
        *difference,
        f"{fmean(of_mistakes):.3f}" if of_mistakes else MISSING,
        f"{fmean(run.mean_edges for run in runs):.3f}",
        " ".join(f"{100 * fmean(shares):.1f}" for shares in depths),
    )
