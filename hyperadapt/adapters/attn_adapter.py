"""Attn-Adapter: class texts attend over the shots of their class, images over their own positions."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch, rows_by_name
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.shots import Shots
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class AttnAdapterConfig:
    """Settings of Attn-Adapter.

    Attributes:
        memory: let class texts attend over the shots of their class.
        local: let images attend over their positions, where they have some.
    """

    memory: bool = True
    local: bool = True

    def __post_init__(self) -> None:
        if not (self.memory or self.local):
            raise InputError("attn-adapter needs memory or local, got neither")


@register(
    "attn-adapter",
    "adapter",
    AttnAdapterConfig,
    summary="class texts attend over their shots, images over their positions (a reading of Attn-Adapter)",
    source="Bui et al. 2025, arXiv 2509.03895",
    training=TrainingConfig(optimizer="adamw", learning_rate=1e-3, weight_decay=1e-4, epochs=50, batch_size=256),
    novel="same weights, new names; without shots a class text attends over nothing and stays",
    starts_at_zero_shot=True,
)
class AttnAdapter(AbstractAdapter):
    """w' = normalise(w + p(w) * a^T F), a = softmax(K(F) Q(w) / sqrt(D)); images the same over their positions.

    A reading of the paper, from a summary of its equations; there is no released code. Chosen here: K and Q are linear
    maps; the gate p is a linear map that starts at zero, so that training starts at zero-shot CLIP;
    positions are the projected tokens at unit length; the memory is the training shots themselves (mean over views),
    for classes with shots alone; AdamW at 1e-3 for 50 epochs, which a ladder on base classes left as they were
    (`benchmarks/spaces/attn-adapter.yaml`). The paper gives new classes shots of their own at test;
    base-to-novel has none to give.
    """

    reads_shots = True
    pools_parts = True
    keys: Tensor
    slots: Tensor

    def __init__(self, config: AttnAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        self.training_names, self.counts = context.classes.names, context.counts
        self.register_buffer("keys", torch.zeros(sum(self.counts), context.embed_dim))
        self.register_buffer("slots", _slots(self.counts), persistent=False)
        self.memory = Attention(context.embed_dim) if config.memory else None
        self.local = Attention(context.embed_dim) if config.local and context.part_width is not None else None

    def prepare(self, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText) -> None:
        """Fill the memory, class by class."""
        self.keys.copy_(Shots.of(images, labels, self.counts).by_class())

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Texts of classes with shots, after attention over these."""
        if self.memory is None:
            return classes
        slots = rows_by_name(self.slots + 1, self.training_names, classes.names) - 1
        adapted = self.memory(classes.weights, self.keys[slots.clamp(min=0)], slots >= 0)
        return classes.with_weights(adapted)

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """Images after attention over their positions."""
        if self.local is None or images.parts is None:
            return images
        content = normalize(images.parts.content, dim=-1)
        there = torch.ones(content.shape[:2], dtype=torch.bool, device=content.device)
        return ImageFeatures(self.local(images.pooled, content, there), images.parts)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}


class Attention(nn.Module):
    """Each query gathers from rows of its own through a gate that starts at zero.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a bias here would drop out of the softmax
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(
        self, queries: Float[Tensor, "k d"], rows: Float[Tensor, "k m d"], there: Bool[Tensor, "k m"]
    ) -> Float[Tensor, "k d"]:
        """Queries of unit length; one whose rows are all absent stays as it is.

        Args:
            queries: what attends.
            rows: keys and, without a projection, values of each query.
            there: which of the rows count.
        """
        affinity = (self.key(rows) @ self.query(queries)[:, :, None])[:, :, 0] / queries.shape[-1] ** 0.5
        weights = affinity.masked_fill(~there, -1e9).softmax(dim=1) * there
        gathered = (weights[:, None] @ rows)[:, 0]
        return normalize(queries + self.gate(queries) * gathered, dim=-1)


def _slots(counts: tuple[int, ...]) -> Int[Tensor, "c m"]:
    """Rows of each class in a memory that holds class after class; -1 beyond the last.

    Example:
        >>> _slots((2, 1))
        tensor([[ 0,  1],
                [ 2, -1]])
    """
    slots, start = torch.full((len(counts), max(counts)), -1), 0
    for label, count in enumerate(counts):
        slots[label, :count] = torch.arange(start, start + count)
        start += count
    return slots
