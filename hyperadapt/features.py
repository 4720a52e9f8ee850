"""Frozen features of a data set: stored beforehand, or made by a tower from images in several views."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from hyperadapt.backbone import Backbone, ImageFeatures
from hyperadapt.data import AbstractImageSource, AbstractSource, FeatureSource
from hyperadapt.errors import InputError
from hyperadapt.text import ClassText, class_text

TOWER_BATCH = 64
STORED_BATCH = 4096
DECODING_THREADS = 4
CROP_AREA = (0.5, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)
Progress = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    """No progress report."""


def _chunks(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def augmented(image: Image.Image, size: int, generator: np.random.Generator) -> Image.Image:
    """A random resized crop and, half of the time, its mirror image.

    Args:
        image: any size, RGB.
        size: side of the result, pixels.
        generator: decides area (half to all), aspect ratio (3:4 to 4:3, uniform in its logarithm), place and mirroring.
    """
    area = image.width * image.height * generator.uniform(*CROP_AREA)
    aspect = np.exp(generator.uniform(*np.log(CROP_ASPECT)))
    width = min(float(np.sqrt(area * aspect)), image.width)
    height = min(float(np.sqrt(area / aspect)), image.height)
    left = generator.uniform(0, image.width - width)
    top = generator.uniform(0, image.height - height)
    crop = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    return ImageOps.mirror(crop) if generator.random() < 0.5 else crop


class AbstractFrozenFeatures(ABC):
    """Features of one source under one frozen tower; what training and evaluation ask for.

    Attributes:
        source: the data set.
        backbone_name: the tower, for results.
        embed_dim: width D of the joint space.
        part_width: width of the tower features behind attention maps, or None where images have no part features.
        logit_scale: CLIP's factor on cosine similarities.
        classes: frozen text of all classes of the source, on the device of the features.
    """

    source: AbstractSource
    backbone_name: str
    embed_dim: int
    part_width: int | None
    logit_scale: float
    classes: ClassText

    @abstractmethod
    def training_views(
        self, rows: np.ndarray, seed: int, with_parts: bool, progress: Progress = _silent
    ) -> ImageFeatures:
        """Views of training rows, view-major; the first view is the one used for evaluation.

        Args:
            rows: (N,) pool rows.
            seed: of the augmentations.
            with_parts: whether part features are wanted, where the tower has them.
            progress: called with (rows done, rows in all).
        """

    @abstractmethod
    def batches(self, rows: np.ndarray, with_parts: bool) -> Iterator[ImageFeatures]:
        """Evaluation features of pool rows in order, in batches."""


class StoredFeatures(AbstractFrozenFeatures):
    """A feature set: one view, no part features, no text tower.

    Args:
        source: the feature set.
        device: where the tensors go.
    """

    def __init__(self, source: FeatureSource, device: torch.device) -> None:
        self.source = self._stored = source
        self.backbone_name = f"{source.backbone}:{source.pretrained}"
        self.embed_dim = source.width
        self.part_width = None
        self.logit_scale = source.logit_scale
        self.device = device
        templates = torch.from_numpy(source.text_parts(len(source.texts)))
        self.classes = ClassText(source.class_names, templates, torch.from_numpy(source.class_text())).to(device)

    def training_views(
        self, rows: np.ndarray, seed: int, with_parts: bool, progress: Progress = _silent
    ) -> ImageFeatures:
        """The stored rows."""
        return ImageFeatures(torch.from_numpy(self._stored.features(rows)).to(self.device))

    def batches(self, rows: np.ndarray, with_parts: bool) -> Iterator[ImageFeatures]:
        """The stored rows as one batch after another."""
        for start in range(0, len(rows), STORED_BATCH):
            yield self.training_views(rows[start : start + STORED_BATCH], seed=0, with_parts=False)


class TowerFeatures(AbstractFrozenFeatures):
    """Images through a frozen tower. Pooled evaluation features are kept, so each image is encoded once for them.

    Args:
        source: the images.
        backbone: the tower.
        views: augmented views of a training image, beside its evaluation view.

    Attributes:
        images: the source, as images.
    """

    def __init__(self, source: AbstractImageSource, backbone: Backbone, views: int = 3) -> None:
        if views < 0:
            raise InputError(f"the number of augmented views must not be negative, got {views}")
        self.source = self.images = source
        self.backbone = backbone
        self.backbone_name = backbone.name
        self.views = views
        self.logit_scale = backbone.logit_scale
        self.classes = class_text(backbone.text, source.class_names, source.templates)
        self.embed_dim = self.classes.weights.shape[1]
        self._pooled: dict[int, Tensor] = {}
        self.part_width = backbone.part_width

    def encode_missing(self, rows: np.ndarray, progress: Progress = _silent) -> None:
        """Encode the evaluation view of rows that have not been encoded yet."""
        missing = [int(row) for row in dict.fromkeys(rows.tolist()) if row not in self._pooled]
        done = 0
        for chunk, features in self._encode(missing, self._evaluation_pixels, with_parts=False):
            self._pooled.update(zip(chunk, features.pooled, strict=True))
            done += len(chunk)
            progress(done, len(missing))

    def training_views(
        self, rows: np.ndarray, seed: int, with_parts: bool, progress: Progress = _silent
    ) -> ImageFeatures:
        """The evaluation view, then `views` random resized crops (half to all of the area) with flips."""
        pieces, done = [], 0
        for view in range(self.views + 1):
            pixels = self._evaluation_pixels if view == 0 else partial(self._augmented_pixels, seed=seed, view=view)
            for chunk, features in self._encode(rows.tolist(), pixels, with_parts):
                pieces.append(features)
                done += len(chunk)
                progress(done, (self.views + 1) * len(rows))
        return ImageFeatures.cat(pieces)

    def batches(self, rows: np.ndarray, with_parts: bool) -> Iterator[ImageFeatures]:
        """Kept features, or, with parts, the tower's output as it comes (parts are too large to keep)."""
        if with_parts and self.part_width is not None:
            for _, features in self._encode(rows.tolist(), self._evaluation_pixels, with_parts=True):
                yield features
            return
        self.encode_missing(rows)
        for chunk in _chunks(rows.tolist(), STORED_BATCH):
            yield ImageFeatures(torch.stack([self._pooled[row] for row in chunk]))

    def _evaluation_pixels(self, row: int) -> Float[Tensor, "3 h w"]:
        return self.backbone.preprocess(self.images.image(row))

    def _augmented_pixels(self, row: int, *, seed: int, view: int) -> Float[Tensor, "3 h w"]:
        generator = np.random.default_rng([seed, view, row])
        return self.backbone.preprocess(augmented(self.images.image(row), self.backbone.image_size, generator))

    def _encode(
        self, rows: Sequence[int], pixels: Callable[[int], Tensor], with_parts: bool
    ) -> Iterator[tuple[Sequence[int], ImageFeatures]]:
        """Decode in threads, one batch ahead of the tower."""
        with ThreadPoolExecutor(DECODING_THREADS) as threads:
            chunks = _chunks(rows, TOWER_BATCH)
            pending = [threads.submit(pixels, row) for row in chunks[0]] if chunks else []
            for i, chunk in enumerate(chunks):
                ready = torch.stack([future.result() for future in pending])
                pending = [threads.submit(pixels, row) for row in chunks[i + 1]] if i + 1 < len(chunks) else []
                yield chunk, self.backbone.encode_images(ready, with_parts)
