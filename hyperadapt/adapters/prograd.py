"""ProGrad: CoOp that takes no step against what frozen CLIP says."""

from dataclasses import dataclass, field

from torch import Tensor
from torch.nn.functional import cross_entropy

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.adapters.coop import CoOp, CoOpConfig, rule_for_new_classes
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class ProGradConfig:
    """Settings of ProGrad.

    Attributes:
        temperature: that both predictions are softened by before they are compared.
        prompts: the learned prompts.
    """

    temperature: float = 1.0
    prompts: CoOpConfig = field(default_factory=CoOpConfig)

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise InputError(f"prograd needs temperature > 0, got {self.temperature}")


@register(
    "prograd",
    "adapter",
    ProGradConfig,
    summary="CoOp whose gradient never opposes that of the distance to zero-shot predictions",
    source="Zhu et al. 2023, arXiv 2205.14865",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=2e-3, momentum=0.9, weight_decay=5e-4, epochs=100, batch_size=32
    ),
    novel=lambda config: rule_for_new_classes(config.prompts),
    needs_tower=True,
)
class ProGrad(AbstractAdapter):
    """CoOp; where gradients g of its loss and h of KL(zero-shot || learned) disagree, g - <g, h> h / <h, h> is used.

    The training step does that, parameter by parameter as the release (see `training.guidance`); the term "zero_shot"
    only guides. It is the cross entropy under zero-shot probabilities, whose gradient is that of the divergence. The
    zero-shot text is the first template of the data set, as the release has one hand-made template for each. The
    contexts are CoOp's own four; the release puts up to 16 tokens before new classes, the last of them the template's.
    """

    guides = ("zero_shot",)

    def __init__(self, config: ProGradConfig, context: BuildContext) -> None:
        super().__init__()
        self.temperature, self.scale = config.temperature, context.logit_scale
        self.prompts = CoOp(config.prompts, context)

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """CoOp's prompts of the listed names."""
        return self.prompts.adapt_classes(classes)

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images as they are."""
        return images

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Cross entropy of the predictions under those of frozen CLIP, a guiding term."""
        scale = self.scale / self.temperature
        zero_shot = scale * batch.frozen_images.pooled @ batch.frozen_classes.templates[0].T
        learned = scale * batch.images.pooled @ batch.classes.weights.T
        divergence = cross_entropy(learned.float(), zero_shot.float().softmax(dim=-1))
        return {"zero_shot": self.temperature**2 * divergence}
