"""Batch normalisation over image rows, which several processes may share."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ImageNorm(nn.BatchNorm1d):
    """`BatchNorm1d` for rows that come from images: in a run of several processes its statistics are those of all.

    Rows that come from classes are the same in every process and take the plain `BatchNorm1d`.

    Attributes:
        total: sums a tensor over the processes, with gradients; None where one process sees the whole batch.
    """

    total: Callable[[Tensor], Tensor] | None = None

    def forward(self, input: Float[Tensor, "n c *positions"]) -> Float[Tensor, "n c *positions"]:
        """Normalised over all axes but the second, by the statistics of the whole batch in training."""
        if self.total is None or not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        x = input.float()
        count = self.total(torch.full((), x.numel() / x.shape[1], device=x.device))
        mean = self.total(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = self.total(centred.square().sum(axes)) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scaled = centred * (variance + self.eps).rsqrt().view(shape)
        return scaled * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        """The running statistics that evaluation uses, as `BatchNorm1d` keeps them."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            if running is not None and self.momentum is not None:
                running.lerp_(value, self.momentum)
