"""Skip Tuning: the later layers of both towers tuned in full, each step for its most relevant classes alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import normalize

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.tower_weights import (
    TEMPLATE,
    OwnWeights,
    Remembered,
    check_template,
    image_features_from,
    image_states,
    image_transformer,
    text_transformer,
)
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import AbstractDraws

FIRST, LAST = 0.0, 5.0
"""Places on the decaying exponential of the first and the last class beyond those that always take part."""


@dataclass(frozen=True)
class SkipTuningConfig:
    """Settings of Skip Tuning, by default those of the release.

    Attributes:
        first_tuned: share of the blocks of a tower that come before the first tuned one: 6 of 12.
        relevant: share of the classes that always take part in a step.
        most_relevant: how many these are at most.
        decay: scale of the exponential by which the others take part less and less, the least relevant never.
        template: the prompt of every class.
    """

    first_tuned: float = 0.5
    relevant: float = 0.5
    most_relevant: int = 50
    decay: float = 0.3
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        if not (0 <= self.first_tuned < 1 and 0 < self.relevant <= 1 and self.most_relevant >= 1 and self.decay > 0):
            raise InputError(
                "skip-tuning needs first_tuned in [0, 1), relevant in (0, 1], most_relevant >= 1 and decay > 0, got "
                f"{self.first_tuned}, {self.relevant}, {self.most_relevant} and {self.decay}"
            )
        check_template("skip-tuning", self.template)

    def always(self, classes: int) -> int:
        """How many of the classes take part in every step."""
        return min(math.ceil(self.relevant * classes), self.most_relevant)

    def chances(self, classes: int) -> list[float]:
        """Chance of the first, second, ... class beyond those that always take part, from 1 to 0."""
        rest = classes - self.always(classes)
        places = [FIRST + (LAST - FIRST) * i / max(rest - 1, 1) for i in range(rest)]
        heights = [math.exp(-place / self.decay) for place in places]
        lowest = math.exp(-LAST / self.decay)
        return [(height - lowest) / (1 - lowest) for height in heights]


def _later(tower: Any, first: int, after: tuple[str, ...]) -> Mapping[str, Tensor]:
    """Weights from a block on and of what follows the blocks, by name inside the tower."""
    blocks = {f"transformer.resblocks.{i}." for i in range(first, len(tower.transformer.resblocks))}
    return {name: weight for name, weight in tower.named_parameters() if name.startswith((*blocks, *after))}


@register(
    "skip-tuning",
    "adapter",
    SkipTuningConfig,
    summary="the later layers of both towers tuned in full, each step for its most relevant classes",
    source="Wu et al. 2025, arXiv 2412.11509",
    training=TrainingConfig(
        optimizer="sgd",
        learning_rate=2e-5,
        momentum=0.9,
        weight_decay=5e-4,
        epochs=20,
        batch_size=4,
        warmup_epochs=0,
        rate_changes="epoch",
    ),
    novel="the tuned towers with new names",
    needs_tower=True,
)
class SkipTuning(AbstractAdapter):
    """Copies of the later layers; what the earlier, frozen ones make of an image or a name is remembered.

    A reading of the release, which trains 5 epochs on ImageNet, SUN397 and Food101: relevance is the cosine of the
    frozen image and class features, the release's at its first step, where it takes the image tower as tuned so far;
    classes beyond those that always take part are drawn anew at each step, where the release draws once which ranks
    take part, and relevance is to the nearest image of the batch. Momentum and decay are CoOp's; its first epoch at
    1e-5, half this rate, is left out.
    """

    reads_pixels = True
    chooses_classes = True

    def __init__(self, config: SkipTuningConfig, context: BuildContext) -> None:
        super().__init__()
        self.config = config
        tower = context.classes.prompt_tower
        text, visual = text_transformer(tower, "skip-tuning"), image_transformer(tower, "skip-tuning")
        self.first_text, self.first_image = (
            int(config.first_tuned * len(each.transformer.resblocks)) for each in (text, visual)
        )
        self.text = OwnWeights(_later(text, self.first_text, ("ln_final.", "text_projection")))
        self.image = OwnWeights(_later(visual, self.first_image, ("ln_post.", "proj")))
        self._of_images, self._of_texts = Remembered(), Remembered()

    def taking_part(
        self, classes: ClassText, images: ImageFeatures, labels: Int[Tensor, " b"], draws: AbstractDraws
    ) -> Int[Tensor, " k"] | None:
        """The most relevant classes and some others, ascending; always those of the labels."""
        always = self.config.always(len(classes))
        if always == len(classes):
            return None
        cosines = images.pooled @ classes.weights.T
        relevance = cosines.scatter(1, labels[:, None], 2.0).amax(dim=0)
        order = relevance.argsort(descending=True, stable=True)
        chances = torch.tensor(self.config.chances(len(classes)))
        drawn = draws.host(len(chances)) < chances
        own = torch.isin(order[always:], labels)
        return torch.cat([order[:always], order[always:][drawn | own]]).sort().values

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """The one template through the tuned text tower."""
        tower = classes.prompt_tower
        texts = [self.config.template.format(name) for name in classes.names]
        if self.training:
            states = self._of_texts.of(texts, lambda i: tower.states(texts[i], self.first_text))
            run = lambda: tower.features_from(texts, states, self.first_text)  # noqa: E731
        else:
            run = lambda: tower.pass_texts(texts)  # noqa: E731
        return classes.with_weights(self.text.inside(tower.tower, run))

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """Images through the tuned image tower."""
        visual, pixels, first = classes.prompt_tower.model.visual, images.tower_input, self.first_image
        if self.training and images.rows is not None:
            keys = images.rows.tolist()
            states = torch.cat(self._of_images.of(keys, lambda i: image_states(visual, pixels[i : i + 1], first)))
            run = lambda: image_features_from(visual, states, first)  # noqa: E731
        else:
            run = lambda: visual(pixels)  # noqa: E731
        return ImageFeatures(normalize(self.image.inside(visual, run).float(), dim=-1))

    def train(self, mode: bool = True) -> Self:
        """As of every module; what was remembered is forgotten when training begins and when it ends."""
        if mode != self.training:
            self._of_images.forget()
            self._of_texts.forget()
        return super().train(mode)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}
