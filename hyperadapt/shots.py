"""Training images as the components see them that keep or fit them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError

HELD_OUT = 4
"""One shot in so many is held out, at least one, of each class that has two."""


@dataclass(frozen=True)
class Shots:
    """Training images of known classes.

    Attributes:
        views: (V, N, D) features; the first view is the one used for evaluation.
        labels: (N,) indices into the training classes.
    """

    views: Float[Tensor, "v n d"]
    labels: Int[Tensor, " n"]

    @classmethod
    def of(cls, images: ImageFeatures, labels: Int[Tensor, " n"], counts: tuple[int, ...]) -> "Shots":
        """The pooled features of a `TrainingSet`, view-major.

        Raises:
            InputError: when the classes have other numbers of images than what keeps them was built for.
        """
        found = tuple(labels.bincount(minlength=len(counts)).tolist())
        if found != counts:
            raise InputError(
                f"the model was built for {sum(counts)} training images, {counts[0]} of the first class, got "
                f"{sum(found)} and {found[0]}; give BuildContext images_per_class"
            )
        return cls(images.pooled.unflatten(0, (-1, len(labels))), labels)

    @property
    def rows(self) -> tuple[Float[Tensor, "vn d"], Int[Tensor, " vn"]]:
        """All views as rows of their own, with their labels."""
        return self.views.flatten(0, 1), self.labels.repeat(len(self.views))

    @property
    def means(self) -> Float[Tensor, "n d"]:
        """The normalised mean over the views of each image."""
        return normalize(self.views.mean(dim=0), dim=-1)

    def where(self, keep: Bool[Tensor, " n"]) -> "Shots":
        """Some of the images."""
        return Shots(self.views[:, keep], self.labels[keep])

    def parted(self) -> tuple["Shots", "Shots"] | None:
        """The shots without those held out, and those; None where every class has one image."""
        held = torch.zeros_like(self.labels, dtype=torch.bool)
        for label in self.labels.unique():
            own = (self.labels == label).nonzero()[:, 0]
            if len(own) > 1:
                held[own[-max(1, len(own) // HELD_OUT) :]] = True
        return (self.where(~held), self.where(held)) if held.any() else None

    def class_means(self, count: int) -> Float[Tensor, "c d"]:
        """Mean of all rows of each of `count` classes; a class without shots has the mean of all.

        Example:
            >>> Shots(torch.tensor([[[1.0], [3.0], [5.0]]]), torch.tensor([0, 0, 2])).class_means(3)
            tensor([[2.],
                    [3.],
                    [5.]])
        """
        rows, labels = self.rows
        sizes = labels.bincount(minlength=count)[:, None]
        sums = rows.new_zeros(count, rows.shape[1]).index_add_(0, labels, rows)
        return torch.where(sizes > 0, sums / sizes.clamp(min=1), rows.mean(dim=0))

    def by_class(self) -> Float[Tensor, "n d"]:
        """`means` in the order of the labels, so that the number of images a class says which class each row has."""
        return self.means[self.labels.argsort(stable=True)]


def class_sums(values: Float[Tensor, "b n"], counts: Sequence[int]) -> Float[Tensor, "b c"]:
    """Sums over the shots of each class, of values that stand class by class.

    Args:
        values: one a shot.
        counts: shots of each class.

    Example:
        >>> class_sums(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), [1, 3]), class_sums(torch.ones(1, 4), [2, 2])
        (tensor([[1., 9.]]), tensor([[2., 2.]]))
    """
    if len(set(counts)) == 1:
        return values.unflatten(1, (len(counts), counts[0])).sum(dim=2)
    return torch.stack([own.sum(dim=1) for own in values.split(list(counts), dim=1)], dim=1)


def of_listed(added: Float[Tensor, "b c"], own: Int[Tensor, " k"] | None) -> Float[Tensor, "b k"]:
    """What shots add to the scores of a list, in which known and new classes can stand together.

    What they add to all known classes alike says nothing about these and is left out: it would put them before the new
    ones, to which nothing is added.

    Args:
        added: to each known class, all of them.
        own: which known class each listed one is, -1 for a new one; None for the known ones in order.

    Example:
        >>> of_listed(torch.tensor([[1.0, 3.0]]), torch.tensor([1, -1]))
        tensor([[1., 0.]])
    """
    levelled = added - added.mean(dim=1, keepdim=True)
    return levelled if own is None else levelled[:, own].masked_fill(own < 0, 0.0)
