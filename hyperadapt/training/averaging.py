"""Averages of the weights over a run, which are scored in place of the last weights."""

import math

import torch
from torch import Tensor

from hyperadapt.model import FewShotModel
from hyperadapt.training_config import TrainingConfig


class WeightAverage:
    """The exponential moving or Gaussian-weighted average of all floating-point weights and buffers.

    The Gaussian is PromptSRC's prompt aggregation (arXiv 2307.06948): the weights after epoch t count
    exp(-(t - mean)² / (2 std²)), normalised over the run. Parameters on a manifold are averaged in their coordinates
    and projected.

    Args:
        model: what is trained.
        config: kind of average and its numbers.
        per_epoch: steps of an epoch.
    """

    def __init__(self, model: FewShotModel, config: TrainingConfig, per_epoch: int) -> None:
        self.model, self.config = model, config
        self.every = per_epoch if config.average == "gaussian" and config.average_unit == "epoch" else 1
        self.values: dict[str, Tensor] = {}
        self.log_total = -math.inf

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the weights as they are after `done` steps."""
        if self.config.average == "none" or done % self.every:
            return
        share = self._share(done // self.every)
        for name, value in self.model.state_dict().items():
            if not value.is_floating_point():
                continue
            if name in self.values:
                self.values[name].lerp_(value.as_subclass(Tensor), share)
            else:
                self.values[name] = value.as_subclass(Tensor).detach().clone()

    def _share(self, count: int) -> float:
        """Weight of the present among all so far."""
        if self.config.average == "ema":
            return 1 - self.config.ema_decay
        log_weight = -0.5 * ((count - self.config.average_mean) / self.config.average_std) ** 2
        high = max(self.log_total, log_weight)  # in logarithms: far from its mean a Gaussian underflows
        self.log_total = high + math.log(math.exp(self.log_total - high) + math.exp(log_weight - high))
        return math.exp(log_weight - self.log_total)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average in place of the model's weights; nothing where there is none."""
        self.model.load_state_dict(self.values, strict=False)
        for parameter in self.model.trainable:
            manifold = getattr(parameter, "manifold", None)
            if self.values and manifold is not None:
                parameter.copy_(manifold.projx(parameter))

    def state(self) -> dict[str, Tensor]:
        """The average so far."""
        return {**self.values, "log_total": torch.tensor(self.log_total, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Go on from `state`."""
        self.log_total = float(state["log_total"])
        self.values = {name: value.to(device) for name, value in state.items() if name != "log_total"}
