"""The head of training on pairs: cosine scores, InfoNCE in both directions."""

from typing import final

from jaxtyping import Float, Int
from torch import Tensor

from hyperadapt.backbone import ImageFeatures
from hyperadapt.heads.base import AbstractHead
from hyperadapt.retrieval.losses import info_nce
from hyperadapt.text import ClassText
from manifolds.regularizers import AbstractDraws


@final
class Contrastive(AbstractHead):
    """logits = exp(logit_scale) * <image, caption>, both L2-normalised; image i of a batch belongs to caption i.

    Args:
        scale: CLIP's factor on cosine similarities.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> Float[Tensor, "k d"]:
        """The features of the captions."""
        return classes.weights

    def logits(self, images: ImageFeatures, encoded: Float[Tensor, "k d"]) -> Float[Tensor, "b k"]:
        """Scaled cosines."""
        return self.scale * images.pooled @ encoded.T

    def losses(
        self, images: ImageFeatures, encoded: Float[Tensor, "k d"], labels: Int[Tensor, " b"]
    ) -> dict[str, Tensor]:
        """InfoNCE by direction."""
        to_text, to_image = info_nce(self.logits(images, encoded).float())
        return {"image_to_text": to_text, "text_to_image": to_image}
