"""The base-to-novel table of a set of runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from hyperadapt.evaluation import harmonic_mean


@dataclass(frozen=True)
class Row:
    """One method over its seeds; accuracies in [0, 1].

    Attributes:
        method: name.
        base, novel: mean accuracy over seeds.
        base_spread, novel_spread: sample standard deviation over seeds; None for one seed.
        harmonic: harmonic mean of the two means.
        joint: the same where all images are scored among the names of both halves; None where that is not defined.
        seeds: number of runs.
        seconds: mean training and scoring time of a run.
        parameters: trained values.
        knows_split: whether the method must be told which half a test set is.
    """

    method: str
    base: float
    novel: float
    base_spread: float | None
    novel_spread: float | None
    harmonic: float
    joint: float | None
    seeds: int
    seconds: float
    parameters: int
    knows_split: bool


def base_to_novel_rows(records: Iterable[dict[str, Any]]) -> list[Row]:
    """One row a method, in order of first appearance.

    Args:
        records: contents of result files of one data set.
    """
    by_method: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_method.setdefault(record["method"]["name"], []).append(record)
    return [_row(name, runs) for name, runs in by_method.items()]


def _row(name: str, runs: list[dict[str, Any]]) -> Row:
    accuracy = {
        half: [r["counts"][half]["correct"] / r["counts"][half]["total"] for r in runs] for half in runs[0]["counts"]
    }
    mean = {half: fmean(values) for half, values in accuracy.items()}
    spread = {half: stdev(values) if len(values) > 1 else None for half, values in accuracy.items()}
    joint = harmonic_mean(mean["joint_base"], mean["joint_novel"]) if "joint_base" in mean else None
    return Row(
        method=name,
        base=mean["base"],
        novel=mean["novel"],
        base_spread=spread["base"],
        novel_spread=spread["novel"],
        harmonic=harmonic_mean(mean["base"], mean["novel"]),
        joint=joint,
        seeds=len(runs),
        seconds=fmean(r["seconds"]["train"] + r["seconds"]["test"] for r in runs),
        parameters=runs[0]["trained_parameters"],
        knows_split=runs[0]["flags"]["knows_split"],
    )


def percent(value: float, spread: float | None = None) -> str:
    """Per cent with two decimals, and the spread where there is one.

    Example:
        >>> percent(0.8125, 0.01), percent(0.5)
        ('81.25 ± 1.00', '50.00')
    """
    return f"{100 * value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


HEADER = ("method", "base", "novel", "HM", "joint HM", "s/run", "trained", "half")


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, in the order of `HEADER`."""
    return (
        row.method,
        percent(row.base, row.base_spread),
        percent(row.novel, row.novel_spread),
        percent(row.harmonic),
        "" if row.joint is None else percent(row.joint),
        f"{row.seconds:.1f}",
        f"{row.parameters:,}",
        "yes" if row.knows_split else "",
    )
