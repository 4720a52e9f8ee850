"""What every protocol comes down to: shots to train on, and exams."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from hyperadapt.data import Part
from hyperadapt.errors import InputError
from hyperadapt.features import AbstractFrozenFeatures, TowerFeatures
from hyperadapt.fit import NOTHING
from hyperadapt.hierarchy import ClassTree
from hyperadapt.text import ClassText

JOINT = "joint_"
"""Begins the name of an exam whose candidates are more classes than those that its images belong to."""


@dataclass(frozen=True)
class Exam:
    """Images to score, and the names to choose among.

    Attributes:
        name: key of its counts in a result file.
        features: where the rows are looked up.
        part: rows; their labels are positions in `classes`.
        classes: the candidates.
        mixes: whether they are known and new classes together, which a method that must be told which of the two a test
            set holds cannot sit.
        tree: of the candidates, where one is known.
    """

    name: str
    features: AbstractFrozenFeatures
    part: Part
    classes: ClassText
    mixes: bool = False
    tree: ClassTree | None = None

    def __post_init__(self) -> None:
        if len(self.part) == 0:
            raise InputError(
                f"the exam {self.name!r} has no test image in {self.features.source.name}; "
                "add images or ask for fewer shots"
            )

    @property
    def joint(self) -> bool:
        """Whether there are more candidates than classes of the test set."""
        return self.name.startswith(JOINT)


@dataclass(frozen=True)
class Task:
    """One draw: what may be trained on, and what is scored.

    Attributes:
        features: of the training source.
        labels: the training classes among those of the source, ascending.
        shots: training rows; their labels are positions in `labels`.
        exams: what is scored, each with the same weights.
        val: validation rows, labelled as the shots are; read by methods that choose settings.
    """

    features: AbstractFrozenFeatures
    labels: tuple[int, ...]
    shots: Part
    exams: tuple[Exam, ...]
    val: Part = NOTHING

    @property
    def classes(self) -> ClassText:
        """The training classes."""
        return self.features.classes.select(self.labels)

    @property
    def has_new_names(self) -> bool:
        """Whether an exam has a name that is not trained on."""
        known = {self.features.classes.names[label] for label in self.labels}
        return any(not known.issuperset(exam.classes.names) for exam in self.exams)

    def exam(self, name: str) -> Exam:
        """One exam by its name."""
        return next(exam for exam in self.exams if exam.name == name)

    def sources(self) -> Iterator[AbstractFrozenFeatures]:
        """Features of the training source, then of every other that an exam looks up."""
        yield from dict.fromkeys((self.features, *(exam.features for exam in self.exams)))

    def rows(self, features: AbstractFrozenFeatures, with_val: bool = False) -> Int[np.ndarray, " n"]:
        """Rows of one source that are read, each once, ascending.

        Args:
            features: of the source.
            with_val: also the validation rows, which only methods that choose settings read.
        """
        used = [exam.part.rows for exam in self.exams if exam.features is features]
        if features is self.features:
            used += [self.shots.rows, *([self.val.rows] if with_val else [])]
        return np.unique(np.concatenate(used))

    def without(self, features: AbstractFrozenFeatures, bad: Collection[int]) -> "Task":
        """The task without some rows of one source.

        Raises:
            InputError: when a training class is left without an image, or an exam is.
        """
        exams = tuple(
            replace(exam, part=without(exam.part, bad)) if exam.features is features else exam for exam in self.exams
        )
        if features is not self.features:
            return replace(self, exams=exams)
        kept = replace(self, exams=exams, shots=without(self.shots, bad), val=without(self.val, bad))
        if len(np.unique(kept.shots.labels)) < len(np.unique(self.shots.labels)):
            raise InputError("without its corrupt images a training class has no image left; replace some of them")
        return kept


def without(part: Part, bad: Collection[int]) -> Part:
    """A part without some rows of its pool."""
    keep = ~np.isin(part.rows, list(bad))
    return Part(part.rows[keep], part.labels[keep])


def tree_of(features: AbstractFrozenFeatures, labels: Sequence[int]) -> ClassTree | None:
    """The tree of some classes of a source; None where none is known."""
    tree = features.source.tree
    return None if tree is None else tree.select(labels)


def require_comparable(features: AbstractFrozenFeatures, others: Sequence[AbstractFrozenFeatures]) -> None:
    """Refuse test sets that one classifier cannot be scored on, or that results could not tell apart.

    Raises:
        InputError: when there is none, two data sets share a name, or towers differ.
    """
    if not others:
        raise InputError(f"nothing to score beside {features.source.name}; name at least one test set")
    names = [each.source.name for each in (features, *others)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"each data set needs a name of its own, got {twice!r} twice; rename a folder or leave one out"
        )
    for other in others:
        if _tower(other) != _tower(features):
            raise InputError(
                f"all data sets must have features of one tower, got {features.backbone_name} ({features.embed_dim} "
                f"wide) for {features.source.name} and {other.backbone_name} ({other.embed_dim} wide) for "
                f"{other.source.name}"
            )


def _tower(features: AbstractFrozenFeatures) -> tuple[object, ...]:
    weights = features.backbone.fingerprint if isinstance(features, TowerFeatures) else None
    return features.backbone_name, features.embed_dim, weights
