"""Frozen features of pairs: stored beforehand, or made by the towers of a backbone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, final

import numpy as np
import torch

from hyperadapt import __version__
from hyperadapt.backbone import Backbone, ImageFeatures, load_backbone, resolve_device
from hyperadapt.captions import caption_text
from hyperadapt.data import AbstractImageSource
from hyperadapt.data.pairs import Pairs, PairVectors
from hyperadapt.errors import InputError
from hyperadapt.feature_store import FeatureStore
from hyperadapt.features import TowerFeatures
from hyperadapt.text import ClassText

STORED_BATCH = 4096


class AbstractPairFeatures(ABC):
    """Features of the images and captions of some pairs.

    Attributes:
        pairs: what they are of.
        backbone_name: the towers, for results.
        logit_scale: CLIP's factor on cosine similarities.
        device: where the features are.
    """

    pairs: Pairs
    backbone_name: str
    logit_scale: float
    device: torch.device

    @abstractmethod
    def texts(self, captions: np.ndarray) -> ClassText:
        """Some captions as a list of classes.

        Args:
            captions: their positions.
        """

    @abstractmethod
    def cut(self) -> int:
        """How many captions are longer than the text tower reads, and lose their last words."""

    @abstractmethod
    def training_views(
        self, rows: np.ndarray, seed: int, with_pixels: bool, progress: Callable[[int, int], None]
    ) -> ImageFeatures:
        """Views of training images, view-major.

        Args:
            rows: of the images.
            seed: of the augmentations.
            with_pixels: whether the tower's inputs are wanted.
            progress: called with (rows done, rows in all).
        """

    @abstractmethod
    def batches(self, rows: np.ndarray, with_pixels: bool) -> Iterator[ImageFeatures]:
        """Evaluation features of images in order, in batches."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What identifies data, towers and program in a result file."""


@final
class StoredPairFeatures(AbstractPairFeatures):
    """A feature folder: one view, no towers.

    Args:
        pairs: their source holds the vectors.
        device: where the tensors go.
    """

    def __init__(self, pairs: Pairs, device: torch.device) -> None:
        assert isinstance(pairs.source, PairVectors)
        self.pairs, self.device = pairs, device
        self.backbone_name, self.logit_scale = pairs.source.backbone, pairs.source.logit_scale
        self._images, self._captions = (torch.from_numpy(x) for x in (pairs.source.images, pairs.source.captions))

    def texts(self, captions: np.ndarray) -> ClassText:
        """The stored rows."""
        names = [self.pairs.captions[i] for i in captions.tolist()]
        return caption_text(names, self._captions[torch.from_numpy(captions)].to(self.device), tower=None)

    def cut(self) -> int:
        """Not known of stored features."""
        return 0

    def training_views(
        self, rows: np.ndarray, seed: int, with_pixels: bool, progress: Callable[[int, int], None]
    ) -> ImageFeatures:
        """The stored rows."""
        return self._rows(rows, with_pixels)

    def batches(self, rows: np.ndarray, with_pixels: bool) -> Iterator[ImageFeatures]:
        """The stored rows."""
        for start in range(0, len(rows), STORED_BATCH):
            yield self._rows(rows[start : start + STORED_BATCH], with_pixels)

    def _rows(self, rows: np.ndarray, with_pixels: bool) -> ImageFeatures:
        if with_pixels:
            raise InputError(f"the method changes the image tower, and {self.pairs.name} holds features; use images")
        return ImageFeatures(self._images[torch.from_numpy(rows)].to(self.device))

    def facts(self) -> dict[str, Any]:
        """Without weights, which are not at hand."""
        return _facts(self, fingerprint=None, views=1)


@final
class TowerPairFeatures(AbstractPairFeatures):
    """Images and captions through the towers of a backbone.

    Args:
        pairs: their source holds images.
        backbone: the towers.
        views: augmented views of a training image, beside its evaluation view.
        store: where image features outlive the run; None keeps them in memory alone.
    """

    def __init__(self, pairs: Pairs, backbone: Backbone, views: int = 3, store: FeatureStore | None = None) -> None:
        assert isinstance(pairs.source, AbstractImageSource)
        self.pairs, self.device, self.backbone, self.views = pairs, backbone.device, backbone, views
        self.backbone_name, self.logit_scale = backbone.name, backbone.logit_scale
        self._images = TowerFeatures(pairs.source, backbone, views, store=store)

    def texts(self, captions: np.ndarray) -> ClassText:
        """The captions through the text tower, those that were seen lately from memory."""
        names = [self.pairs.captions[i] for i in captions.tolist()]
        return caption_text(names, self.backbone.text.encode(names, cut=True), self.backbone.text)

    def cut(self) -> int:
        """Of all captions; learned prompts take some more tokens of the room."""
        return self.backbone.text.too_long(self.pairs.captions)

    def training_views(
        self, rows: np.ndarray, seed: int, with_pixels: bool, progress: Callable[[int, int], None]
    ) -> ImageFeatures:
        """The evaluation view, then random ones."""
        return self._images.training_views(rows, seed, False, progress, with_pixels=with_pixels)

    def batches(self, rows: np.ndarray, with_pixels: bool) -> Iterator[ImageFeatures]:
        """Evaluation features."""
        return self._images.batches(rows, with_parts=False, with_pixels=with_pixels)

    def facts(self) -> dict[str, Any]:
        """With the weights' fingerprint."""
        return _facts(self, fingerprint=self.backbone.fingerprint, views=self.views + 1)


def _facts(features: AbstractPairFeatures, fingerprint: str | None, views: int) -> dict[str, Any]:
    return {
        "hyperadapt": __version__,
        "dataset": features.pairs.name,
        "data_fingerprint": features.pairs.fingerprint,
        "backbone": features.backbone_name,
        "backbone_fingerprint": fingerprint,
        "views": views,
    }


def pair_features(
    pairs: Pairs, backbone: str | Backbone, device: str, views: int, cache: bool = True
) -> AbstractPairFeatures:
    """Stored features as they are, images and captions through the backbone.

    Args:
        pairs: any.
        backbone: for images; by name, or loaded.
        device: as `resolve_device` takes it.
        views: augmented views of a training image.
        cache: whether image features are kept on disk.
    """
    if isinstance(pairs.source, PairVectors):
        return StoredPairFeatures(pairs, resolve_device(device))
    tower = load_backbone(backbone, device=device) if isinstance(backbone, str) else backbone
    return TowerPairFeatures(pairs, tower, views, FeatureStore() if cache else None)
