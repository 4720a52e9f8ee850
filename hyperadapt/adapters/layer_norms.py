"""Scales and shifts of the layer normalisations of both towers: the first stage of 2SFS, and a method of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import normalize

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.tower_weights import TEMPLATE, OwnWeights, check_template
from hyperadapt.training_config import TrainingConfig


@dataclass(frozen=True)
class LayerNormsConfig:
    """Settings of tuned layer normalisations.

    Attributes:
        towers: which towers are tuned; "text" also serves image towers without layer normalisations, such as ResNets.
        template: the prompt of every class.
    """

    towers: Literal["both", "text", "image"] = "both"
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        check_template("layer-norms", self.template)


def _norms(tower: nn.Module, which: str) -> dict[str, nn.Parameter]:
    """Scales and shifts of a tower's layer normalisations by name; of the text tower without an image tower in it.

    Raises:
        InputError: where there are none.
    """
    found = {
        f"{place}.{name}": parameter
        for place, module in tower.named_modules()
        if isinstance(module, nn.LayerNorm) and not place.startswith("visual.")
        for name, parameter in module.named_parameters()
    }
    if not found:
        raise InputError(
            f"layer-norms tunes layer normalisations, and the {which} tower {type(tower).__name__} has none; set its "
            "towers to the other one, or use another backbone"
        )
    return found


@register(
    "layer-norms",
    "adapter",
    LayerNormsConfig,
    summary="tuned scales and shifts of all layer normalisations of both towers",
    source="Farina et al. 2025, arXiv 2503.11609",
    training=TrainingConfig(
        optimizer="adamw",
        learning_rate=2e-4,
        weight_decay=1e-2,
        steps_per_shot=300,
        batch_size=32,
        warmup_epochs=0,
        final_rate=1e-6,
    ),
    novel="the tuned towers with new names",
    needs_tower=True,
)
class LayerNorms(AbstractAdapter):
    """Both towers with layer normalisations of their own; everything else in them is the frozen towers'."""

    reads_pixels = True

    def __init__(self, config: LayerNormsConfig, context: BuildContext) -> None:
        super().__init__()
        self.config = config
        tower = context.classes.prompt_tower
        text: Mapping[str, nn.Parameter] = _norms(tower.tower, "text") if config.towers != "image" else {}
        image: Mapping[str, nn.Parameter] = _norms(tower.model.visual, "image") if config.towers != "text" else {}
        self.text, self.image = OwnWeights(text), OwnWeights(image)

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """The one template through the tuned text tower."""
        tower = classes.prompt_tower
        texts = [self.config.template.format(name) for name in classes.names]
        return classes.with_weights(self.text.inside(tower.tower, lambda: tower.pass_texts(texts)))

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """Images through the tuned image tower; as they are where it is not tuned."""
        if self.config.towers == "text":
            return images
        model = classes.prompt_tower.model
        found = self.image.inside(model.visual, lambda: model.encode_image(images.tower_input))
        return ImageFeatures(normalize(found.float(), dim=-1))

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}
