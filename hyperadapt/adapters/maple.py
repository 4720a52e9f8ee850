"""MaPLe: prompts in several layers of both towers, those of the image tower made from those of the text tower."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.adapters.deep_prompts import image_pass, prompted_classes, prompted_images, text_prompts
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class MaPLeConfig:
    """Settings of MaPLe.

    Attributes:
        context_length: learned tokens of each prompt.
        depth: blocks with a prompt of their own, in both towers; as many as both towers have, where these are fewer.
    """

    context_length: int = 2
    depth: int = 9

    def __post_init__(self) -> None:
        if self.context_length < 1 or self.depth < 1:
            raise InputError(f"maple needs context_length and depth >= 1, got {self.context_length} and {self.depth}")


@register(
    "maple",
    "adapter",
    MaPLeConfig,
    summary="prompts in several layers of both towers, the image tower's made from the text tower's",
    source="Khattak et al. 2023, arXiv 2210.03117",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=3.5e-3, momentum=0.9, weight_decay=5e-4, epochs=5, batch_size=4, warmup_epochs=1
    ),
    needs_tower=True,
)
class MaPLe(AbstractAdapter):
    """Text prompts P_0, P_1, ... before the blocks of the text tower, F_j(P_j) before those of the image tower.

    F_j is a linear map with a bias, one a layer. The first text prompt starts at "a photo", and "of a" stands between
    it and the name, as in the release; all else starts at random.

    The settings are the paper's for base-to-novel, in every protocol; across data sets it trains 3 layers for 2 epochs
    at 2.6e-3 (`depth: 3, epochs: 2, learning_rate: 2.6e-3`).
    """

    reads_pixels = True

    def __init__(self, config: MaPLeConfig, context: BuildContext) -> None:
        super().__init__()
        tower, images = context.classes.prompt_tower, image_pass(context.classes)
        prompts, self.words = text_prompts(tower, min(config.depth, images.layers), config.context_length)
        self.prompts = nn.Parameter(prompts)
        self.couplings = nn.ModuleList(nn.Linear(tower.width, images.width) for _ in prompts)

    def image_prompts(self) -> Float[Tensor, "l m w"]:
        """F_j(P_j) of all layers."""
        return torch.stack([coupling(prompt) for coupling, prompt in zip(self.couplings, self.prompts, strict=True)])

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Prompts of the listed names."""
        return prompted_classes(classes, self.prompts, self.words)

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images through the prompted tower."""
        return prompted_images(images, classes, self.image_prompts())

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}
