"""The loop that trains every method on frozen features of the training shots."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from hyperadapt.adapters.base import TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.model import FewShotModel
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import GeneratorDraws

WIDE_TOWER = 256
"""Width of a text tower from which several CPU threads are worth their hand-over at every operation."""


@dataclass(frozen=True)
class TrainingSet:
    """Frozen features of the training shots in V views.

    Attributes:
        images: (V * N) features, view-major: row v * N + i is view v of image i.
        labels: (N,) indices into the classes.
        classes: the training classes.
    """

    images: ImageFeatures
    labels: Int[Tensor, " n"]
    classes: ClassText

    @property
    def views(self) -> int:
        """Views of each image."""
        return len(self.images) // len(self.labels)


def _batches(
    count: int, views: int, config: TrainingConfig, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (rows of the view-major features, images) of shuffled epochs, one random view of each image an epoch.

    The last batch of an epoch is dropped when it is incomplete, unless it is the only one.
    """
    size = min(config.batch_size, count)
    while True:
        order = torch.randperm(count, generator=generator)
        view = torch.randint(views, (count,), generator=generator)
        for start in range(0, count - size + 1, size):
            images = order[start : start + size]
            yield view[images] * count + images, images


def _optimizer(model: FewShotModel, config: TrainingConfig) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.trainable, lr=rate, momentum=config.momentum, weight_decay=decay)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(model.trainable, lr=rate, weight_decay=decay)


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up to 1 over `warmup` steps, then half a cosine towards 0 at `steps`.

    Example:
        >>> [round(rate_factor(s, 10, 2), 3) for s in (0, 1, 2, 6)]
        [0.5, 1.0, 1.0, 0.5]
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))


def train(
    model: FewShotModel,
    data: TrainingSet,
    config: TrainingConfig,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[dict[str, float]]:
    """Train a model in place; it sees the training shots and the training classes, and nothing else.

    Args:
        model: adapter and head, changed in place.
        data: training shots.
        config: optimiser, schedule, length.
        seed: of batches, views and every draw inside a loss.
        progress: called with (steps done, steps in all).

    Returns:
        The mean of each loss term over each tenth of the run, oldest first.

    Raises:
        FloatingPointError: at the first step whose loss is not finite, naming the step and the terms.
    """
    device = data.images.pooled.device
    shuffle = torch.Generator().manual_seed(seed)
    draws = torch.Generator(device).manual_seed(seed)
    per_epoch = max(len(data.labels) // min(config.batch_size, len(data.labels)), 1)
    steps = config.steps or config.epochs * per_epoch
    warmup = min(config.warmup_epochs * per_epoch, steps // 2)
    optimizer = _optimizer(model, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, steps, warmup))
    history: list[dict[str, Tensor]] = []
    check_every = max(steps // 10, 1)
    model.train()
    batches = _batches(len(data.labels), data.views, config, shuffle)
    with _threads_that_pay(data), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for step in range(steps):
            rows, images = next(batches)
            terms = _losses(model, data, rows.to(device), images.to(device), draws)
            loss = torch.stack(list(terms.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.trainable, config.clip_norm)
            optimizer.step()
            schedule.step()
            history.append({name: term.detach() for name, term in terms.items()})
            if (step + 1) % check_every == 0 or step + 1 == steps:
                _require_finite(history, step // check_every * check_every)
            progress(step + 1, steps)
    model.eval()
    return _tenths(history)


@contextmanager
def _threads_that_pay(data: TrainingSet) -> Iterator[None]:
    """One CPU thread for steps too short to share: those that pass no text tower, or a narrow one."""
    classes, before = data.classes, torch.get_num_threads()
    wide = classes.takes_contexts and classes.prompt_tower.width >= WIDE_TOWER
    torch.set_num_threads(before if wide else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _losses(
    model: FewShotModel, data: TrainingSet, rows: Tensor, images: Tensor, draws: torch.Generator
) -> dict[str, Tensor]:
    """All loss terms of one step."""
    labels = data.labels[images]
    classes = model.adapter.adapt_classes(data.classes)
    encoded = model.head.encode_classes(classes, GeneratorDraws(draws))
    adapted = model.adapter.adapt_images(data.images[rows], classes)
    terms = dict(model.head.losses(adapted, encoded, labels))
    terms.update(
        model.adapter.losses(TrainingBatch(ImageFeatures(adapted.pooled), classes, labels, GeneratorDraws(draws)))
    )
    return terms


def _require_finite(history: list[dict[str, Tensor]], first: int) -> None:
    """Stop at the first step since `first` whose loss is not finite; called rarely, so a GPU is seldom waited for."""
    for step in range(first, len(history)):
        bad = [name for name, value in history[step].items() if not torch.isfinite(value)]
        if bad:
            values = ", ".join(f"{name}={float(value):g}" for name, value in history[step].items())
            raise FloatingPointError(
                f"training stopped: at step {step} {', '.join(bad)} is not finite ({values}); lower the learning rate"
            )


def _tenths(history: list[dict[str, Tensor]]) -> list[dict[str, float]]:
    """Means of each term over ten stretches of the run."""
    size = max(len(history) // 10, 1)
    stretches = [history[i : i + size] for i in range(0, size * min(10, len(history)), size)]
    return [{name: float(torch.stack([terms[name] for terms in s]).mean()) for name in s[0]} for s in stretches]
