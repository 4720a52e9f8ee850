"""An adapter and a head on frozen features: the thing that is trained, saved and asked for logits."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead
from hyperadapt.methods import Method
from hyperadapt.registry import component
from hyperadapt.text import ClassText
from manifolds.regularizers import GeneratorDraws

KEPT_LISTS = 4
"""Class lists whose encoded texts a model keeps."""
PIXEL_BATCH = 64
"""Images that pass an adapted tower at once, where all training images do."""


class Encoded(NamedTuple):
    """A list of classes as adapter and head made it, under certain weights."""

    classes: ClassText
    weights: tuple[tuple[int, int, int], ...]
    adapted: ClassText
    encoded: Any


class FewShotModel(nn.Module):
    """Adapter, then head. It holds only what a method trains; towers and frozen features stay outside.

    Args:
        adapter: features to features.
        head: features to logits.
    """

    def __init__(self, adapter: AbstractAdapter, head: AbstractHead) -> None:
        super().__init__()
        self.adapter = adapter
        self.head = head
        self._kept: deque[Encoded] = deque(maxlen=KEPT_LISTS)

    @torch.no_grad()
    def encode(self, classes: ClassText) -> "Encoded":
        """Adapted and encoded classes, in evaluation; a list seen lately as it was, unless a weight has changed."""
        self.eval()
        tensors = [*self.parameters(), *self.buffers()]
        weights = tuple((id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors)
        for kept in self._kept:
            if kept.weights == weights and kept.classes.same_as(classes):
                return kept
        adapted = self.adapter.adapt_classes(classes)
        made = Encoded(classes, weights, adapted, self.head.encode_classes(adapted))
        self._kept.append(made)
        return made

    def train(self, mode: bool = True) -> Self:
        """As of every module; what training may change is forgotten when it begins."""
        if mode:
            self._kept.clear()
        return super().train(mode)

    @torch.no_grad()
    def scores(self, images: Iterable[ImageFeatures], classes: ClassText) -> Iterator[Float[Tensor, "b k"]]:
        """Logits of batches of images for a list of classes, in evaluation mode.

        Learned prompts pass the text tower once a list, and again only when a weight has changed.

        Args:
            images: batches of frozen features.
            classes: any class list, known or new.
        """
        known = self.encode(classes)
        for batch in images:
            yield self.head.logits(self.adapter.adapt_images(batch, known.adapted), known.encoded)

    @torch.no_grad()
    def prepare(self, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText) -> None:
        """Show the training images to an adapter or a head that keeps them; before training, or instead of it.

        Args:
            images: (V * N) frozen features, view-major.
            labels: (N,) indices into the classes.
            classes: the training classes.
        """
        if self.adapter.reads_shots:
            self.adapter.prepare(images, labels, classes)
        if self.head.reads_shots:
            self.eval()
            adapted = self.adapter.adapt_classes(classes)
            batches = images.split(PIXEL_BATCH) if self.adapter.reads_pixels else [images]
            seen = ImageFeatures.cat([self.adapter.adapt_images(batch, adapted) for batch in batches])
            self.head.prepare(seen, labels, adapted)

    @torch.no_grad()
    def begin_phase(self, classes: ClassText) -> None:
        """Tell the head that another phase of training begins.

        Args:
            classes: the training classes.
        """
        self.eval()
        self.head.begin_phase(self.adapter.adapt_classes(classes))
        self.train()

    @torch.no_grad()
    def select(self, images: Iterable[ImageFeatures], labels: Int[Tensor, " n"], classes: ClassText) -> str | None:
        """Let a head that wants it choose settings on validation images of the training classes.

        Args:
            images: batches of frozen features; not asked for where nothing is chosen.
            labels: (N,) indices into the classes.
            classes: the training classes.

        Returns:
            What was chosen and how; None where all settings are fixed.
        """
        if not self.head.selects:
            return None
        known = self.encode(classes)
        batches = [self.adapter.adapt_images(batch, known.adapted) for batch in images]
        return self.head.select(batches, known.encoded, labels)

    @torch.no_grad()
    def describe(
        self,
        images: Iterable[ImageFeatures],
        labels: Int[Tensor, " n"],
        classes: ClassText,
        image_names: Sequence[str],
    ) -> dict[str, Any] | None:
        """What the adapter learnt, in words and numbers; None where it has nothing to tell.

        Args:
            images: batches of frozen features, of all training images.
            labels: (N,) indices into the classes.
            classes: the training classes.
            image_names: one name an image.
        """
        self.eval()
        adapted = self.adapter.adapt_classes(classes)
        draws = GeneratorDraws(torch.Generator(labels.device).manual_seed(0))
        pairs = [(self.adapter.adapt_images(batch, adapted).pooled, batch.pooled) for batch in images]
        seen, frozen = (ImageFeatures(torch.cat(rows)) for rows in zip(*pairs, strict=True))
        batch = TrainingBatch(seen, adapted, labels, draws, frozen, classes)
        return self.adapter.describe(batch, classes, image_names)

    @property
    def pools_parts(self) -> bool:
        """Whether the model pools position-wise features where images have them."""
        return self.adapter.pools_parts or self.head.pools_parts

    @property
    def reads_pixels(self) -> bool:
        """Whether the model passes images through a tower of its own making."""
        return self.adapter.reads_pixels or self.head.reads_pixels

    @property
    def guides(self) -> frozenset[str]:
        """Names of loss terms that only guide the others."""
        return frozenset((*self.adapter.guides, *self.head.guides))

    @property
    def trainable(self) -> list[nn.Parameter]:
        """Parameters that training changes."""
        return [p for p in self.parameters() if p.requires_grad]


def build_model(method: Method, context: BuildContext, seed: int) -> FewShotModel:
    """The untrained model of a method; equal seeds give equal initial weights.

    Args:
        method: names adapter and head with their settings.
        context: frozen facts of the training classes.
        seed: of every initial value.

    Raises:
        InputError: when the head cannot score what the adapter gives.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = component(method.adapter.type, "adapter").module(method.adapter.settings, context)
        head = component(method.head.type, "head").module(method.head.settings, context)
    if adapter.widens and not head.any_width:
        raise InputError(
            f"{method.head.type} scores features of the tower's width, and {method.adapter.type} with zero_shot_share "
            "widens them; set it to 0, or take the head cosine or hyperbolic"
        )
    weights = context.classes.weights
    return FewShotModel(adapter, head).to(weights.device, torch.promote_types(weights.dtype, torch.float32))
