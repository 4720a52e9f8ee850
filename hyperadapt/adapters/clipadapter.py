"""CLIP-Adapter: a bottleneck on image features, on class texts or on both, mixed with the frozen feature."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class ClipAdapterConfig:
    """Settings of CLIP-Adapter.

    Attributes:
        sides: what passes a bottleneck: the images ("visual"), the class texts ("text"), or "both".
        reduction: the bottleneck is D // reduction wide.
        ratio: share of the adapted feature in an image, in [0, 1].
        text_ratio: the same in a class text.
    """

    sides: Literal["visual", "text", "both"] = "visual"
    reduction: int = 4
    ratio: float = 0.2
    text_ratio: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.ratio <= 1 and 0 <= self.text_ratio <= 1) or self.reduction < 1:
            raise InputError(
                f"clip-adapter needs ratio and text_ratio in [0, 1] and reduction >= 1, got {self.ratio}, "
                f"{self.text_ratio} and {self.reduction}"
            )


class Bottleneck(nn.Module):
    """x' = normalise(r * relu(relu(x W1) W2) + (1 - r) * x), without biases.

    Args:
        width: D.
        reduction: W1 is D x D // reduction.
        ratio: r.
    """

    def __init__(self, width: int, reduction: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        hidden = max(width // reduction, 1)
        self.down = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(hidden, width, bias=False)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Features of unit length."""
        adapted = relu(self.up(relu(self.down(features))))
        return normalize(self.ratio * adapted + (1 - self.ratio) * features, dim=-1)


@register(
    "clip-adapter",
    "adapter",
    ClipAdapterConfig,
    summary="bottleneck MLP on image features, mixed with the frozen feature",
    source="Gao et al. 2021, arXiv 2110.04544",
    training=TrainingConfig(optimizer="adamw", learning_rate=1e-3, weight_decay=1e-4, steps=300, batch_size=256),
)
class ClipAdapter(AbstractAdapter):
    """A bottleneck on the sides that the settings name; features of the other side stay frozen.

    The published release has the visual side alone and no configuration; it is run with CoOp's command, whose training
    is SGD at 2e-3 in batches of 32. AdamW at 1e-3 for 300 steps is a fixed choice of ours for all data sets, and the
    share 0.2 is taken for the texts too.
    """

    def __init__(self, config: ClipAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        self.visual = self.text = None
        if config.sides != "text":
            self.visual = Bottleneck(context.embed_dim, config.reduction, config.ratio)
        if config.sides != "visual":
            self.text = Bottleneck(context.embed_dim, config.reduction, config.text_ratio)

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Through the text bottleneck where there is one."""
        return classes if self.text is None else classes.with_weights(self.text(classes.weights))

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """Through the visual bottleneck where there is one."""
        return images if self.visual is None else ImageFeatures(self.visual(images.pooled), images.parts)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}

    @staticmethod
    def adapts_alone(config: Any) -> bool:
        """Yes."""
        return True
