"""CoOp: context vectors before the class name, learned through the frozen text tower."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch, positions_among
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig

FIRST_WORDS = "a photo of a"


@dataclass(frozen=True)
class CoOpConfig:
    """Settings of CoOp.

    Attributes:
        context_length: learned tokens before the class name; the paper takes 4 for new classes and 16 where all
            classes are known.
        start: "words" starts at the embeddings of "a photo of a", where the tokenizer makes `context_length` tokens of
            it, and at random otherwise; "random" is normal with a standard deviation of 0.02.
        class_specific: contexts of its own for each training class, instead of shared ones.
    """

    context_length: int = 4
    start: Literal["words", "random"] = "words"
    class_specific: bool = False

    def __post_init__(self) -> None:
        if self.context_length < 1:
            raise InputError(f"coop needs context_length >= 1, got {self.context_length}")


@register(
    "coop",
    "adapter",
    CoOpConfig,
    summary="learned context vectors before the class name, through the frozen text tower",
    source="Zhou et al. 2022, arXiv 2109.01134",
    training=TrainingConfig(
        optimizer="sgd", learning_rate=2e-3, momentum=0.9, weight_decay=5e-4, epochs=50, batch_size=32, warmup_epochs=1
    ),
    novel="learned contexts with new names; where contexts belong to classes, zero-shot",
    needs_tower=True,
)
class CoOp(AbstractAdapter):
    """Class features are those of [start][contexts]{class}.[end]; image features stay frozen.

    Every class passes the tower at every step, whatever is in the batch. The release trains 50 epochs with one shot a
    class and on ImageNet, up to 200 otherwise; 50 are taken everywhere here.
    """

    def __init__(self, config: CoOpConfig, context: BuildContext) -> None:
        super().__init__()
        classes = context.classes
        tower, length = classes.prompt_tower, config.context_length
        self.training_names = classes.names
        self.class_specific = config.class_specific
        owners = len(classes) if config.class_specific else 1
        contexts = torch.randn(owners, length, tower.width) * 0.02
        words = tower.word_vectors(FIRST_WORDS) if config.start == "words" else contexts[0]
        if config.start == "words" and len(words) == length:
            contexts = words.to(contexts).expand(owners, -1, -1).clone()
        self.contexts = nn.Parameter(contexts)

    def _prompted(self, classes: ClassText, contexts: Float[Tensor, "o m w"]) -> Float[Tensor, "k d"]:
        tower = classes.prompt_tower
        ids = tower.tokenize([f"{name}." for name in classes.names], reserve=contexts.shape[1])
        return tower.prompts(contexts[None], ids)[0]

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Prompts of the listed names; of the training classes alone where contexts belong to classes."""
        if not self.class_specific or classes.names == self.training_names:
            return classes.with_weights(self._prompted(classes, self.contexts))
        positions = positions_among(classes.names, self.training_names)
        known = [place for place, position in enumerate(positions) if position >= 0]
        if not known:
            return classes
        prompted = self._prompted(classes.select(known), self.contexts[[positions[place] for place in known]])
        places = torch.tensor(known, device=prompted.device)
        return classes.with_weights(classes.weights.index_copy(0, places, prompted.to(classes.weights.dtype)))

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images as they are."""
        return images

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}
