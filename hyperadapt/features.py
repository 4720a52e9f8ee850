"""Frozen features of a data set: stored beforehand, or made by a tower from images in several views."""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import Backbone, ImageFeatures
from hyperadapt.data import AbstractImageSource, AbstractSource, FeatureSource
from hyperadapt.errors import InputError
from hyperadapt.feature_key import feature_key
from hyperadapt.feature_store import FeatureStore, ShardWriter
from hyperadapt.parts import PartFeatures
from hyperadapt.pixels import ViewPixels
from hyperadapt.text import ClassText, class_text, told_apart
from hyperadapt.views import View, ViewMaker, grouped, pixel_batches

TOWER_BATCH = 64
STORED_BATCH = 4096
PARTS_BUDGET_BYTES = 2**30
Progress = Callable[[int, int], None]
_Pieces = Generator[tuple[list[View], ImageFeatures], None, None]


def _silent(_done: int, _total: int) -> None:
    """No progress report."""


def _chunks(views: Sequence[View], size: int) -> list[Sequence[View]]:
    return [views[start : start + size] for start in range(0, len(views), size)]


def _evaluation_views(rows: np.ndarray) -> list[View]:
    return [View(row) for row in rows.tolist()]


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

    def context(self, classes: ClassText, training_images: int = 1) -> BuildContext:
        """What components may know of these features when they are built for some classes and so many images."""
        return BuildContext(classes, self.embed_dim, self.part_width, self.logit_scale, training_images)

    @abstractmethod
    def training_views(
        self,
        rows: np.ndarray,
        seed: int,
        with_parts: bool,
        progress: Progress = _silent,
        *,
        with_pixels: bool = False,
    ) -> ImageFeatures:
        """Views of training rows, view-major; the first view is the one used for evaluation.

        Args:
            rows: (N,) pool rows.
            seed: of the augmentations.
            with_parts: whether part features are wanted, where the tower has them.
            progress: called with (rows done, rows in all).
            with_pixels: whether the tower's inputs are wanted too; they are decoded as they are indexed.

        Raises:
            InputError: for pixels of features that were stored without them.
        """

    @abstractmethod
    def batches(self, rows: np.ndarray, with_parts: bool, with_pixels: bool = False) -> Iterator[ImageFeatures]:
        """Evaluation features of pool rows in order, in batches, and the tower's inputs where they are wanted.

        Raises:
            InputError: for pixels of features that were stored without them.
        """


@final
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
        names = told_apart(source.class_names)  # no text is made of them
        self.classes = ClassText(names, templates, torch.from_numpy(source.class_text())).to(device)

    def training_views(
        self,
        rows: np.ndarray,
        seed: int,
        with_parts: bool,
        progress: Progress = _silent,
        *,
        with_pixels: bool = False,
    ) -> ImageFeatures:
        """The stored rows."""
        if with_pixels:
            raise InputError(
                f"the method changes the image tower and needs images, but {self.source.name} holds stored features; "
                "use images, or a method that works on features"
            )
        return ImageFeatures(torch.from_numpy(self._stored.features(rows)).to(self.device))

    def batches(self, rows: np.ndarray, with_parts: bool, with_pixels: bool = False) -> Iterator[ImageFeatures]:
        """The stored rows as one batch after another."""
        for start in range(0, len(rows), STORED_BATCH):
            part = rows[start : start + STORED_BATCH]
            yield self.training_views(part, seed=0, with_parts=False, with_pixels=with_pixels)


