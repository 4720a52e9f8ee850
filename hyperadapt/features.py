"""Frozen features of a data set: stored beforehand, or made by a tower from images in several views."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import Backbone, ImageFeatures
from hyperadapt.data import AbstractImageSource, AbstractSource, FeatureSource
from hyperadapt.errors import InputError
from hyperadapt.parts import PartFeatures
from hyperadapt.text import ClassText, class_text

TOWER_BATCH = 64
KEEP_BATCH = 16 * TOWER_BATCH
STORED_BATCH = 4096
PARTS_BUDGET_BYTES = 2**30
DECODING_THREADS = 4
CROP_AREA = (0.5, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)
Progress = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    """No progress report."""


class View(NamedTuple):
    """One look at an image: its pool row, which view (0 is the evaluation view), and the seed of a random one."""

    row: int
    number: int = 0
    seed: int = 0


def _chunks(views: Sequence[View], size: int) -> list[Sequence[View]]:
    return [views[start : start + size] for start in range(0, len(views), size)]


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

    def context(self, classes: ClassText) -> BuildContext:
        """What components may know of these features when they are built for some classes."""
        return BuildContext(classes, self.embed_dim, self.part_width, self.logit_scale)

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
    """Images through a frozen tower; every view of an image passes it once for all methods, as far as memory allows.

    Args:
        source: the images.
        backbone: the tower.
        views: augmented views of a training image, beside its evaluation view.
        keep_parts: keep part features too, up to `PARTS_BUDGET_BYTES`; those beyond it are made again when wanted.

    Attributes:
        images: the source, as images.
    """

    def __init__(
        self, source: AbstractImageSource, backbone: Backbone, views: int = 3, keep_parts: bool = False
    ) -> None:
        if views < 0:
            raise InputError(f"the number of augmented views must not be negative, got {views}")
        self.source = self.images = source
        self.backbone = backbone
        self.backbone_name = backbone.name
        self.views = views
        self.logit_scale = backbone.logit_scale
        self.classes = class_text(backbone.text, source.class_names, source.templates)
        self.embed_dim = self.classes.weights.shape[1]
        self.part_width = backbone.part_width
        self._pooled: dict[View, Tensor] = {}
        self._parts: dict[View, PartFeatures] = {}
        self._parts_budget = PARTS_BUDGET_BYTES if keep_parts and self.part_width is not None else 0

    def encode_missing(self, rows: np.ndarray, progress: Progress = _silent) -> None:
        """Encode the evaluation view of rows that have not been encoded yet."""
        self._keep([View(row) for row in rows.tolist()], wants_parts=False, progress=progress)

    def training_views(
        self, rows: np.ndarray, seed: int, with_parts: bool, progress: Progress = _silent
    ) -> ImageFeatures:
        """The evaluation view, then `views` random resized crops (half to all of the area) with flips."""
        views = [View(row) for row in rows.tolist()]
        views += [View(row, number, seed) for number in range(1, self.views + 1) for row in rows.tolist()]
        return ImageFeatures.cat(list(self._features(views, with_parts, progress)))

    def batches(self, rows: np.ndarray, with_parts: bool) -> Iterator[ImageFeatures]:
        """Evaluation features, batch by batch, so that part features beyond the budget never pile up."""
        return self._features([View(row) for row in rows.tolist()], with_parts)

    def _features(
        self, views: Sequence[View], with_parts: bool, progress: Progress = _silent
    ) -> Iterator[ImageFeatures]:
        """Kept features where there are any, the tower's output where parts are wanted that were not kept."""
        wants_parts = with_parts and self.part_width is not None
        self._keep(views, wants_parts, progress)
        for stretch in _chunks(views, KEEP_BATCH):
            if wants_parts and not all(view in self._parts for view in stretch):
                yield from self._encode(stretch, with_parts=True)
                continue
            for chunk in _chunks(stretch, TOWER_BATCH):
                parts = PartFeatures.stack([self._parts[view] for view in chunk]) if wants_parts else None
                yield ImageFeatures(torch.stack([self._pooled[view] for view in chunk]), parts)

    def _keep(self, views: Sequence[View], wants_parts: bool, progress: Progress = _silent) -> None:
        """Encode what is not kept yet; with parts while their budget lasts, and no further where parts are wanted."""
        missing = [view for view in dict.fromkeys(views) if view not in self._pooled]
        done = 0
        for chunk in _chunks(missing, KEEP_BATCH):
            with_parts = self._parts_budget > 0
            if wants_parts and not with_parts:
                return
            pieces = zip(_chunks(chunk, TOWER_BATCH), self._encode(chunk, with_parts), strict=True)
            for piece, features in pieces:
                self._pooled.update(zip(piece, features.pooled, strict=True))
                if features.parts is not None:
                    self._parts.update({view: features.parts[i] for i, view in enumerate(piece)})
                    self._parts_budget -= features.parts.nbytes
                done += len(piece)
                progress(done, len(missing))

    def _pixels(self, view: View) -> Float[Tensor, "3 h w"]:
        image = self.images.image(view.row)
        if view.number:
            image = augmented(
                image, self.backbone.image_size, np.random.default_rng([view.seed, view.number, view.row])
            )
        return self.backbone.preprocess(image)

    def _encode(self, views: Sequence[View], with_parts: bool) -> Iterator[ImageFeatures]:
        """One batch after another, decoded in threads one batch ahead of the tower."""
        with ThreadPoolExecutor(DECODING_THREADS) as threads:
            chunks = _chunks(views, TOWER_BATCH)
            pending = [threads.submit(self._pixels, view) for view in chunks[0]] if chunks else []
            for i in range(len(chunks)):
                ready = torch.stack([future.result() for future in pending])
                pending = [threads.submit(self._pixels, view) for view in chunks[i + 1]] if i + 1 < len(chunks) else []
                yield self.backbone.encode_images(ready, with_parts)
