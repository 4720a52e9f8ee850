"""Task-oriented mutual learning: prompts knowing what an image shows of their class, images knowing their prompts."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.contexts import PromptedNames, Start, first_contexts
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import AbstractDraws

IMAGES_AT_ONCE = 16
"""Images whose prompts pass the tower together."""


@dataclass(frozen=True)
class MutualLearningConfig:
    """Settings of mutual learning.

    Attributes:
        context_length: learned tokens before the class name.
        start: "words" ("a photo of a", where that makes `context_length` tokens) or "random", see `first_contexts`.
        class_aware: shift each class' context by what the class finds among the positions of the image.
        text_guided: add to the image feature what it finds among its class features.
        reduction: by how much attention is narrower than the joint space.
    """

    context_length: int = 4
    start: Start = "words"
    class_aware: bool = True
    text_guided: bool = True
    reduction: int = 16

    def __post_init__(self) -> None:
        if min(self.context_length, self.reduction) < 1:
            given = f"{self.context_length} and {self.reduction}"
            raise InputError(f"mutual-learning needs context_length and reduction of at least 1, got {given}")


@dataclass(frozen=True)
class EncodedClasses:
    """A list of classes.

    Attributes:
        names: waiting for their contexts.
        frozen: (K, D) class features that ask for parts of an image.
    """

    names: PromptedNames
    frozen: Float[Tensor, "k d"]


@register(
    "mutual-learning",
    "head",
    MutualLearningConfig,
    summary="class-aware prompts of each image and text-guided images (a reading of Task-Oriented Mutual Learning)",
    source="Long et al. 2023, arXiv 2303.17169",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=2e-3, momentum=0.9, weight_decay=5e-4, epochs=10, batch_size=1
    ),
    novel="learned contexts with new names",
    needs_tower=True,
)
class MutualLearning(AbstractHead):
    """logits_c(x) = scale * <f', t_c(x)>, t_c(x) of [start][v + A(w_c, P(x))]{class}.[end], f' of f + B(f, t(x)).

    A reading of the paper's abstract: no equations, code or settings were at hand. Chosen here: A and B are single-head
    cross-attention, narrower than the joint space by 16 and with a last map that starts at zero, so that training
    starts at CoOp; a class asks with its frozen text feature w_c; it asks the projected positions P(x) of the image at
    unit length, the class token among them, and the pooled feature where a tower's positions cannot be read; what it
    finds is added to all its context vectors; an image asks the features t(x) of all listed classes, so its scores
    depend on the list; the contrastive loss is cross entropy over the classes at CLIP's own scale; contexts, optimiser
    and length are CoCoOp's. B images and K classes make B * K prompts that share nothing, some times CoCoOp's cost.
    """

    pools_parts = True

    def __init__(self, config: MutualLearningConfig, context: BuildContext) -> None:
        super().__init__()
        tower, width = context.classes.prompt_tower, context.embed_dim
        hidden = max(width // config.reduction, 1)
        self.scale = context.logit_scale
        self.contexts = nn.Parameter(first_contexts(tower, config.context_length, config.start))
        self.class_aware = CrossAttention(width, hidden, tower.width) if config.class_aware else None
        self.text_guided = CrossAttention(width, hidden, width) if config.text_guided else None

    @property
    def compares_classes(self) -> bool:
        """Where images attend to the classes of a list."""
        return self.text_guided is not None

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> EncodedClasses:
        """The names and the frozen features; prompts wait for the images."""
        return EncodedClasses(PromptedNames.of(classes, self.contexts.shape[1]), classes.weights)

    def logits(self, images: ImageFeatures, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        """Scaled cosines of each image with its own class features."""
        starts = range(0, len(images), IMAGES_AT_ONCE)
        return torch.cat([self._scores(images[start : start + IMAGES_AT_ONCE], encoded) for start in starts])

    def _scores(self, images: ImageFeatures, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        pooled, contexts = images.pooled, self.contexts[None].expand(len(images), -1, -1, -1)
        if self.class_aware is not None:
            positions = pooled[:, None] if images.parts is None else normalize(images.parts.content, dim=-1)
            asking = encoded.frozen.expand(len(images), -1, -1)
            contexts = contexts + self.class_aware(asking, positions)[:, :, None]
        texts = encoded.names.features(contexts)
        if self.text_guided is not None:
            pooled = normalize(pooled + self.text_guided(pooled[:, None], texts)[:, 0], dim=-1)
        return self.scale * torch.einsum("bd,bkd->bk", pooled, texts)

    def losses(self, images: ImageFeatures, encoded: EncodedClasses, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross entropy."""
        return {"cross_entropy": cross_entropy(self.logits(images, encoded).float(), labels)}


class CrossAttention(nn.Module):
    """What queries find among rows, through one narrow head; nothing before training.

    Args:
        width: of queries and rows.
        hidden: of the head.
        out: of what comes out.
    """

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.key = nn.Linear(width, hidden, bias=False)  # a bias here would drop out of the softmax
        self.out = nn.Linear(hidden, out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, queries: Float[Tensor, "b q d"], rows: Float[Tensor, "b s d"]) -> Float[Tensor, "b q o"]:
        """One mixture of the rows a query."""
        affinity = self.query(queries) @ self.key(rows).mT / self.query.out_features**0.5
        return self.out(affinity.softmax(dim=-1) @ self.value(rows))
