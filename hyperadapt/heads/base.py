"""What a head owes to the rest: adapted features in, one logit a class out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperadapt.backbone import ImageFeatures
from hyperadapt.text import ClassText
from manifolds.regularizers import AbstractDraws


def similarities(x: Float[Tensor, "b d"], y: Float[Tensor, "k d"]) -> Float[Tensor, "b k"]:
    """``x @ y.T``, whose gradients round alike in a run by itself and in a batch of runs.

    autograd turns the product for the gradient of a transposed matrix around, but not that of a batch of them; a sum of
    products is a batch of one in either case.

    Example:
        >>> similarities(torch.eye(2), torch.tensor([[1.0, 2.0]])).tolist()
        [[1.0], [2.0]]
    """
    return torch.einsum("bd,kd->bk", x, y)


class AbstractHead(nn.Module, ABC):
    """Scores images against classes.

    Obligations, checked over the registry by the contract tests: permuting the classes permutes the logits; any number
    of classes can be scored, by the rule that the registration states for classes without training images.

    Attributes:
        pools_parts: whether the head reads `ImageFeatures.parts` where images have them.
        reads_pixels: whether the head reads `ImageFeatures.pixels`, as an adapter before it leaves them.
        reads_shots: whether `prepare` wants the training images.
        selects: whether `select` wants validation images.
        guides: names of its loss terms that only guide: steps follow the other terms and never oppose these.
        any_width: whether features of any width are scored, not of that of the tower alone.
    """

    any_width: bool = False
    pools_parts: bool = False
    reads_pixels: bool = False
    reads_shots: bool = False
    selects: bool = False
    guides: tuple[str, ...] = ()

    @property
    def compares_classes(self) -> bool:
        """Whether a class' score depends on which other classes are listed."""
        return False

    def prepare(self, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText) -> None:
        """Look at all training images once, before the first step; called where `reads_shots`.

        What is kept of them must be in the state dict, in shapes that the `BuildContext` decides.

        Args:
            images: (V * N) features as the untrained adapter gives them, view-major, as in a `TrainingSet`.
            labels: (N,) indices into the classes.
            classes: the training classes, adapted.
        """
        raise NotImplementedError

    def begin_phase(self, classes: ClassText) -> None:
        """Called before the first step of each phase of a training that has phases; by default nothing happens.

        Parameters that this phase trains are those that require a gradient.

        Args:
            classes: the training classes as the adapter gives them by now.
        """
        return

    def select(self, batches: Sequence[ImageFeatures], encoded: Any, labels: Int[Tensor, " n"]) -> str:
        """Choose settings on validation images of the training classes, after training; called where `selects`.

        No other image is ever at hand: where a draw has no validation images there are no batches, and settings stay
        as they are. What is chosen must be in the state dict.

        Args:
            batches: adapted features, in the order of the labels.
            encoded: the training classes, from `encode_classes`.
            labels: (N,) indices into the training classes.

        Returns:
            What was chosen and how, as a clause for the result file.
        """
        raise NotImplementedError

    @abstractmethod
    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> Any:
        """What scoring needs of the classes; computed once per class list in evaluation, once a step in training.

        Args:
            classes: adapted classes.
            draws: random numbers of a training step, the only ones it may use; None in evaluation.
        """

    def in_batch(self, encoded: Any, labels: Int[Tensor, " b"]) -> Any:
        """The encoded classes of a training step once its labels are known; here as they are.

        Args:
            encoded: from `encode_classes` with draws.
            labels: (B,) of the whole batch, of which `losses` may see a share.
        """
        return encoded

    @abstractmethod
    def logits(self, images: ImageFeatures, encoded: Any) -> Float[Tensor, "b k"]:
        """Scores of each image for each class."""

    @abstractmethod
    def losses(self, images: ImageFeatures, encoded: Any, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Training losses by name, already weighted."""

    @staticmethod
    def controls(config: Any) -> dict[str, Any]:
        """Settings that take one claim of the method away, by a name each, to be run beside these settings."""
        return {}
