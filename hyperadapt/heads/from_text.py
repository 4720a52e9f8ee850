"""A linear classifier that starts at the texts: the second stage of 2SFS, and a method on frozen features."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext, positions_among, rows_by_name
from hyperadapt.backbone import ImageFeatures
from hyperadapt.heads.base import AbstractHead, similarities
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from hyperadapt.transfer import sent
from manifolds.regularizers import AbstractDraws


@dataclass(frozen=True)
class FromTextConfig:
    """Settings of the classifier.

    Attributes:
        start: "frozen" starts at the frozen class features; "adapted" scores by the adapter's class features until a
            phase of training begins that trains the classifier, and starts at what they are then.
    """

    start: Literal["frozen", "adapted"] = "frozen"


@register(
    "from-text",
    "head",
    FromTextConfig,
    summary="a linear classifier that starts at the class features",
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
    novel="texts as the adapter gives them; known classes are told by their names, in any list",
    starts_at_zero_shot=True,
)
class FromText(AbstractHead):
    """Cosines with one trained vector a known class, and with the text of any other."""

    started: Tensor

    def __init__(self, config: FromTextConfig, context: BuildContext) -> None:
        super().__init__()
        self.scale = context.logit_scale
        self.training_names = context.classes.names
        self.weight = nn.Parameter(context.classes.weights.detach().clone())
        self.register_buffer("started", torch.tensor(config.start == "frozen"))

    def begin_phase(self, classes: ClassText) -> None:
        """Start at the texts when the classifier is trained for the first time."""
        if self.weight.requires_grad and not self.started:
            self.weight.copy_(classes.weights)
            self.started.fill_(True)

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> Float[Tensor, "k d"]:
        """Trained vectors of known names, texts of the others."""
        own = normalize(rows_by_name(self.weight, self.training_names, classes.names), dim=-1)
        known = sent(torch.tensor(positions_among(classes.names, self.training_names)), own.device) >= 0
        return torch.where((known & self.started)[:, None], own, classes.weights)

    def logits(self, images: ImageFeatures, encoded: Float[Tensor, "k d"]) -> Float[Tensor, "b k"]:
        """Scaled cosines."""
        return similarities(self.scale * images.pooled, encoded)

    def losses(
        self, images: ImageFeatures, encoded: Float[Tensor, "k d"], labels: Int[Tensor, " b"]
    ) -> dict[str, Tensor]:
        """Cross entropy."""
        return {"cross_entropy": cross_entropy(self.logits(images, encoded).float(), labels)}
