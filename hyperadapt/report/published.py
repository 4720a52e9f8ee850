"""Figures of others, from a file that names their source."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperadapt.config import from_dict, read_yaml
from hyperadapt.errors import InputError

FLAGS = {
    "transductive": "images of the test classes without labels were seen in training",
    "half": "the method must be told whether a test set holds known or new classes",
    "frozen-novel": "new classes have the scores of frozen CLIP",
    "teacher": "a larger model teaches",
    "texts": "texts of a language model",
    "per-set": "settings of its own for each data set",
    "test-selected": "chosen on test data",
}
"""What a result may owe its figure to, beyond the shots."""


def declared_flags(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What results of one method declare, as words of `FLAGS`; results of retrieval once declared nothing.

    Example:
        >>> flags = {"knows_split": True, "sees_unlabelled_or_novel_data": False, "novel_scored_by": "zero-shot"}
        >>> declared_flags([{"flags": flags, "counts": {"base": {}, "novel": {}}}])
        ('half', 'frozen-novel')
    """
    found: set[str] = set()
    for declared, record in ((record["flags"], record) for record in records if "flags" in record):
        frozen = "novel" in record.get("counts", ()) and declared["novel_scored_by"].startswith("zero-shot")
        told = (declared["sees_unlabelled_or_novel_data"], declared["knows_split"], frozen)
        found.update(flag for flag, is_so in zip(("transductive", "half", "frozen-novel"), told, strict=True) if is_so)
    return tuple(flag for flag in FLAGS if flag in found)


@dataclass(frozen=True)
class PublishedRow:
    """What somebody reported of one method.

    Attributes:
        method: as they call it.
        source: where the figures were read.
        protocol, backbone, shots: of the figures.
        figures: per cent, by data set or "average": base and novel for base-to-novel, one figure else.
        flags: of `FLAGS`.
        averaged_over: data sets that "average" is over.
    """

    method: str
    source: str
    protocol: str
    backbone: str
    shots: int
    figures: dict
    flags: tuple[str, ...] = ()
    averaged_over: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.flags) - set(FLAGS))
        if unknown:
            raise InputError(f"a published row has flags of {', '.join(FLAGS)}, got {unknown[0]!r} for {self.method}")
        wanted = 2 if self.protocol == "base-to-novel" else 1
        for name, values in self.figures.items():
            numbers = values if isinstance(values, list) else [values]
            if len(numbers) != wanted or not all(isinstance(n, int | float) and 0 <= n <= 100 for n in numbers):
                raise InputError(
                    f"{self.method} on {name} needs {'base and novel' if wanted == 2 else 'a figure'} in per cent, "
                    f"got {values!r}"
                )
        if not self.source.strip():
            raise InputError(f"published figures need a source, got none for {self.method}")

    def values(self, name: str) -> tuple[float, ...] | None:
        """Figures of one data set in [0, 1]; None where there are none."""
        found = self.figures.get(name)
        return None if found is None else tuple(n / 100 for n in (found if isinstance(found, list) else [found]))

    def each(self, sources: Sequence[str]) -> list[tuple[float, ...]] | None:
        """Figures of every one of some data sets; None where one is not among them."""
        found = [values for name in sources if (values := self.values(name)) is not None]
        return found if len(found) == len(sources) else None

    def mean(self, sources: Sequence[str]) -> tuple[float, ...] | None:
        """Their mean, or the average that was published where it is over just these data sets."""
        found = self.each(sources)
        if found is not None:
            return tuple(sum(column) / len(found) for column in zip(*found, strict=True))
        return self.values("average") if set(sources) == set(self.averaged_over) else None


def read_published(path: Path) -> list[PublishedRow]:
    """Rows of a YAML file: keys that all share, and `rows`, a list of those that differ.

    Raises:
        InputError: naming what is missing, unknown or of another kind.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise InputError(f"{path} needs the key rows, a list of methods with their figures, got {content!r:.80}")
    shared = {key: value for key, value in content.items() if key != "rows"}
    return [from_dict(PublishedRow, {**shared, **row}, f"{path}: row {i}") for i, row in enumerate(content["rows"], 1)]
