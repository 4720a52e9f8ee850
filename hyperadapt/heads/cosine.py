"""Cosine scores at CLIP's own scale."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.heads.base import AbstractHead, similarities
from hyperadapt.heads.episodes import among_own, check_withheld, withheld_classes
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from manifolds.regularizers import AbstractDraws


@dataclass(frozen=True)
class CosineConfig:
    """Settings of cosine scoring; its scale is that of the frozen CLIP.

    Attributes:
        withheld: share of the training classes that play novel in a step, see `heads.episodes`.
    """

    withheld: float = 0.0

    def __post_init__(self) -> None:
        check_withheld("cosine", self.withheld)


@dataclass(frozen=True)
class EncodedClasses:
    """The class features, and which classes the step withholds.

    Attributes:
        weights: (K, D) of unit length.
        withheld: (K,), or None where all images are scored among all names.
    """

    weights: Float[Tensor, "k d"]
    withheld: Bool[Tensor, " k"] | None


@register(
    "cosine",
    "head",
    CosineConfig,
    summary="cosine of image and class features",
    source="Radford et al. 2021, arXiv 2103.00020",
    starts_at_zero_shot=True,
)
class Cosine(AbstractHead):
    """logits = exp(logit_scale) * <image, class>, both L2-normalised."""

    any_width = True

    def __init__(self, config: CosineConfig, context: BuildContext) -> None:
        super().__init__()
        self.config, self.scale = config, context.logit_scale

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> EncodedClasses:
        """The class features."""
        return EncodedClasses(classes.weights, withheld_classes(len(classes), self.config.withheld, draws))

    def logits(self, images: ImageFeatures, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        """Scaled cosines."""
        return similarities(self.scale * images.pooled, encoded.weights)

    def losses(self, images: ImageFeatures, encoded: EncodedClasses, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross entropy."""
        logits = among_own(self.logits(images, encoded), labels, encoded.withheld)
        return {"cross_entropy": cross_entropy(logits.float(), labels)}
