"""What every input looks like to the protocols: a pool of rows, and draws that point into it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hyperadapt.hierarchy import ClassTree


@dataclass(frozen=True)
class Part:
    """One part of a draw: rows of the source's pool with their labels.

    Attributes:
        rows: int64 (N,), positions in the source's pool.
        labels: int64 (N,), indices into the class names that the part is scored against.
    """

    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def restrict(self, labels: Sequence[int]) -> "Part":
        """Rows whose label is in `labels`, relabelled to positions in `labels`; their order is kept.

        Example:
            >>> part = Part(rows=np.array([10, 11, 12]), labels=np.array([0, 2, 2]))
            >>> part.restrict([2]).rows.tolist(), part.restrict([2]).labels.tolist()
            ([11, 12], [0, 0])
        """
        new_label = {old: new for new, old in enumerate(labels)}
        keep = np.isin(self.labels, list(labels))
        relabelled = np.array([new_label[int(label)] for label in self.labels[keep]], dtype=np.int64)
        return Part(self.rows[keep], relabelled)


@dataclass(frozen=True)
class Draw:
    """A few-shot draw: the training shots, the validation rows and the whole test part."""

    train: Part
    val: Part
    test: Part


class AbstractSource(ABC):
    """A data set that few-shot tasks are drawn from.

    Obligations: `draw(k, s)` twice gives equal draws; rows of the three parts are disjoint; the test part does not
    depend on `shots` or `seed` where the data set has a given split.

    Attributes:
        name: Short name for tables and result files.
        class_names: One readable name per label.
        fingerprint: Hex sha256 over what identifies the data (file list or array bytes, labels, names).
        notices: Sentences worth telling the user once (such as a class with fewer images than shots).
        tree: The classes as leaves of a tree, where one is known.
    """

    name: str
    class_names: tuple[str, ...]
    fingerprint: str
    tree: ClassTree | None = None

    @abstractmethod
    def draw(self, shots: int, seed: int) -> Draw:
        """The few-shot draw of `shots` images a class with this seed."""

    @abstractmethod
    def zero_shot_part(self) -> Part:
        """All rows that a method without training is scored on.

        The test part where a split is given, the whole pool where none is.
        """

    @abstractmethod
    def notices(self, shots: int) -> tuple[str, ...]:
        """What the user should be told about draws of this many shots, one sentence each; empty when nothing."""


class AbstractImageSource(AbstractSource):
    """A source whose pool holds images.

    Attributes:
        templates: Prompt templates with one `{}` for the class name.
        ids: One stable name per pool row, relative to the root (a path, or a world address).
        labels: int64 (N,), one per pool row; -1 where an image has no class.
    """

    templates: tuple[str, ...]
    ids: tuple[str, ...]
    labels: np.ndarray

    @property
    def split_sizes(self) -> tuple[int, int, int] | None:
        """Lengths of training, validation and test list, where the pool is these, one after the other; else None."""
        return None

    @abstractmethod
    def image(self, row: int) -> Image.Image:
        """The RGB image of a pool row; raises InputError naming the file when it cannot be decoded."""

    def stamp(self, row: int) -> str | None:
        """What identifies the pixels of a row from run to run, for stored features; equal stamps, equal images.

        None, as here, says that nothing does, as for images handed over in memory: their features are never stored.
        """
        return None
