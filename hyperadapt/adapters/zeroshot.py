"""Zero-shot CLIP: nothing is adapted; the prompt ensemble or one template scores."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.registry import register
from hyperadapt.text import ClassText


@dataclass(frozen=True)
class ZeroShotConfig:
    """Settings of zero-shot scoring.

    Attributes:
        text: "ensemble" scores with the mean over templates, "template" with the first template alone.
    """

    text: Literal["ensemble", "template"] = "ensemble"


@register(
    "zero-shot",
    "adapter",
    ZeroShotConfig,
    summary="frozen CLIP with its prompt templates",
    source="Radford et al. 2021, arXiv 2103.00020",
    starts_at_zero_shot=lambda config: config.text == "ensemble",
)
class ZeroShot(AbstractAdapter):
    """The identity on images; chooses which frozen text features score."""

    def __init__(self, config: ZeroShotConfig, context: BuildContext) -> None:
        super().__init__()
        self.config = config

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """The classes as they are, or with the first template's features as weights."""
        return classes if self.config.text == "ensemble" else classes.with_weights(classes.templates[0])

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images as they are."""
        return images

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}

    @staticmethod
    def adapts_alone(config: Any) -> bool:
        """Yes."""
        return True
