"""CoCoOp: a context shifted by the image it is asked about, so that every image has prompts of its own."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.contexts import AttributeTokens, PromptedNames, Start, first_contexts
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import AbstractDraws

IMAGES_AT_ONCE = 64
"""Images whose prompts pass the tower together."""


@dataclass(frozen=True)
class CoCoOpConfig:
    """Settings of CoCoOp.

    Attributes:
        context_length: learned tokens before the class name.
        start: "words" ("a photo of a", where that makes `context_length` tokens) or "random", see `first_contexts`.
        reduction: by how much the net that shifts contexts narrows the image feature.
        attributes: words before the contexts, each after learned vectors of its own, as ATPrompt has them (arXiv
            2412.09442); images do not shift those.
        attribute_tokens: learned vectors before each of these words.
    """

    context_length: int = 4
    start: Start = "words"
    reduction: int = 16
    attributes: tuple[str, ...] = ()
    attribute_tokens: int = 2

    def __post_init__(self) -> None:
        if min(self.context_length, self.reduction, self.attribute_tokens) < 1:
            given = f"{self.context_length}, {self.reduction} and {self.attribute_tokens}"
            raise InputError(f"cocoop needs context_length, reduction and attribute_tokens of at least 1, got {given}")


@register(
    "cocoop",
    "head",
    CoCoOpConfig,
    summary="context vectors shifted by each image, through the frozen text tower",
    source="Zhou et al. 2022, arXiv 2203.05557",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=2e-3, momentum=0.9, weight_decay=5e-4, epochs=10, batch_size=1
    ),
    novel="learned contexts with new names",
    needs_tower=True,
)
class CoCoOp(AbstractHead):
    """logits_c(x) = scale * <f, t_c(x)>, t_c(x) of [start][v + h(f)]{class}.[end], h(f) = W2 ReLU(W1 f + b1) + b2.

    B images and K classes make B * K prompts, in training and ever after; what a prompt has in common over classes
    passes the tower once an image.
    """

    def __init__(self, config: CoCoOpConfig, context: BuildContext) -> None:
        super().__init__()
        tower, width = context.classes.prompt_tower, context.embed_dim
        hidden = max(width // config.reduction, 1)
        self.scale = context.logit_scale
        self.contexts = nn.Parameter(first_contexts(tower, config.context_length, config.start))
        self.shift = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, tower.width))
        words, tokens = config.attributes, config.attribute_tokens
        self.attributes = AttributeTokens(tower, words, tokens) if words else None

    def _before(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b m w"]:
        """What stands before the names, for each image."""
        contexts = self.contexts + self.shift(pooled)[:, None]
        return contexts if self.attributes is None else self.attributes(contexts)

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> PromptedNames:
        """The names; their features wait for the images."""
        length = self.contexts.shape[1] + (0 if self.attributes is None else self.attributes.length)
        return PromptedNames.of(classes, length)

    def logits(self, images: ImageFeatures, encoded: PromptedNames) -> Float[Tensor, "b k"]:
        """Scaled cosines of each image with its own class features."""
        scores = [
            self.scale * torch.einsum("bd,bkd->bk", pooled, encoded.features(self._before(pooled)[:, None]))
            for pooled in images.pooled.split(IMAGES_AT_ONCE)
        ]
        return torch.cat(scores)

    def losses(self, images: ImageFeatures, encoded: PromptedNames, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross entropy."""
        return {"cross_entropy": cross_entropy(self.logits(images, encoded).float(), labels)}
