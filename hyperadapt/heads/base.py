"""What a head owes to the rest: adapted features in, one logit a class out."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperadapt.backbone import ImageFeatures
from hyperadapt.text import ClassText
from manifolds.regularizers import AbstractDraws


class AbstractHead(nn.Module, ABC):
    """Scores images against classes.

    Obligations, checked over the registry by the contract tests: permuting the classes permutes the logits; any number
    of classes can be scored, by the rule that the registration states for classes without training images.

    Attributes:
        pools_parts: whether the head reads `ImageFeatures.parts` where images have them.
    """

    pools_parts: bool = False

    @abstractmethod
    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> Any:
        """What scoring needs of the classes; computed once per class list in evaluation, once a step in training.

        Args:
            classes: adapted classes.
            draws: random numbers of a training step, the only ones it may use; None in evaluation.
        """

    @abstractmethod
    def logits(self, images: ImageFeatures, encoded: Any) -> Float[Tensor, "b k"]:
        """Scores of each image for each class."""

    @abstractmethod
    def losses(self, images: ImageFeatures, encoded: Any, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Training losses by name, already weighted."""