@final
class TowerFeatures(AbstractFrozenFeatures):
    """Images through a frozen tower; every view of an image passes it once for all methods, as far as memory allows.

    Args:
        source: the images.
        backbone: the tower.
        views: augmented views of a training image, beside its evaluation view.
        keep_parts: keep part features too, up to `PARTS_BUDGET_BYTES`; those beyond it are made again when wanted.
        store: where features outlive the run; None keeps them in memory alone.
        workers: processes that decode images; 0 decodes in threads; None decides by the size of the job.

    Attributes:
        images: the source, as images.
    """

    def __init__(
        self,
        source: AbstractImageSource,
        backbone: Backbone,
        views: int = 3,
        keep_parts: bool = False,
        store: FeatureStore | None = None,
        workers: int | None = None,
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
        key = None if store is None else feature_key(backbone)
        self._folder = None if store is None or key is None else store.folder(key)
        self.part_width = self._part_width()
        self._maker = ViewMaker(source, backbone.preprocess, backbone.image_size)
        self._workers = workers
        self._pooled: dict[View, Tensor] = {}
        self._parts: dict[View, PartFeatures] = {}
        self._parts_budget = PARTS_BUDGET_BYTES if keep_parts and self.part_width is not None else 0
        self._stamps: dict[int, str | None] = {}

    def _part_width(self) -> int | None:
        """The tower must run to tell, so the store remembers it."""
        if self._folder is None:
            return self.backbone.part_width
        return self._folder.recall("part_width", lambda: self.backbone.part_width)

    def encode_missing(
        self, rows: np.ndarray, progress: Progress = _silent, training: Iterable[tuple[np.ndarray, int]] = ()
    ) -> None:
        """Encode what has not been encoded yet; in one call, an image is decoded once for all of its views.

        Args:
            rows: (N,) pool rows whose evaluation view is wanted.
            progress: called with (views done, views in all).
            training: pairs of rows and seed whose `training_views` will be asked for.
        """
        views = _evaluation_views(rows)
        for training_rows, seed in training:
            views += self._training(training_rows, seed)
        for _ in self._stream(views, with_parts=False, progress=progress):
            pass

    def training_views(
        self,
        rows: np.ndarray,
        seed: int,
        with_parts: bool,
        progress: Progress = _silent,
        *,
        with_pixels: bool = False,
    ) -> ImageFeatures:
        """The evaluation view, then `views` random resized crops (half to all of the area) with flips."""
        views = self._training(rows, seed)
        features = ImageFeatures.cat(list(self._stream(views, with_parts, progress)))
        pixels = ViewPixels(self._maker, views, self.backbone.device) if with_pixels else None
        return replace(features, pixels=pixels)

    def batches(self, rows: np.ndarray, with_parts: bool, with_pixels: bool = False) -> Iterator[ImageFeatures]:
        """Evaluation features, batch by batch, so that part features beyond the budget never pile up."""
        views = _evaluation_views(rows)
        features = self._stream(views, with_parts)
        return self._beside_pixels(views, features) if with_pixels else features

    def _beside_pixels(self, views: Sequence[View], features: Iterator[ImageFeatures]) -> Iterator[ImageFeatures]:
        """Batches of views with the tower's inputs, which are decoded ahead."""
        images = [[[view] for view in batch] for batch in _chunks(views, TOWER_BATCH)]
        device = self.backbone.device
        with closing(pixel_batches(self._maker, images, self._workers, device.type == "cuda")) as pixels:
            for batch, given in zip(features, pixels, strict=True):
                yield replace(batch, pixels=given.to(device, non_blocking=True))

    def _training(self, rows: np.ndarray, seed: int) -> list[View]:
        random = [View(row, number, seed) for number in range(1, self.views + 1) for row in rows.tolist()]
        return _evaluation_views(rows) + random

    def _stream(self, views: Sequence[View], with_parts: bool, progress: Progress = _silent) -> Iterator[ImageFeatures]:
        """Features of views in order, batch by batch.

        Pooled features stay in memory; parts do while their budget lasts, and else until their last use here.
        """
        parts = with_parts and self.part_width is not None
        uses, passing = Counter(views), dict[View, PartFeatures]()
        absent = [view for view in uses if not self._is_ready(view, parts, passing)]
        done = 0
        with closing(self._obtained(absent, parts)) as obtained:
            for batch in _chunks(views, TOWER_BATCH):
                while not all(self._is_ready(view, parts, passing) for view in batch):
                    new, features = next(obtained)
                    self._take(new, features, passing if parts else None)
                    done += len(new)
                    progress(done, len(absent))
                yield self._gathered(batch, parts, passing)
                uses.subtract(batch)
                for view in batch:
                    if not uses[view]:
                        passing.pop(view, None)

    def _is_ready(self, view: View, parts: bool, passing: Mapping[View, PartFeatures]) -> bool:
        return view in self._pooled and (not parts or view in self._parts or view in passing)

    def _take(self, views: Sequence[View], features: ImageFeatures, passing: dict[View, PartFeatures] | None) -> None:
        """Keep new features: parts within the budget, and beyond it where they are wanted now."""
        self._pooled.update(zip(views, features.pooled, strict=True))
        if features.parts is not None:
            parts = {view: features.parts[i] for i, view in enumerate(views)}
            if self._parts_budget > 0:
                self._parts.update(parts)
                self._parts_budget -= features.parts.nbytes
            elif passing is not None:
                passing.update(parts)

    def _gathered(self, batch: Sequence[View], parts: bool, passing: Mapping[View, PartFeatures]) -> ImageFeatures:
        pooled = torch.stack([self._pooled[view] for view in batch])
        if not parts:
            return ImageFeatures(pooled)
        found = [self._parts[view] if view in self._parts else passing[view] for view in batch]
        return ImageFeatures(pooled, PartFeatures.stack(found))

    def _obtained(self, views: Sequence[View], parts: bool) -> _Pieces:
        """Features that are not in memory, in the order of the views or sooner: from the store, or from the tower."""
        names = {view: name for view in views if self._folder and (name := self._name(view)) is not None}
        held = self._folder.find(names.values(), parts) if self._folder else set()
        stored = {view: name for view, name in names.items() if name in held}
        delivered: set[View] = set()
        with closing(self._made([view for view in views if view not in stored], names, parts)) as made:
            for stretch in _chunks(views, TOWER_BATCH):
                yield from self._read({view: stored[view] for view in stretch if view in stored}, parts)
                while any(view not in stored and view not in delivered for view in stretch):
                    piece = next(made)
                    delivered.update(piece[0])
                    yield piece

    def _read(self, names: Mapping[View, str], parts: bool) -> _Pieces:
        """Stored features; the tower's where they have gone since they were found."""
        if not names or self._folder is None:
            return
        found = self._folder.read(set(names.values()), parts)
        there = {view: found[name] for view, name in names.items() if name in found}
        if there:
            kept = [features.parts for features in there.values() if features.parts is not None]
            pooled = torch.stack([features.pooled for features in there.values()])
            features = ImageFeatures(pooled, PartFeatures.stack(kept) if parts else None)
            yield list(there), features.to(self.backbone.device)
        yield from self._made([view for view in names if view not in there], names, parts)

    def _made(self, views: Sequence[View], names: Mapping[View, str], parts: bool) -> _Pieces:
        """The tower's features, image by image; those of named views go to the store on their way."""
        batches = grouped(views, TOWER_BATCH)
        pinned = self.backbone.device.type == "cuda"
        writer = ShardWriter(self._folder) if self._folder else None
        with closing(pixel_batches(self._maker, batches, self._workers, pinned)) as pixels:
            try:
                for batch in batches:
                    piece = [view for image in batch for view in image]
                    features = self._encoded(next(pixels), parts or self._parts_budget > 0)
                    if writer:
                        writer.put([names.get(view) for view in piece], features)
                    yield piece, features
            finally:
                if writer:
                    writer.flush()

    def _encoded(self, pixels: Float[Tensor, "n 3 h w"], with_parts: bool) -> ImageFeatures:
        """Outside any autocast of the caller's, for the features are kept for later callers."""
        with torch.autocast(self.backbone.device.type, enabled=False):
            return self.backbone.encode_images(pixels, with_parts)

    def _name(self, view: View) -> str | None:
        """What a view is called in the store; random views are seeded by their row too. None: not to be stored."""
        if view.row not in self._stamps:
            self._stamps[view.row] = self.images.stamp(view.row)
        stamp = self._stamps[view.row]
        if stamp is None:
            return None
        text = f"{stamp}\0{view.number}\0{view.seed if view.number else 0}\0{view.row if view.number else 0}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
