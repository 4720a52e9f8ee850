"""Recall at k from images to captions and back, in blocks, with ties counted against the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

RANKS: Final = (1, 5, 10)
"""The k at which retrieval papers report recall."""
TITLES: Final = tuple(f"{direction} R@{k}" for direction in ("i2t", "t2i") for k in RANKS)
"""Titles of the columns of a table: captions of an image, then images of a caption."""

TIE: Final = 1e-6
"""Cosines that differ by less are tied: float32 products of equal rows differ by some 1e-7 from place to place."""

BLOCK: Final = (1024, 4096)
"""Images and captions that are compared at once: a block of scores takes 16 MiB, whatever the number of pairs."""


@dataclass(frozen=True)
class Hits:
    """One direction of retrieval.

    Attributes:
        hits: queries with a right answer among the first k, for each k.
        total: queries.
    """

    hits: dict[int, int]
    total: int

    def __add__(self, other: "Hits") -> "Hits":
        return Hits({k: count + other.hits[k] for k, count in self.hits.items()}, self.total + other.total)


@dataclass(frozen=True)
class Recall:
    """Both directions, which belong together: a change often raises one and lowers the other.

    Attributes:
        image_to_text: images as queries; right is any caption of the image.
        text_to_image: captions as queries; right is the caption's image.
    """

    image_to_text: Hits
    text_to_image: Hits

    def __add__(self, other: "Recall") -> "Recall":
        return Recall(self.image_to_text + other.image_to_text, self.text_to_image + other.text_to_image)

    def counts(self) -> dict[str, dict[str, Any]]:
        """As a result file holds them: `hits` and `total` by direction and k.

        Example:
            >>> Recall(Hits({1: 3}, 4), Hits({1: 5}, 8)).counts()["text_to_image@1"]
            {'hits': 5, 'total': 8}
        """
        directions = {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}
        return {
            f"{name}@{k}": {"hits": hits, "total": direction.total}
            for name, direction in directions.items()
            for k, hits in direction.hits.items()
        }


def recall(
    images: Float[Tensor, "n d"],
    captions: Float[Tensor, "m d"],
    image_of: Int[Tensor, " m"],
    ranks: Sequence[int] = RANKS,
    block: tuple[int, int] = BLOCK,
) -> Recall:
    """Recall of every image among all captions, and of every caption among all images.

    The rank of a query's answer is one more than the number of wrong candidates that score as high or higher: a tie
    never counts in its favour, so equal embeddings of all pairs find nothing. Of several captions of an image the best
    one counts, and the others are no wrong candidates. An image without a caption is a candidate and no query. No
    (N, M) matrix is held: scores come and go in blocks.

    Args:
        images: (N, D), of any length; they are normalised here.
        captions: (M, D), the same.
        image_of: (M,) row of the image that each caption belongs to.
        ranks: the k of recall at k.
        block: images and captions compared at once.

    Raises:
        FloatingPointError: when an embedding is not finite.

    Example:
        >>> eye = torch.eye(3)
        >>> recall(eye, eye[[0, 2, 1]], torch.arange(3), ranks=(1, 3)).image_to_text
        Hits(hits={1: 1, 3: 3}, total=3)
    """
    images, captions = (
        normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1) for x in (images, captions)
    )
    if not (torch.isfinite(images).all() and torch.isfinite(captions).all()):
        raise FloatingPointError("an embedding is not finite; the training diverged: lower the learning rate")
    own = _own_scores(images, captions, image_of, block[1])
    best = own.new_full((len(images),), -torch.inf).scatter_reduce(0, image_of, own, "amax")
    above_images, above_captions = image_of.new_zeros(len(images)), image_of.new_zeros(len(captions))
    for i in range(0, len(images), block[0]):
        rows = torch.arange(i, min(i + block[0], len(images)), device=images.device)
        for j in range(0, len(captions), block[1]):
            part = slice(j, j + block[1])
            scores = images[rows] @ captions[part].T
            scores.masked_fill_(rows[:, None] == image_of[part], -torch.inf)
            above_images[rows] += (scores >= best[rows, None] - TIE).sum(dim=1)
            above_captions[part] += (scores >= own[part] - TIE).sum(dim=0)
    return Recall(_hits(above_images[torch.isfinite(best)], ranks), _hits(above_captions, ranks))


def recall_in_galleries(
    images: Float[Tensor, "n d"],
    captions: Float[Tensor, "m d"],
    image_of: Int[Tensor, " m"],
    galleries: Int[Tensor, " n"],
    ranks: Sequence[int] = RANKS,
) -> Recall:
    """Recall where only images of one gallery, with their captions, compete; counts are summed over galleries.

    Args:
        images: (N, D).
        captions: (M, D).
        image_of: (M,) row of the image that each caption belongs to.
        galleries: (N,) number of each image's gallery.
        ranks: the k of recall at k.
    """
    found = []
    for gallery in galleries.unique().tolist():
        rows = (galleries == gallery).nonzero()[:, 0]
        texts = (galleries[image_of] == gallery).nonzero()[:, 0]
        place = torch.full_like(galleries, -1).index_copy(0, rows, torch.arange(len(rows), device=rows.device))
        found.append(recall(images[rows], captions[texts], place[image_of[texts]], ranks))
    return sum(found[1:], found[0])


def _own_scores(
    images: Float[Tensor, "n d"], captions: Float[Tensor, "m d"], image_of: Int[Tensor, " m"], size: int
) -> Float[Tensor, " m"]:
    """Score of each caption with its own image."""
    pieces = zip(captions.split(size), image_of.split(size), strict=True)
    return torch.cat([(images[rows] * part).sum(dim=-1) for part, rows in pieces])


def _hits(above: Int[Tensor, " q"], ranks: Sequence[int]) -> Hits:
    return Hits({k: int((above < k).sum()) for k in ranks}, len(above))
