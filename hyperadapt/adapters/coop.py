"""CoOp: context vectors before the class name, learned through the frozen text tower."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch, positions_among
from hyperadapt.backbone import ImageFeatures
from hyperadapt.contexts import AttributeTokens, PromptedNames, Start, first_contexts
from hyperadapt.errors import InputError
from hyperadapt.registry import ZERO_SHOT_BY_NAME, register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from hyperadapt.transfer import sent


@dataclass(frozen=True)
class CoOpConfig:
    """Settings of CoOp.

    Attributes:
        context_length: learned tokens before the class name; the paper takes 4 for new classes and 16 where all
            classes are known.
        start: "words" ("a photo of a", where that makes `context_length` tokens) or "random", see `first_contexts`.
        class_specific: contexts of its own for each training class, instead of shared ones.
        attributes: words before the contexts, each after learned vectors of its own, as ATPrompt has them (arXiv
            2412.09442); the same for all classes.
        attribute_tokens: learned vectors before each of these words.
    """

    context_length: int = 4
    start: Start = "words"
    class_specific: bool = False
    attributes: tuple[str, ...] = ()
    attribute_tokens: int = 2

    def __post_init__(self) -> None:
        if self.context_length < 1 or self.attribute_tokens < 1:
            given = f"{self.context_length} and {self.attribute_tokens}"
            raise InputError(f"coop needs context_length and attribute_tokens of at least 1, got {given}")


def rule_for_new_classes(config: CoOpConfig) -> str:
    """How prompts with these settings serve names without training images."""
    return ZERO_SHOT_BY_NAME if config.class_specific else "learned contexts with new names"


@register(
    "coop",
    "adapter",
    CoOpConfig,
    summary="learned context vectors before the class name, through the frozen text tower",
    source="Zhou et al. 2022, arXiv 2109.01134",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=2e-3, momentum=0.9, weight_decay=5e-4, epochs=50, batch_size=32, warmup_epochs=1
    ),
    novel=rule_for_new_classes,
    needs_tower=True,
)
class CoOp(AbstractAdapter):
    """Class features are those of [start][attributes][contexts]{class}.[end]; image features stay frozen.

    Every class passes the tower at every step, whatever is in the batch. The release trains 50 epochs with one shot a
    class and on ImageNet, 100 with two or four and 200 with more; 50 are the default here. For few shots the paper
    takes 16 random vectors (`context_length: 16`, `start: random`).
    """

    def __init__(self, config: CoOpConfig, context: BuildContext) -> None:
        super().__init__()
        classes, tower = context.classes, context.classes.prompt_tower
        self.training_names = classes.names
        self.class_specific = config.class_specific
        owners = len(classes) if config.class_specific else 1
        self.contexts = nn.Parameter(first_contexts(tower, config.context_length, config.start, owners))
        words, tokens = config.attributes, config.attribute_tokens
        self.attributes = AttributeTokens(tower, words, tokens) if words else None

    def _prompted(self, classes: ClassText, contexts: Float[Tensor, "o m w"]) -> Float[Tensor, "k d"]:
        before = contexts if self.attributes is None else self.attributes(contexts)
        return PromptedNames.of(classes, before.shape[1]).features(before[None])[0]

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Prompts of the listed names; of the training classes alone where contexts belong to classes."""
        if not self.class_specific or classes.names == self.training_names:
            return classes.with_weights(self._prompted(classes, self.contexts))
        positions = positions_among(classes.names, self.training_names)
        known = [place for place, position in enumerate(positions) if position >= 0]
        if not known:
            return classes
        prompted = self._prompted(classes.select(known), self.contexts[[positions[place] for place in known]])
        places = sent(torch.tensor(known), prompted.device)
        return classes.with_weights(classes.weights.index_copy(0, places, prompted.to(classes.weights.dtype)))

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images as they are."""
        return images

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}

    @staticmethod
    def adapts_alone(config: Any) -> bool:
        """Unless contexts belong to classes."""
        return not config.class_specific
