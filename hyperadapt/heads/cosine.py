"""Cosine scores at CLIP's own scale."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.heads.base import AbstractHead
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from manifolds.regularizers import AbstractDraws


@dataclass(frozen=True)
class CosineConfig:
    """Cosine scoring has no settings; the scale is that of the frozen CLIP."""


@register(
    "cosine",
    "head",
    CosineConfig,
    summary="cosine of image and class features",
    source="Radford et al. 2021, arXiv 2103.00020",
)
class Cosine(AbstractHead):
    """logits = exp(logit_scale) * <image, class>, both L2-normalised."""

    def __init__(self, config: CosineConfig, context: BuildContext) -> None:
        super().__init__()
        self.scale = context.logit_scale

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> Float[Tensor, "k d"]:
        """The class features."""
        return classes.weights

    def logits(self, images: ImageFeatures, encoded: Float[Tensor, "k d"]) -> Float[Tensor, "b k"]:
        """Scaled cosines."""
        return self.scale * images.pooled @ encoded.T

    def losses(
        self, images: ImageFeatures, encoded: Float[Tensor, "k d"], labels: Int[Tensor, " b"]
    ) -> dict[str, Tensor]:
        """Cross entropy."""
        return {"cross_entropy": cross_entropy(self.logits(images, encoded).float(), labels)}
