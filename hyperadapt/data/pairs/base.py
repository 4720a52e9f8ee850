"""What every set of image-caption pairs looks like to the retrieval protocol."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Float32, Int, Int64

from hyperadapt.data.source import AbstractImageSource
from hyperadapt.errors import InputError

PARTS: Final = ("train", "val", "test")
"""Numbered by their place."""


@dataclass(frozen=True)
class Negative:
    """A caption that is false of an image.

    Attributes:
        text: The caption.
        same_category: Whether it is of the image's category all the same, false in another point.
    """

    text: str
    same_category: bool


@dataclass(frozen=True)
class PairVectors:
    """Features made beforehand, in place of images and texts; rows of unit length.

    Attributes:
        images: (N, D).
        captions: (M, D).
        backbone: Model that made them.
        logit_scale: Its factor on cosine similarities.
    """

    images: Float32[np.ndarray, "N D"]
    captions: Float32[np.ndarray, "M D"]
    backbone: str
    logit_scale: float


@dataclass(frozen=True)
class PairPart:
    """One part of the pairs.

    Attributes:
        rows: Rows of the images.
        captions: Positions of their captions.
        image_of: Position in `rows` of the image that each caption belongs to.
    """

    rows: Int64[np.ndarray, " N"]
    captions: Int64[np.ndarray, " M"]
    image_of: Int64[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True)
class Pairs:
    """Images, each with any number of captions.

    Attributes:
        name: Short name for tables and result files.
        fingerprint: Hex sha256 over what identifies the data.
        source: Where the images are, or features in their place.
        captions: Texts; one readable stand-in each where `source` holds features.
        image_of: Image row of each caption.
        parts: Part of each image, a place in `PARTS`.
        categories: Category of each image, a number; -1 where none is given.
        galleries: Gallery of each image; images of different galleries do not compete.
        negatives: For each caption, what is false of its image; empty where there is none.
    """

    name: str
    fingerprint: str
    source: AbstractImageSource | PairVectors
    captions: tuple[str, ...]
    image_of: Int[np.ndarray, " M"]
    parts: Int[np.ndarray, " N"]
    categories: Int[np.ndarray, " N"]
    galleries: Int[np.ndarray, " N"]
    negatives: tuple[tuple[Negative, ...], ...] = field(default=())

    def part(self, name: str) -> PairPart:
        """The images of one part that the set was split into, with their captions.

        Raises:
            InputError: There is no caption in it.
        """
        rows = np.flatnonzero(self.parts == PARTS.index(name))
        place = np.full(len(self.parts), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        captions = np.flatnonzero(place[self.image_of] >= 0)
        if not len(captions):
            raise InputError(
                f"{self.name} has no {name} pairs; say of each image which part it is in ({', '.join(PARTS)}): a split "
                "of captions is never drawn"
            )
        return PairPart(rows, captions, place[self.image_of[captions]])
