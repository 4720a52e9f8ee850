"""How far an adapted image may go when a list has names that were never trained on.

A map learnt on some classes may serve names it never saw, or spoil them, and nothing in the fit of the training classes
says which. So some of them are held out, a model of the same method is trained on the others, and images of those held
out are scored among their own names with the map applied in part; the part that explains them best, over several such
cuts, is what new names get. Neither a validation nor a test image is read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
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


def choose_reach(
    model: FewShotModel,
    features: AbstractFrozenFeatures,
    shots: Part,
    labels: Sequence[int],
    seed: int,
    trained: Callable[[Part, Sequence[int]], FewShotModel],
) -> str | None:
    """Set how far images go for new names, where the model wants that.

    Args:
        model: trained on the shots.
        features: of the data set that the shots are rows of.
        shots: training rows; their labels are positions in `labels`.
        labels: the training classes among those of the data set.
        seed: of the cuts.
        trained: from some of the shots and their classes to a model of the same method; where several processes train
            together, each calls it by itself.

    Returns:
        What was chosen and how, a clause for the result file; None where nothing is to be chosen.
    """
    if not model.adapter.chooses_reach:
        return None
    if len(labels) < FEWEST:
        return f"reach 1 as set, for {len(labels)} training classes are too few to hold some out"
    losses = torch.zeros(len(PARTS), dtype=torch.float64)
    for cut in cuts(len(labels), seed):
        known, held = (tuple(labels[i] for i in part) for part in (cut.known, cut.held))
        other = trained(shots.restrict(cut.known), known)
        losses += losses_by_part(other, features, shots.restrict(cut.held), held)
    best = best_part(losses)
    model.adapter.set_reach(best)
    among = f"{HELD:.0%} of them in each of {CUTS} cuts"
    return f"reach {best:g} among {len(PARTS)} parts of the way, by likelihood on shots of held-out classes, {among}"


def reach_as_set(model: FewShotModel) -> str | None:
    """The clause of a result file where no new name is scored; None where nothing would be chosen."""
    return "reach 1 as set, for all names are trained on" if model.adapter.chooses_reach else None


@torch.no_grad()
def losses_by_part(
    model: FewShotModel, features: AbstractFrozenFeatures, held: Part, labels: Sequence[int]
) -> Float[Tensor, " parts"]:
    """Summed cross entropy of held-out images among held-out names, one number for each of `PARTS`, on the CPU.

    Args:
        model: trained without these classes.
        features: of the data set.
        held: rows of the images; their labels are positions in `labels`.
        labels: the held-out classes among those of the data set.
    """
    classes = features.classes.select(labels)
    answers, found = torch.from_numpy(held.labels).to(classes.weights.device), []
    known, batches = model.encode(classes), list(features.batches(held.rows, model.pools_parts, model.reads_pixels))
    for part in PARTS:  # it moves images alone
        model.adapter.set_reach(part)
        seen = [model.adapter.adapt_images(batch, known.adapted) for batch in batches]
        scores = torch.cat([model.head.logits(images, known.encoded) for images in seen])
        found.append(cross_entropy(scores.double(), answers, reduction="sum"))
    return torch.stack(found).cpu()


def best_part(losses: Float[Tensor, " parts"]) -> float:
    """The part with the least loss; of equal ones the furthest.

    Example:
        >>> best_part(torch.tensor([2.0, 1.0, 1.0, 3.0, 4.0]))
        0.5
    """
    return max(zip((-losses).tolist(), PARTS, strict=True))[1]
