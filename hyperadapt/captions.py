"""Captions where methods expect classes: each is a text among which an image's own is to be found."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hyperadapt.data.pairs import Negative
from hyperadapt.text import ClassText
from hyperadapt.text_tower import TextTower
from hyperadapt.transfer import sent
from manifolds.regularizers import AbstractDraws


@dataclass(frozen=True)
class FalseCaptions:
    """Captions that are false of some images.

    Attributes:
        texts: F of them.
        owners: (F,) position, in the batch, of the image that each is false of.
        same_category: (F,) whether it is of the image's category all the same.
        weights: (F, D) L2-normalised features, where an adapter made some.
    """

    texts: tuple[str, ...]
    owners: Int[Tensor, " f"]
    same_category: Bool[Tensor, " f"]
    weights: Float[Tensor, "f d"] | None = None


@dataclass(frozen=True)
class Captions(ClassText):
    """Captions as a list of classes, whose `names` are the texts; in a training batch caption i is of image i.

    Attributes:
        seen: (K, D) frozen feature of the image of each caption; None in a search, which is for just that.
        categories: (K,) category of each image, in a training batch; -1 for none.
        false: captions that are not true of their images, in a training batch that has some.
    """

    seen: Float[Tensor, "k d"] | None = None
    categories: Int[Tensor, " k"] | None = None
    false: FalseCaptions | None = None


def caption_text(texts: Sequence[str], weights: Float[Tensor, "k d"], tower: TextTower | None) -> Captions:
    """Captions of which nothing but the text is known.

    Args:
        texts: K captions.
        weights: (K, D) L2-normalised frozen features.
        tower: the text tower, where there is one.
    """
    return Captions(tuple(texts), weights[None], weights, tower)


class CaptionPool:
    """The captions of N training images, of which a step takes one an image.

    Args:
        captions: all of them, as classes.
        image_of: (M,) image of each caption; every image has one at least.
        seen: (N, D) frozen features of the images.
        categories: (N,) of the images.
        negatives: for each caption, what is false of its image; empty where there is none.
    """

    def __init__(
        self,
        captions: ClassText,
        image_of: Int[Tensor, " m"],
        seen: Float[Tensor, "n d"],
        categories: Int[Tensor, " n"],
        negatives: Sequence[Sequence[Negative]] = (),
    ) -> None:
        self.captions, self.seen, self.categories, self.negatives = captions, seen, categories, negatives
        image_of = image_of.cpu()
        self._of_image = image_of.argsort(stable=True)
        self._counts = image_of.bincount(minlength=len(seen))
        self._starts = self._counts.cumsum(0) - self._counts

    def posed(self, images: Int[Tensor, " b"], draws: AbstractDraws) -> tuple[Captions, Int[Tensor, " b"]]:
        """A caption of each image of a batch, drawn anew in every step, and their places: the answers.

        Args:
            images: (B,) images, on the CPU.
            draws: random numbers of the step.
        """
        device, counts = self.seen.device, self._counts[images]
        drawn = (draws.host(len(images)) * counts).long().clamp_max(counts - 1)
        chosen = self._of_image[self._starts[images] + drawn]
        listed = chosen.tolist()
        weights, images = self.captions.weights[sent(chosen, device)], sent(images, device)
        captions = Captions(
            names=tuple(self.captions.names[i] for i in listed),
            templates=weights[None],
            weights=weights,
            tower=self.captions.tower,
            seen=self.seen[images],
            categories=self.categories[images],
            false=self._false(listed),
        )
        return captions, torch.arange(len(images), device=device)

    def _false(self, captions: list[int]) -> FalseCaptions | None:
        if not self.negatives:
            return None
        found = [(place, negative) for place, caption in enumerate(captions) for negative in self.negatives[caption]]
        owners = torch.tensor([place for place, _ in found], dtype=torch.long)
        same = torch.tensor([negative.same_category for _, negative in found], dtype=torch.bool)
        device = self.seen.device
        return FalseCaptions(tuple(negative.text for _, negative in found), sent(owners, device), sent(same, device))
