"""Images handed over in memory or as paths, as a source of training images and in batches of features."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hyperadapt.backbone import Backbone, ImageFeatures
from hyperadapt.data import AbstractImageSource, Draw, Part, open_image
from hyperadapt.features import TOWER_BATCH

ImageInput = Image.Image | str | Path


class GivenImages(AbstractImageSource):
    """Images handed over in memory or as paths; all of them train.

    Args:
        images: PIL images or paths.
        labels: (N,) indices into `class_names`.
        class_names: one name a label.
        templates: prompt templates.
    """

    def __init__(
        self, images: Sequence[ImageInput], labels: np.ndarray, class_names: Sequence[str], templates: Sequence[str]
    ) -> None:
        self._images = list(images)
        self.labels = labels
        self.name = "given images"
        self.class_names = tuple(class_names)
        self.templates = tuple(templates)
        self.ids = tuple(
            str(image) if isinstance(image, str | Path) else f"image {i}" for i, image in enumerate(self._images)
        )
        self.fingerprint = hashlib.sha256(repr((self.class_names, labels.tolist())).encode()).hexdigest()

    def draw(self, shots: int, seed: int) -> Draw:
        """Everything trains; `shots` and `seed` change nothing."""
        nothing = Part(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        return Draw(Part(np.arange(len(self._images)), self.labels), nothing, nothing)

    def zero_shot_part(self) -> Part:
        """All of them."""
        return Part(np.arange(len(self._images)), self.labels)

    def notices(self, shots: int) -> tuple[str, ...]:
        """None."""
        return ()

    def image(self, row: int) -> Image.Image:
        """The image as RGB."""
        return _rgb(self._images[row])


def _rgb(image: ImageInput) -> Image.Image:
    return image.convert("RGB") if isinstance(image, Image.Image) else open_image(image)


def tower_batches(
    backbone: Backbone, images: Sequence[ImageInput], with_parts: bool, with_pixels: bool = False
) -> Iterator[ImageFeatures]:
    """Features of images through a tower, in order, in batches; with the tower's inputs where they are wanted."""
    for start in range(0, len(images), TOWER_BATCH):
        pixels = torch.stack([backbone.preprocess(_rgb(image)) for image in images[start : start + TOWER_BATCH]])
        features = backbone.encode_images(pixels, with_parts)
        yield replace(features, pixels=pixels.to(backbone.device)) if with_pixels else features
