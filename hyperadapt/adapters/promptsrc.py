"""PromptSRC: independent prompts in several layers of both towers, held near frozen CLIP."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import kl_div, l1_loss, log_softmax

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.adapters.deep_prompts import (
    image_pass,
    image_prompts,
    prompted_classes,
    prompted_images,
    text_prompts,
)
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class PromptSRCConfig:
    """Settings of PromptSRC.

    Attributes:
        text_length, image_length: learned tokens of each prompt.
        text_depth, image_depth: blocks with a prompt of their own; as many as a tower has, where these are fewer.
        text_weight: of the mean absolute difference between class features and frozen ones.
        image_weight: of the same between image features.
        logits_weight: of the divergence of the classification from that of frozen features.
    """

    text_length: int = 4
    image_length: int = 4
    text_depth: int = 9
    image_depth: int = 9
    text_weight: float = 25.0
    image_weight: float = 10.0
    logits_weight: float = 1.0

    def __post_init__(self) -> None:
        sizes = (self.text_length, self.image_length, self.text_depth, self.image_depth)
        weights = (self.text_weight, self.image_weight, self.logits_weight)
        if min(sizes) < 1 or min(weights) < 0:
            raise InputError(f"promptsrc needs lengths and depths >= 1 and weights >= 0, got {sizes} and {weights}")


@register(
    "promptsrc",
    "adapter",
    PromptSRCConfig,
    summary="prompts in several layers of both towers, held near frozen CLIP and averaged over epochs",
    source="Khattak et al. 2023, arXiv 2307.06948",
    training=TrainingConfig(
        optimizer="sgd",
        learning_rate=2.5e-3,
        momentum=0.9,
        weight_decay=5e-4,
        epochs=20,
        batch_size=4,
        warmup_epochs=1,
        average="gaussian",
        average_mean=15.0,
        average_std=1.0,
    ),
    needs_tower=True,
)
class PromptSRC(AbstractAdapter):
    """Prompts of both towers learnt apart; three losses tie features and scores to those of frozen CLIP.

    L = CE + 25 mean|T - T0| + 10 mean|f - f0| + sum p0 log(p0 / p) / (B C), p the softmax of the scores, 0 for frozen
    CLIP. T0 is the frozen class feature over the templates of the source, of which data sets by CoOp's rules have one
    unless more are given (`--template`); the release takes 60 general ones.
    With weights of zero this is IVLP, the independent prompts alone.

    The settings are the paper's for base-to-novel, in every protocol. For few-shot it trains 50 epochs with the average
    about the 30th (`epochs: 50, average_mean: 30, average_std: 30`), across data sets 3 layers with the average about
    the 6th (`text_depth: 3, image_depth: 3, average_mean: 6, average_std: 10`).
    """

    reads_pixels = True

    def __init__(self, config: PromptSRCConfig, context: BuildContext) -> None:
        super().__init__()
        self.config, self.logit_scale = config, context.logit_scale
        classes = context.classes
        texts, self.words = text_prompts(classes.prompt_tower, config.text_depth, config.text_length)
        self.text_prompts = nn.Parameter(texts)
        self.image_prompts = nn.Parameter(image_prompts(image_pass(classes), config.image_depth, config.image_length))

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Prompts of the listed names."""
        return prompted_classes(classes, self.text_prompts, self.words)

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images through the prompted tower."""
        return prompted_images(images, classes, self.image_prompts)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Distances of class features, image features and scores from frozen CLIP's; none with a weight of zero."""
        images, classes = batch.images.pooled, batch.classes.weights
        frozen_images, frozen_classes = batch.frozen_images.pooled, batch.frozen_classes.weights
        scores, frozen_scores = (
            log_softmax(self.logit_scale * f @ t.T, dim=1)
            for f, t in ((images, classes), (frozen_images, frozen_classes))
        )
        divergence = kl_div(scores, frozen_scores, reduction="sum", log_target=True) / scores.numel()
        terms = {
            "near_text": (self.config.text_weight, l1_loss(classes, frozen_classes)),
            "near_image": (self.config.image_weight, l1_loss(images, frozen_images)),
            "near_logits": (self.config.logits_weight, divergence),
        }
        return {name: weight * term for name, (weight, term) in terms.items() if weight}
