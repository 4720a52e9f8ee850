"""XR-VLM: all products of visual parts with multi-part prompts of all classes, classified together.

Source: Wang et al. 2025, arXiv 2503.07075. The full head knows only the classes it was trained on. Classes without
training images are scored by a pairwise head that is shared by all classes and trained beside it; that second head
is ours (the per-class relation of the authors' ablation, made free of class statistics and added to zero-shot CLIP).
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, elu, normalize

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead
from hyperadapt.heads.image_norm import ImageNorm
from hyperadapt.heads.unified_attention import UnifiedAttention
from hyperadapt.registry import register
from hyperadapt.text import ClassText, evenly_spaced
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import AbstractDraws

FEATURE_SCALE = 64.0
COSINE_GAIN = 10.0
"""Brings differences of cosines, a few hundredths to tenths, to the range where the small MLP bends."""


@dataclass(frozen=True)
class XRVLMConfig:
    """Settings of XR-VLM.

    Attributes:
        visual_parts: attention maps pooled into visual parts; stored features without positions give one part.
        text_parts: prompts a class; stored features use that many of their templates.
        context_length: learnable tokens before the class name in each prompt (16 in the paper's released settings).
        hidden: width of the full head's hidden layer.
        pair_hidden: width of the pairwise head's hidden layer.
        class_dropout: chance that a class goes through a training step with the shared contexts alone, as classes
            without training images always do.
    """

    visual_parts: int = 4
    text_parts: int = 4
    context_length: int = 4
    hidden: int = 1024
    pair_hidden: int = 8
    class_dropout: float = 0.5

    def __post_init__(self) -> None:
        if min(self.visual_parts, self.text_parts, self.context_length, self.hidden, self.pair_hidden) < 1:
            raise InputError(f"xrvlm needs every size to be at least 1, got {self}")
        if not 0 <= self.class_dropout < 1:
            raise InputError(f"xrvlm needs class_dropout in [0, 1), got {self.class_dropout}")


@dataclass(frozen=True)
class EncodedClasses:
    """The classes as the relation sees them.

    Attributes:
        text: (M, K, D) L2-normalised text parts.
        zero_shot: (K, D) frozen class features.
        columns: (K,) position of each class among the training classes, or None when any is new.
    """

    text: Float[Tensor, "m k d"]
    zero_shot: Float[Tensor, "k d"]
    columns: Int[Tensor, " k"] | None


class Prompts(nn.Module):
    """Shared context vectors with a residual a training class, through the frozen text tower."""

    def __init__(self, config: XRVLMConfig, classes: ClassText) -> None:
        super().__init__()
        m, length, width = config.text_parts, config.context_length, classes.prompt_tower.width
        self.class_dropout = config.class_dropout
        self.shared = nn.Parameter(torch.randn(m, 1, length, width) * 0.02)
        self.residual = nn.Parameter(torch.randn(m, len(classes), length, width) * 0.02)

    def forward(
        self, classes: ClassText, columns: Int[Tensor, " k"] | None, draws: AbstractDraws | None
    ) -> Float[Tensor, "m k d"]:
        """Text parts; residuals for training classes, each dropped with `class_dropout` in training."""
        contexts = self.shared
        if columns is not None:
            residual = self.residual[:, columns]
            if draws is not None and self.class_dropout > 0:
                keep = draws.rand(len(columns)) >= self.class_dropout
                residual = residual * keep[None, :, None, None]
            contexts = contexts + residual
        names = [f"{name}." for name in classes.names]
        tower = classes.prompt_tower
        ids = tower.tokenize(names, reserve=contexts.shape[2])
        return tower.prompts(contexts, ids)


class Projection(nn.Module):
    """Batch norm, linear to half the width, batch norm, ELU, over the rows of all parts (equation for p and q)."""

    def __init__(self, width: int, norm: type[nn.BatchNorm1d]) -> None:
        super().__init__()
        self.input_norm = norm(width)
        self.linear = nn.Linear(width, width // 2)
        self.output_norm = norm(width // 2)

    def forward(self, rows: Float[Tensor, "r p d"]) -> Float[Tensor, "r p h"]:
        """Statistics are taken over both leading axes."""
        flat = self.output_norm(self.linear(self.input_norm(FEATURE_SCALE * rows.flatten(0, 1))))
        return elu(flat).view(*rows.shape[:2], -1)


class FullHead(nn.Module):
    """The closed-set relation: every part of the image with every prompt of every class, through one MLP."""

    def __init__(self, width: int, relations: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.visual, self.textual = Projection(width, ImageNorm), Projection(width, nn.BatchNorm1d)
        self.relation_norm = ImageNorm(relations * classes)
        self.hidden = nn.Linear(relations * classes, hidden)
        self.hidden_norm = ImageNorm(hidden)
        self.output = nn.Linear(hidden, classes, bias=False)

    def forward(self, visual: Float[Tensor, "b n d"], textual: Float[Tensor, "m k d"]) -> Float[Tensor, "b k"]:
        """Flattened in the order text part, visual part, class."""
        relation = torch.einsum("bnh,mkh->bmnk", self.visual(visual), self.textual(textual)).flatten(1)
        return self.output(self.hidden_norm(elu(self.hidden(self.relation_norm(relation)))))


class PairwiseHead(nn.Module):
    """A correction to the zero-shot cosine from one class's own relation, by one small MLP for all classes.

    The relation is the cosine of every visual part with every text part, without learnt projections: those fit the
    training classes and cost accuracy on new ones.
    """

    def __init__(self, relations: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(relations, hidden), nn.Linear(hidden, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, visual: Float[Tensor, "b n d"], textual: Float[Tensor, "m k d"]) -> Float[Tensor, "b k"]:
        """The correction, in units of cosine."""
        relation = torch.einsum("bnd,mkd->bkmn", visual, textual).flatten(2)
        return self.output(elu(self.hidden(COSINE_GAIN * relation))).squeeze(-1)


@register(
    "xrvlm",
    "head",
    XRVLMConfig,
    summary="cross-relation of visual parts and multi-part prompts of all classes",
    source="Wang et al. 2025, arXiv 2503.07075; pairwise head for new classes is ours",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=2e-3, momentum=0.9, weight_decay=1e-4, epochs=25, batch_size=64, warmup_epochs=5
    ),
    novel="shared pairwise head on zero-shot scores",
    knows_split=True,
)
class XRVLM(AbstractHead):
    """The full head for the training classes, the pairwise head for any list with a class that is not among them.

    The optimiser is the released one (SGD, warm-up, cosine). 25 epochs instead of its 100 were chosen among 8, 25 and
    80 inside the base classes of two embedded worlds: longer training costs accuracy on classes held out there.
    """

    pools_parts = True

    def __init__(self, config: XRVLMConfig, context: BuildContext) -> None:
        super().__init__()
        classes = context.classes
        self.config = config
        self.scale = context.logit_scale
        self.training_names = classes.names
        self.attention = UnifiedAttention(context.part_width, config.visual_parts) if context.part_width else None
        learned = classes.takes_contexts
        self.prompts = Prompts(config, classes) if learned else None
        text_parts = config.text_parts if learned else min(config.text_parts, len(classes.templates))
        relations = text_parts * (config.visual_parts if self.attention else 1)
        self.full = FullHead(context.embed_dim, relations, len(classes), config.hidden)
        self.pairwise = PairwiseHead(relations, config.pair_hidden)

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> EncodedClasses:
        """Text parts: learned prompts where there is a text tower, else templates."""
        columns = self._training_columns(classes)
        if self.prompts is not None:
            text = self.prompts(classes, columns, draws)
        else:
            chosen = evenly_spaced(self.config.text_parts, len(classes.templates))
            text = torch.stack([classes.templates[i] for i in chosen])  # a list as an index would wait for the device
        return EncodedClasses(text, classes.weights, columns)

    def _training_columns(self, classes: ClassText) -> Int[Tensor, " k"] | None:
        """Position of each class among the training classes; namesakes take their positions in order."""
        if classes.names == self.training_names:
            return torch.arange(len(classes), device=classes.weights.device)
        free = defaultdict(list)
        for i, name in enumerate(self.training_names):
            free[name].append(i)
        try:
            columns = [free[name].pop(0) for name in classes.names]
        except IndexError:
            return None
        return torch.tensor(columns, device=classes.weights.device)

    def visual_parts(self, images: ImageFeatures) -> Float[Tensor, "b n d"]:
        """L2-normalised visual parts; the pooled feature is the one part where there are no positions."""
        if self.attention is None:
            return images.pooled[:, None]
        return normalize(self.attention(images.parts), dim=-1)

    def logits(self, images: ImageFeatures, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        """By the full head when the list is the training classes in any order, else by the pairwise head."""
        visual = self.visual_parts(images)
        if encoded.columns is not None and len(encoded.columns) == len(self.training_names):
            in_training_order = encoded.columns.argsort()
            return self.full(visual, encoded.text[:, in_training_order])[:, encoded.columns]
        return self._pairwise(images, visual, encoded)

    def _pairwise(self, images: ImageFeatures, visual: Tensor, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        return self.scale * (images.pooled @ encoded.zero_shot.T + self.pairwise(visual, encoded.text))

    def losses(self, images: ImageFeatures, encoded: EncodedClasses, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross entropy of both heads, which share parts and prompts."""
        visual = self.visual_parts(images)
        return {
            "full": cross_entropy(self.full(visual, encoded.text).float(), labels),
            "pairwise": cross_entropy(self._pairwise(images, visual, encoded).float(), labels),
        }
