"""KgCoOp: CoOp whose class features are held near those of a hand-made prompt."""

from dataclasses import dataclass, field

from torch import Tensor

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.adapters.coop import CoOp, CoOpConfig, rule_for_new_classes
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class KgCoOpConfig:
    """Settings of KgCoOp.

    Attributes:
        consistency: factor on the distance from the hand-made prompt.
        prompts: the learned prompts.
    """

    consistency: float = 8.0
    prompts: CoOpConfig = field(default_factory=CoOpConfig)

    def __post_init__(self) -> None:
        if self.consistency < 0:
            raise InputError(f"kgcoop needs consistency >= 0, got {self.consistency}")


def distance_from_template(batch: TrainingBatch) -> Tensor:
    """Mean of 1 - cos between adapted class features and those of the first template."""
    return 1 - (batch.classes.weights * batch.frozen_classes.templates[0]).sum(dim=-1).mean()


@register(
    "kgcoop",
    "adapter",
    KgCoOpConfig,
    summary="CoOp whose class features are held near those of a hand-made prompt",
    source="Yao et al. 2023, arXiv 2303.13283",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=2e-3, momentum=0.9, weight_decay=5e-4, epochs=100, batch_size=128
    ),
    novel=lambda config: rule_for_new_classes(config.prompts),
    needs_tower=True,
)
class KgCoOp(AbstractAdapter):
    """CoOp with 8 * mean_c (1 - cos(T_c, W_c)) beside its loss; W are the features of the first template.

    The paper writes a hand-made template for each data set; the first template of the data set stands for it.
    """

    def __init__(self, config: KgCoOpConfig, context: BuildContext) -> None:
        super().__init__()
        self.weight = config.consistency
        self.prompts = CoOp(config.prompts, context)

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """CoOp's prompts of the listed names."""
        return self.prompts.adapt_classes(classes)

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images as they are."""
        return images

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """How far the class features are from the template's."""
        return {"consistency": self.weight * distance_from_template(batch)}
