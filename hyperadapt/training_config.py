"""How a method is trained, as data; free of torch so that listings stay quick."""

from dataclasses import dataclass
from typing import Literal

from hyperadapt.errors import InputError


@dataclass(frozen=True)
class TrainingConfig:
    """Optimiser, schedule and length of a training run.

    Attributes:
        optimizer: "sgd", "adam" or "adamw".
        learning_rate: peak rate.
        weight_decay: decoupled for adamw, L2 otherwise.
        momentum: of sgd.
        epochs: passes over the training rows (all views of an image count as rows of one pass of that image: each
            epoch takes one view of each image).
        steps: number of steps; overrides `epochs` when given.
        batch_size: images a step, clamped to the number of training images.
        warmup_epochs: linear warm-up, in epochs; cosine to zero after it.
        clip_norm: gradient norm bound, or None.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    epochs: int = 50
    steps: int | None = None
    batch_size: int = 64
    warmup_epochs: int = 1
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if (
            self.learning_rate <= 0
            or self.batch_size < 1
            or self.epochs < 1
            or (self.steps is not None and self.steps < 1)
        ):
            raise InputError(
                "training needs learning_rate > 0, epochs, steps and batch_size >= 1, got "
                f"{self.learning_rate}, {self.epochs}, {self.steps} and {self.batch_size}"
            )
