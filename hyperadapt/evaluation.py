"""Metrics from counts."""

from dataclasses import dataclass

import numpy as np
import torch

from hyperadapt.data import Part
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.model import FewShotModel
from hyperadapt.text import ClassText


@dataclass(frozen=True)
class Counts:
    """Correct answers among all.

    Attributes:
        correct: images whose highest logit is at their label.
        total: images scored.
    """

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """Share of correct answers, in [0, 1]."""
        return self.correct / self.total


def harmonic_mean(base: float, novel: float) -> float:
    """2bn / (b + n); 0 when both are 0.

    Example:
        >>> harmonic_mean(0.5, 1.0)
        0.6666666666666666
    """
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def count_correct(model: FewShotModel, features: AbstractFrozenFeatures, part: Part, classes: ClassText) -> Counts:
    """Score every image of a part against the classes.

    Args:
        model: trained.
        features: where the part's rows are looked up.
        part: labels index into `classes`.
        classes: the names to choose among.

    Raises:
        FloatingPointError: when a logit is not finite.
    """
    answers = []
    for logits in model.scores(features.batches(part.rows, model.pools_parts), classes):
        if not torch.isfinite(logits).all():
            raise FloatingPointError("a score is not finite; the training diverged: lower the learning rate")
        answers.append(logits.argmax(dim=1).cpu().numpy())
    return Counts(int((np.concatenate(answers) == part.labels).sum()), len(part))
