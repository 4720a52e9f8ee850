"""What an adapter owes to the rest: class features and image features in, the same kinds out."""

from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperadapt.backbone import ImageFeatures
from hyperadapt.text import ClassText
from hyperadapt.transfer import sent
from manifolds.regularizers import AbstractDraws


@dataclass(frozen=True)
class BuildContext:
    """What a component may know when it is built: the frozen features of the training classes, never an image.

    Attributes:
        classes: the training classes.
        embed_dim: width D of the joint space.
        part_width: width of the tower features that produce attention maps; None where images have no part features.
        logit_scale: CLIP's factor on cosine similarities.
        training_images: how many images will be trained on, for penalties that a larger set outweighs.
        images_per_class: how many of them each training class has; empty where nobody said.
    """

    classes: ClassText
    embed_dim: int
    part_width: int | None
    logit_scale: float
    training_images: int = 1
    images_per_class: tuple[int, ...] = ()

    @property
    def counts(self) -> tuple[int, ...]:
        """`images_per_class`, or one image a class where nobody said."""
        return self.images_per_class or (1,) * len(self.classes)


def positions_among(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Position of each name among the known ones, -1 for a new name; namesakes take their positions in order.

    What was trained for one class is found again by this rule, whatever list the class stands in.

    Example:
        >>> positions_among(["dog", "crane", "emu", "crane"], ["crane", "crane", "dog"])
        [2, 0, -1, 1]
    """
    free: defaultdict[str, deque[int]] = defaultdict(deque)
    for position, name in enumerate(known):
        free[name].append(position)
    return [free[name].popleft() if free[name] else -1 for name in names]


def known_positions(names: Sequence[str], known: Sequence[str], device: torch.device) -> Int[Tensor, " k"] | None:
    """`positions_among` on a device; None where the names are the known ones in their order.

    Args:
        names: any list of classes.
        known: names of the classes that were trained.
        device: where the positions go.
    """
    return None if tuple(names) == tuple(known) else sent(torch.tensor(positions_among(names, known)), device)


def rows_by_name(table: Float[Tensor, "c ..."], known: Sequence[str], names: Sequence[str]) -> Float[Tensor, "k ..."]:
    """What was kept for each named class, and zeros for a new name.

    Args:
        table: one row a known class.
        known: names of the rows.
        names: any list of classes.

    Example:
        >>> rows_by_name(torch.tensor([[1.0], [2.0]]), ["ant", "bee"], ["bee", "cat"])
        tensor([[2.],
                [0.]])
    """
    positions = known_positions(names, known, table.device)
    if positions is None:
        return table
    return torch.where((positions >= 0).view(-1, *[1] * (table.ndim - 1)), table[positions], table.new_zeros(()))


@dataclass(frozen=True)
class TrainingBatch:
    """One step's input to a regulariser.

    Attributes:
        images: adapted pooled features of the batch; of all processes where several share it, with gradients to each.
        classes: adapted training classes.
        labels: (B,) indices into the classes.
        draws: random numbers of the step, on the features' device and equal in all processes; a loss has no others.
        frozen_images: pooled features of the same images before the adapter.
        frozen_classes: the training classes before the adapter, one row a template in `templates`.
        host_labels: the labels on the CPU; None where the step does not know them there.
    """

    images: ImageFeatures
    classes: ClassText
    labels: Int[Tensor, " b"]
    draws: AbstractDraws
    frozen_images: ImageFeatures
    frozen_classes: ClassText
    host_labels: Int[Tensor, " b"] | None = None


class AbstractAdapter(nn.Module, ABC):
    """Maps frozen features to adapted ones.

    Obligations, checked over the registry by the contract tests: permuting the classes permutes `adapt_classes`; any
    number of classes works with the same weights, so names without training images are served; inputs are not
    changed in place; an adapter registered with `starts_at_zero_shot` is the identity before training.

    Attributes:
        pools_parts: whether the adapter reads `ImageFeatures.parts` where images have them.
        reads_pixels: whether the adapter passes images through a tower of its own making: `ImageFeatures.pixels` are
            there then, and the frozen tower's features beside them. To be registered with `needs_tower`.
        reads_shots: whether `prepare` wants the training images.
        chooses_classes: whether `taking_part` says which classes a training step is about.
        guides: names of its loss terms that only guide: steps follow the other terms and never oppose these.
    """

    pools_parts: bool = False
    reads_pixels: bool = False
    reads_shots: bool = False
    chooses_classes: bool = False
    guides: tuple[str, ...] = ()

    @property
    def widens(self) -> bool:
        """Whether features come out wider than they go in; few heads take them then."""
        return False

    @property
    def chooses_reach(self) -> bool:
        """Whether `set_reach` wants a number from `hyperadapt.reach` after training."""
        return False

    def set_reach(self, part: float) -> None:
        """How far images go towards where they are adapted when a list has names without training images, in [0, 1]."""
        raise NotImplementedError

    def prepare(self, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText) -> None:
        """Look at all training images once, before the first step; called where `reads_shots`.

        What is kept of them must be in the state dict, in shapes that the `BuildContext` decides.

        Args:
            images: (V * N) frozen features, view-major, as in a `TrainingSet`.
            labels: (N,) indices into the classes.
            classes: the training classes, frozen.
        """
        raise NotImplementedError

    def drawing(self, draws: AbstractDraws, own: slice, count: int) -> AbstractContextManager[None]:
        """A stretch in which `adapt_classes` and `adapt_images` belong to one training step and may be random.

        Args:
            draws: the only random numbers that they may use, equal in all processes.
            own: the images that this process adapts, of all those of the batch: what is drawn for images is drawn for
                the whole batch, so that processes together see what one alone would.
            count: images of the batch.
        """
        return nullcontext()

    def taking_part(
        self, classes: ClassText, images: ImageFeatures, labels: Int[Tensor, " b"], draws: AbstractDraws
    ) -> Int[Tensor, " k"] | None:
        """The classes that a training step is about, ascending, among them those of its labels; None for all of them.

        Called where `chooses_classes`. Python passes on the texts of these alone, so all arguments are on the CPU, and
        the answer is.

        Args:
            classes: the training classes, frozen.
            images: frozen pooled features of the whole batch.
            labels: (B,) indices into the classes.
            draws: random numbers of the step, by `draws.host`.
        """
        raise NotImplementedError

    @abstractmethod
    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Adapted class features, (K, D) L2-normalised in `weights`."""

    @abstractmethod
    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """Adapted image features, given the already adapted classes."""

    @abstractmethod
    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Terms added to the classification loss, by name, already weighted; empty when there are none."""

    def describe(self, batch: TrainingBatch, frozen: ClassText, image_names: Sequence[str]) -> dict[str, Any] | None:
        """What was learnt, as plain data that a person can read; None where there is nothing to tell.

        Args:
            batch: all training images and classes, adapted.
            frozen: the classes before the adapter.
            image_names: one name an image.
        """
        return None

    @staticmethod
    def adapts_alone(config: Any) -> bool:
        """Whether every text and every image is adapted by itself under these settings, whatever else is listed.

        Captions then do as well as class names, which is what retrieval takes.
        """
        return False

    @staticmethod
    def controls(config: Any) -> dict[str, Any]:
        """Settings that take one claim of the method away, by a name each, to be run beside these settings."""
        return {}
