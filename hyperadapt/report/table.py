"""Tables of one call of a protocol, for the terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from hyperadapt.evaluation import harmonic_mean
from hyperadapt.report.published import declared_flags


@dataclass(frozen=True)
class Row:
    """One method over its seeds; accuracies in [0, 1].

    Attributes:
        method: name.
        shots: training images a class.
        base, novel: mean accuracy over seeds.
        base_spread, novel_spread: sample standard deviation over seeds; None for one seed.
        harmonic: harmonic mean of the two means.
        joint: the same where all images are scored among the names of both halves; None where that is not defined.
        seeds: number of runs.
        seconds: mean training and scoring time of a run.
        parameters: trained values.
        flags: what the figures owe to more than the shots; see `published.FLAGS`.
    """

    method: str
    shots: int
    base: float
    novel: float
    base_spread: float | None
    novel_spread: float | None
    harmonic: float
    joint: float | None
    seeds: int
    seconds: float
    parameters: int
    flags: tuple[str, ...]


def base_to_novel_rows(records: Iterable[dict[str, Any]]) -> list[Row]:
    """One row a method and number of shots, in order of first appearance.

    Args:
        records: contents of result files of one data set.
    """
    return [_row(runs) for runs in _by_method(records)]


def _by_method(records: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Records of the same method and shots together."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["method"]["name"], record["shots"]), []).append(record)
    return list(groups.values())


def _row(runs: list[dict[str, Any]]) -> Row:
    mean, spread = _over_seeds(runs)
    joint = harmonic_mean(mean["joint_base"], mean["joint_novel"]) if "joint_base" in mean else None
    return Row(
        method=runs[0]["method"]["name"],
        shots=runs[0]["shots"],
        base=mean["base"],
        novel=mean["novel"],
        base_spread=spread["base"],
        novel_spread=spread["novel"],
        harmonic=harmonic_mean(mean["base"], mean["novel"]),
        joint=joint,
        seeds=len(runs),
        seconds=fmean(r["seconds"]["train"] + r["seconds"]["test"] for r in runs),
        parameters=runs[0]["trained_parameters"],
        flags=declared_flags(runs),
    )


def _over_seeds(runs: list[dict[str, Any]]) -> tuple[dict[str, float], dict[str, float | None]]:
    """Mean accuracy of each exam, and its sample standard deviation, None for one seed."""
    accuracy = {
        exam: [r["counts"][exam]["correct"] / r["counts"][exam]["total"] for r in runs] for exam in runs[0]["counts"]
    }
    mean = {exam: fmean(values) for exam, values in accuracy.items()}
    return mean, {exam: stdev(values) if len(values) > 1 else None for exam, values in accuracy.items()}


def percent(value: float, spread: float | None = None) -> str:
    """Per cent with two decimals, and the spread where there is one.

    Example:
        >>> percent(0.8125, 0.01), percent(0.5)
        ('81.25 ± 1.00', '50.00')
    """
    return f"{100 * value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


HEADER = ("method", "shots", "base", "novel", "HM", "joint HM", "s/run", "trained", "flags")


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, in the order of `HEADER`."""
    return (
        row.method,
        str(row.shots),
        percent(row.base, row.base_spread),
        percent(row.novel, row.novel_spread),
        percent(row.harmonic),
        "" if row.joint is None else percent(row.joint),
        f"{row.seconds:.1f}",
        f"{row.parameters:,}",
        " ".join(row.flags),
    )


def exam_table(records: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of a protocol whose exams are data sets: one row a method and number of shots.

    Where the protocol scores other data sets than the one that is trained on, which is the first exam, the mean over
    them follows, and the mean over their joint forms.

    Args:
        records: contents of result files of one training source.
    """
    plain = list(records[0]["class_names"])
    tested = plain[1:]
    header = ("method", "shots", *plain, *(("mean", "joint mean") if tested else ()), "s/run", "trained", "flags")
    rows = []
    for runs in _by_method(records):
        mean, spread = _over_seeds(runs)
        means = []
        for names in (tested, [f"joint_{name}" for name in tested]) if tested else ():
            means.append(percent(fmean(mean[name] for name in names)) if all(name in mean for name in names) else "")
        seconds = fmean(r["seconds"]["train"] + r["seconds"]["test"] for r in runs)
        rows.append(
            (
                runs[0]["method"]["name"],
                str(runs[0]["shots"]),
                *(percent(mean[name], spread[name]) for name in plain),
                *means,
                f"{seconds:.1f}",
                f"{runs[0]['trained_parameters']:,}",
                " ".join(declared_flags(runs)),
            )
        )
    return header, rows
