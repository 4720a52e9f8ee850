"""The optimisers of a run: plain parameters and parameters on a manifold, one rate over time."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from hyperadapt.model import FewShotModel
from hyperadapt.training_config import TrainingConfig


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up to 1 over `warmup` steps, then half a cosine towards 0 at `steps`.

    Example:
        >>> [round(rate_factor(s, 10, 2), 3) for s in (0, 1, 2, 6)]
        [0.5, 1.0, 1.0, 0.5]
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))


def _groups(parameters: list[nn.Parameter], config: TrainingConfig) -> list[dict[str, Any]]:
    """Parameters by weight decay."""
    if config.decay == "all":
        return [{"params": parameters}]
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _flat(parameters: list[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    rate, decay, groups = config.learning_rate, config.weight_decay, _groups(parameters, config)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, weight_decay=decay)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate, weight_decay=decay, eps=config.epsilon, fused=True)


def _riemannian(parameters: list[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    from manifolds.optim import riemannian_adam, riemannian_sgd  # geoopt is loaded where a point needs it

    if config.optimizer == "sgd":
        return riemannian_sgd(parameters, lr=config.learning_rate, momentum=config.momentum)
    return riemannian_adam(parameters, lr=config.learning_rate)


class Schedule:
    """The learning rate over the steps of a run.

    Args:
        config: peak rate, warm-up, where the schedule ends, how often the rate changes, phases.
        steps: length of the run.
        per_epoch: steps of an epoch.

    Attributes:
        starts: first step of each phase; of the run where there are none.
    """

    def __init__(self, config: TrainingConfig, steps: int, per_epoch: int) -> None:
        self.peak, self.last = config.learning_rate, config.final_rate
        self.held = per_epoch if config.rate_changes == "epoch" else 1
        shares = [phase.share for phase in config.phases] or [1.0]
        self.starts = [round(steps * sum(shares[:i]) / sum(shares)) for i in range(len(shares))]
        ends = [*self.starts[1:], steps]
        if config.schedule_epochs is not None:
            ends = [config.schedule_epochs * per_epoch]
        spans = [end - start for start, end in zip(self.starts, ends, strict=True)]
        shortest = min(spans) if config.phases else steps
        self.lengths = [-(-span // self.held) for span in spans]
        self.warmup = min(config.warmup_epochs * per_epoch, shortest // 2) // self.held

    def phase(self, step: int) -> int:
        """The phase that a step belongs to."""
        return max(i for i, start in enumerate(self.starts) if start <= step)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        phase = self.phase(step)
        factor = rate_factor((step - self.starts[phase]) // self.held, self.lengths[phase], self.warmup)
        return self.last + (self.peak - self.last) * factor


class Optimizers:
    """Every trained parameter in the optimiser that fits it: those with a `manifold` move along its geodesics.

    Args:
        model: what is trained.
        config: optimiser, weight decay.
        schedule: the rate of each step.
    """

    def __init__(self, model: FewShotModel, config: TrainingConfig, schedule: Schedule) -> None:
        curved = [p for p in model.trainable if hasattr(p, "manifold")]
        plain = [p for p in model.trainable if not hasattr(p, "manifold")]
        self.parts = [_flat(plain, config)] if plain else []
        self.parts += [_riemannian(curved, config)] if curved else []
        self.schedule = schedule

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self, step: int) -> None:
        """Move every parameter at the rate of this step."""
        rate = self.schedule.rate(step)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def state(self) -> dict[str, Tensor]:
        """Momenta and counters, one tensor an entry, named `part.parameter.entry`."""
        return {
            f"{i}.{index}.{key}": torch.as_tensor(value)
            for i, part in enumerate(self.parts)
            for index, entries in part.state_dict()["state"].items()
            for key, value in entries.items()
            if value is not None
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on with momenta and counters from `state`."""
        for i, part in enumerate(self.parts):
            entries: dict[int, dict[str, Any]] = {}
            for name, value in state.items():
                number, index, key = name.split(".")
                if int(number) == i:
                    entries.setdefault(int(index), {})[key] = value
            part.load_state_dict({"state": entries, "param_groups": part.state_dict()["param_groups"]})
            if not type(part).__module__.startswith("torch."):
                for held in part.state.values():  # geoopt counts in plain numbers, which torch turns into float32
                    held.update({"step": int(held["step"])} if "step" in held else {})
