"""What an adapter owes to the rest: class features and image features in, the same kinds out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor, nn

from hyperadapt.backbone import ImageFeatures
from hyperadapt.text import ClassText
from manifolds.regularizers import AbstractDraws


@dataclass(frozen=True)
class BuildContext:
    """What a component may know when it is built: the frozen features of the training classes, never an image.

    Attributes:
        classes: the training classes.
        embed_dim: width D of the joint space.
        part_width: width of the tower features that produce attention maps; None where images have no part features.
        logit_scale: CLIP's factor on cosine similarities.
    """

    classes: ClassText
    embed_dim: int
    part_width: int | None
    logit_scale: float


@dataclass(frozen=True)
class TrainingBatch:
    """One step's input to a regulariser.

    Attributes:
        images: adapted pooled features of the batch; of all processes where several share it, with gradients to each.
        classes: adapted training classes.
        labels: (B,) indices into the classes.
        draws: random numbers of the step, on the features' device and equal in all processes; a loss has no others.
    """

    images: ImageFeatures
    classes: ClassText
    labels: Int[Tensor, " b"]
    draws: AbstractDraws


class AbstractAdapter(nn.Module, ABC):
    """Maps frozen features to adapted ones.

    Obligations, checked over the registry by the contract tests: permuting the classes permutes `adapt_classes`; any
    number of classes works with the same weights, so names without training images are served; inputs are not
    changed in place; a residual adapter is the identity before training.
    """

    @abstractmethod
    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Adapted class features, (K, D) L2-normalised in `weights`."""

    @abstractmethod
    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """Adapted image features, given the already adapted classes."""

    @abstractmethod
    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Terms added to the classification loss, by name, already weighted; empty when there are none."""
