"""How far an adapted image may go when a list has names that were never trained on.

A map learnt on some classes may serve names it never saw, or spoil them, and nothing in the fit of the training classes
says which. So some of them are held out, a model of the same method is trained on the others, and images of those held
out are scored among their own names with the map applied in part; the part that explains them best, over several such
cuts, is what new names get. Neither a validation nor a test image is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from hyperadapt.data import Part
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.model import FewShotModel

PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What is chosen among: not at all, up to as far as known names."""
CUTS = 4
HELD = 0.3
"""Part of the training classes that a cut holds out, at least two."""
FEWEST = 4
"""Training classes of which some can be held out: two to train on and two to score."""


@dataclass(frozen=True)
class Cut:
    """One way to hold out classes.

    Attributes:
        known: positions, among the training classes, of those trained on.
        held: positions of the others.
    """

    known: tuple[int, ...]
    held: tuple[int, ...]


def cuts(classes: int, seed: int) -> Iterator[Cut]:
    """`CUTS` ways, drawn from the seed alone.

    Args:
        classes: how many training classes there are; `FEWEST` at least.
        seed: equal seeds cut alike.

    Example:
        >>> [len(cut.held) for cut in cuts(10, seed=1)]
        [3, 3, 3, 3]
    """
    held = max(2, round(HELD * classes))
    for number in range(CUTS):
        order = np.random.default_rng((seed, number)).permutation(classes)
        yield Cut(tuple(sorted(order[held:].tolist())), tuple(sorted(order[:held].tolist())))


@torch.no_grad()
def losses_by_part(
    model: FewShotModel, features: AbstractFrozenFeatures, held: Part, labels: tuple[int, ...]
) -> torch.Tensor:
    """Summed cross entropy of held-out images among held-out names, one number for each of `PARTS`.

    Args:
        model: trained without these classes.
        features: of the data set.
        held: rows of the images; their labels are positions in `labels`.
        labels: the held-out classes among those of the data set.
    """
    classes = features.classes.select(labels)
    answers = torch.from_numpy(held.labels).to(classes.weights.device)
    found = []
    for part in PARTS:
        model.adapter.set_reach(part)
        scores = torch.cat(list(model.scores(features.batches(held.rows, model.pools_parts), classes)))
        found.append(cross_entropy(scores.double(), answers, reduction="sum"))
    return torch.stack(found)


def best_part(losses: torch.Tensor) -> float:
    """The part with the least loss; of equal ones the furthest.

    Example:
        >>> best_part(torch.tensor([2.0, 1.0, 1.0, 3.0, 4.0]))
        0.5
    """
    return max(PARTS, key=lambda part: (-float(losses[PARTS.index(part)]), part))
