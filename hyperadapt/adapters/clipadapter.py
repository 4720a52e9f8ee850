"""CLIP-Adapter: a bottleneck on image features, mixed with the frozen feature."""

from dataclasses import dataclass

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
        reduction: the bottleneck is D // reduction wide.
        ratio: share of the adapted feature in the mix, in [0, 1].
    """

    reduction: int = 4
    ratio: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1 or self.reduction < 1:
            raise InputError(
                f"clip-adapter needs ratio in [0, 1] and reduction >= 1, got {self.ratio} and {self.reduction}"
            )


@register(
    "clip-adapter",
    "adapter",
    ClipAdapterConfig,
    summary="bottleneck MLP on image features, mixed with the frozen feature",
    source="Gao et al. 2021, arXiv 2110.04544",
    training=TrainingConfig(optimizer="adamw", learning_rate=1e-3, weight_decay=1e-4, steps=300, batch_size=256),
)
class ClipAdapter(AbstractAdapter):
    """f' = normalise(r * relu(relu(f W1) W2) + (1 - r) * f), without biases; class features stay frozen.

    The published release gives no training recipe; AdamW at 1e-3 for 300 steps is a fixed choice for all data sets.
    """

    def __init__(self, config: ClipAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        self.ratio = config.ratio
        hidden = max(context.embed_dim // config.reduction, 1)
        self.down = nn.Linear(context.embed_dim, hidden, bias=False)
        self.up = nn.Linear(hidden, context.embed_dim, bias=False)

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """The classes as they are."""
        return classes

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """Bottleneck, residual mix, L2 normalisation."""
        adapted = relu(self.up(relu(self.down(images.pooled))))
        mixed = self.ratio * adapted + (1 - self.ratio) * images.pooled
        return ImageFeatures(normalize(mixed, dim=-1), images.parts)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}
