"""The curvature of a manifold as a module: exact at rest, positive under any optimizer, never rounded."""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Curvature(nn.Module):
    """The number ``c > 0`` of sectional curvature ``-c``, fixed or learnable.

    The value is ``base * exp(log_scale)``: ``base`` is the float64 number that was asked for and never moves,
    ``log_scale`` starts at zero. So ``c`` is exactly what was asked for (``exp(0) = 1``), survives a state dict bit for
    bit, stays positive after any step, and a weight decay pulls towards the value asked for instead of towards zero.
    ``.float()``, ``.half()`` and ``.to(dtype)`` move the device only: a curvature rounded to half precision would
    change every distance.

    Args:
        c: a positive number, or a tensor that broadcasts against points with a last axis of one.
        learnable: whether ``log_scale`` is a parameter.

    Raises:
        TypeError: ``c`` is not a number or a floating point tensor.
        ValueError: ``c`` is not positive and finite, or is a tensor that requires a gradient.

    Example:
        >>> Curvature(1e-6)().item()
        1e-06
    """

    base: Tensor

    def __init__(self, c: float | Float[Tensor, "*batch"] = 1.0, learnable: bool = False) -> None:
        super().__init__()
        if isinstance(c, Tensor):
            if not c.is_floating_point():
                raise TypeError(f"curvature needs a float or a floating point tensor, got {c.dtype}; use .double()")
            if c.requires_grad:
                raise ValueError(
                    "curvature got a tensor that requires a gradient; pass learnable=True with a plain number, or call "
                    "the functions of manifolds.poincare with c=that tensor"
                )
            if c.ndim and c.shape[-1] != 1:
                raise ValueError(f"curvature needs a 0-dim tensor or a last axis of one, got {tuple(c.shape)}")
        elif isinstance(c, bool) or not isinstance(c, int | float):
            raise TypeError(f"curvature needs a float or a floating point tensor, got {type(c).__name__}")
        base = torch.as_tensor(c, dtype=torch.float64).detach().clone()
        if not bool(((base > 0) & (base < math.inf)).all()):
            raise ValueError(f"curvature needs a finite c > 0, got c={c}; for flat space use manifolds.Euclidean")
        self.register_buffer("base", base)
        self.log_scale = nn.Parameter(torch.zeros_like(base)) if learnable else None

    def forward(self) -> Float[Tensor, "*batch"]:
        """The present value, float64, differentiable where learnable."""
        return self.base if self.log_scale is None else self.base * self.log_scale.exp()

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Self:
        exact = {name: t.detach().clone() for name, t in (*self.named_parameters(), *self.named_buffers())}
        super()._apply(fn, *args, **kwargs)
        for name, t in (*self.named_parameters(), *self.named_buffers()):
            if t.dtype != exact[name].dtype and t.device.type != "mps":
                t.data = exact[name].to(t.device)
        return self

    def extra_repr(self) -> str:
        """The value as it is now."""
        value = self()
        return f"c={value.item():.6g}" if value.numel() == 1 else f"c of shape {tuple(value.shape)}"
