"""How a method is trained, as data; free of torch so that listings stay quick."""

from dataclasses import dataclass
from typing import Literal

from hyperadapt.errors import InputError


@dataclass(frozen=True)
class Phase:
    """A stretch of a run in which some parameters are trained and the others stay.

    Attributes:
        share: of the steps, relative to the shares of the other phases.
        trains: beginnings of the names of its parameters, such as "adapter." or "head.".
    """

    share: float
    trains: tuple[str, ...]


@dataclass(frozen=True)
class TrainingConfig:
    """Optimiser, schedule, length and record keeping of a training run.

    Attributes:
        optimizer: "sgd", "adam" or "adamw"; parameters on a manifold take its Riemannian counterpart (Adam for adamw).
        learning_rate: peak rate.
        weight_decay: decoupled for adamw, L2 otherwise; never on parameters on a manifold.
        momentum: of sgd.
        epsilon: of adam and adamw, added to the root of the second moment; not of parameters on a manifold.
        epochs: passes over the training rows (all views of an image count as rows of one pass of that image: each
            epoch takes one view of each image).
        steps: number of steps; overrides `epochs` when given.
        steps_per_shot: number of steps for each shot of a class (of the class with most); overrides `epochs`.
        batch_size: images a step, clamped to the number of training images; over all processes.
        warmup_epochs: linear warm-up, in epochs; cosine to `final_rate` after it.
        final_rate: where the cosine ends.
        rate_changes: the rate follows its schedule every "step", or is held for an "epoch".
        schedule_epochs: where the cosine reaches zero, for a run that ends before; None for the end of the run.
        phases: stretches that follow one another, each with its own parameters and its own warm-up and cosine; the
            optimiser knows a parameter from the first step that trains it. Empty where all are trained throughout.
        clip_norm: gradient norm bound, or None.
        decay: "all" parameters, or "matrices" alone: nothing with fewer than two axes (biases, norms, scalars).
        sampler: "shuffle" takes each image once an epoch; "balanced" takes each class equally often, the images of a
            class in turn.
        accumulate: pieces that a batch is computed in, one after another, to save memory. Classification losses are
            those of the whole batch; losses among the images of a batch and batch normalisation see a piece.
        precision: "bf16" computes features and logits in bfloat16 where that is safe; weights, losses and geometry
            stay float32.
        compile: compile the losses with torch.compile; for methods on features.
        average: what is scored: the last weights ("none"), their exponential moving average over steps ("ema"), or
            their average under a Gaussian over the course of training ("gaussian", as in PromptSRC, arXiv 2307.06948).
        ema_decay: share of the average that each step keeps.
        average_unit: what the Gaussian counts and averages over, every "epoch" or every "step".
        average_mean, average_std: of the Gaussian, in that unit; the first epoch (step) is 1.
        history_every: steps between lines of the history; each line is of one step.
        tensorboard: write the history for TensorBoard too, where it is installed.
        checkpoint_steps: steps between checkpoints, or None.
        checkpoint_seconds: time between checkpoints, seconds; whichever comes first.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    epsilon: float = 1e-8
    epochs: int = 50
    steps: int | None = None
    steps_per_shot: int | None = None
    batch_size: int = 64
    warmup_epochs: int = 1
    final_rate: float = 0.0
    rate_changes: Literal["step", "epoch"] = "step"
    schedule_epochs: int | None = None
    phases: tuple[Phase, ...] = ()
    clip_norm: float | None = None
    decay: Literal["all", "matrices"] = "all"
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    accumulate: int = 1
    precision: Literal["float32", "bf16"] = "float32"
    compile: bool = False
    average: Literal["none", "ema", "gaussian"] = "none"
    ema_decay: float = 0.999
    average_unit: Literal["epoch", "step"] = "epoch"
    average_mean: float = 45.0
    average_std: float = 5.0
    history_every: int = 1
    tensorboard: bool = False
    checkpoint_steps: int | None = None
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        steps, bound = (self.steps if self.steps is not None else 1), self.clip_norm
        each = self.steps_per_shot if self.steps_per_shot is not None else 1
        stretch = self.checkpoint_steps if self.checkpoint_steps is not None else 1
        needs = {
            "learning_rate > 0, epochs, steps and batch_size >= 1": (
                self.learning_rate > 0 and self.epochs >= 1 and steps >= 1 and self.batch_size >= 1
            ),
            "steps_per_shot >= 1 or null, final_rate from 0 to learning_rate": (
                each >= 1 and 0 <= self.final_rate <= self.learning_rate
            ),
            "phases with share > 0 and something that each trains": all(p.share > 0 and p.trains for p in self.phases),
            "average none and schedule_epochs null where there are phases": not self.phases
            or (self.average == "none" and self.schedule_epochs is None),
            "weight_decay, momentum, epsilon and warmup_epochs >= 0": (
                min(self.weight_decay, self.momentum, self.epsilon, self.warmup_epochs) >= 0
            ),
            "schedule_epochs > warmup_epochs or null": (
                self.schedule_epochs is None or self.schedule_epochs > self.warmup_epochs
            ),
            "clip_norm > 0 or null": bound is None or bound > 0,
            "accumulate from 1 to batch_size": 1 <= self.accumulate <= self.batch_size,
            "ema_decay in [0, 1) and average_std > 0": 0 <= self.ema_decay < 1 and self.average_std > 0,
            "history_every and checkpoint_steps >= 1 and checkpoint_seconds > 0": (
                self.history_every >= 1 and stretch >= 1 and self.checkpoint_seconds > 0
            ),
        }
        for need, met in needs.items():
            if not met:
                given = {name: value for name, value in vars(self).items() if name in need}
                raise InputError(f"training needs {need}, got {', '.join(f'{k} {v}' for k, v in given.items())}")
