"""Metrics from counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from hyperadapt.data import Part
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.hierarchy import ClassTree, TreeCounts
from hyperadapt.model import FewShotModel
from hyperadapt.text import ClassText

BINS = 15
"""Bins of confidence, of equal width, as in Guo et al. 2017, arXiv 1706.04599."""


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


@dataclass(frozen=True)
class Scores:
    """All that metrics are made from.

    Attributes:
        class_correct, class_total: correct answers and images of each candidate.
        bin_total, bin_correct: images and correct answers by confidence, the softmax probability of the answer, in
            `BINS` bins of equal width, each with its upper edge.
        bin_confidence: sum of the confidences in each bin, to six decimals.
        decisions: how far answers lie from the truth over a class tree, where one is known, by how they are chosen:
            "argmax", the likeliest class, and "expected_cost", that of `ClassTree.expected_cost_decisions`.
    """

    class_correct: tuple[int, ...]
    class_total: tuple[int, ...]
    bin_total: tuple[int, ...]
    bin_correct: tuple[int, ...]
    bin_confidence: tuple[float, ...]
    decisions: Mapping[str, TreeCounts] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """Over all images."""
        return Counts(sum(self.class_correct), sum(self.class_total))

    def to_dict(self) -> dict[str, Any]:
        """As a result file holds them beside the counts; `decisions` stand there by themselves."""
        return {
            "by_class": {"correct": list(self.class_correct), "total": list(self.class_total)},
            "calibration": {
                "total": list(self.bin_total),
                "correct": list(self.bin_correct),
                "confidence": list(self.bin_confidence),
            },
        }


def harmonic_mean(base: float, novel: float) -> float:
    """2bn / (b + n); 0 when both are 0.

    Example:
        >>> harmonic_mean(0.5, 1.0)
        0.6666666666666666
    """
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def per_class_mean(by_class: Mapping[str, list[int]]) -> float:
    """Mean over classes of the accuracy on their images; classes without images are left out.

    Args:
        by_class: `correct` and `total`, one number a class.

    Example:
        >>> per_class_mean({"correct": [1, 0, 3], "total": [1, 0, 6]})
        0.75
    """
    pairs = zip(by_class["correct"], by_class["total"], strict=True)
    return float(np.mean([correct / total for correct, total in pairs if total]))


def calibration_error(calibration: Mapping[str, list[float]]) -> float:
    """Expected calibration error: the mean over images of |accuracy - mean confidence| of their bin, in [0, 1].

    Args:
        calibration: `total`, `correct` and `confidence`, one number a bin.

    Example:
        >>> calibration_error({"total": [0, 4], "correct": [0, 3], "confidence": [0.0, 3.6]})
        0.15

    Source: Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    correct, confidence = (np.asarray(calibration[key], dtype=float) for key in ("correct", "confidence"))
    return round(float(np.abs(correct - confidence).sum() / np.sum(calibration["total"])), 12)


def score(
    model: FewShotModel,
    features: AbstractFrozenFeatures,
    part: Part,
    classes: ClassText,
    tree: ClassTree | None = None,
) -> Scores:
    """Score every image of a part against the classes.

    Args:
        model: trained.
        features: where the part's rows are looked up.
        part: labels index into `classes`.
        classes: the names to choose among.
        tree: of these classes, where one is known.

    Raises:
        FloatingPointError: when a logit is not finite.
    """
    answers, confidences, cautious = [], [], []
    for logits in model.scores(features.batches(part.rows, model.pools_parts, model.reads_pixels), classes):
        if not torch.isfinite(logits).all():
            raise FloatingPointError("a score is not finite; the training diverged: lower the learning rate")
        probabilities = logits.double().softmax(dim=1)
        answers.append(logits.argmax(dim=1).cpu().numpy())
        confidences.append(probabilities.amax(dim=1).cpu().numpy())
        if tree is not None:
            cautious.append(tree.expected_cost_decisions(probabilities.cpu().numpy()))
    chosen = np.concatenate(answers)
    scores = tallied(chosen == part.labels, np.concatenate(confidences), part.labels, len(classes))
    if tree is None:
        return scores
    decisions = {"argmax": chosen, "expected_cost": np.concatenate(cautious)}
    return replace(scores, decisions={name: tree.tally(own, part.labels) for name, own in decisions.items()})


def tallied(
    right: np.ndarray, confidence: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"], class_count: int
) -> Scores:
    """Answers as counts.

    Args:
        right: (N,) whether each answer is.
        confidence: of each answer, in (0, 1].
        labels: of each image, in 0 .. class_count - 1.
        class_count: number of candidates.
    """
    places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    sums = np.bincount(places, weights=confidence, minlength=BINS)
    return Scores(
        class_correct=tuple(np.bincount(labels[right], minlength=class_count).tolist()),
        class_total=tuple(np.bincount(labels, minlength=class_count).tolist()),
        bin_total=tuple(np.bincount(places, minlength=BINS).tolist()),
        bin_correct=tuple(np.bincount(places[right], minlength=BINS).tolist()),
        bin_confidence=tuple(round(value, 6) for value in sums.tolist()),
    )


def count_correct(model: FewShotModel, features: AbstractFrozenFeatures, part: Part, classes: ClassText) -> Counts:
    """`score` without its details."""
    return score(model, features, part, classes).counts
