"""Checks of input and the scalar functions that every formula of the package reduces to, with their derivatives.

A formula here is a few row reductions (see ``rows``), functions of the resulting float64 numbers, and a weighted sum of
vectors. That is what keeps ``a = 1 - c|x|²`` trustworthy beside the boundary, at the price of one wide number a row.

Two analytic functions carry the geometry: ``asinh_ratio(w) = asinh(√w)/√w`` and ``tanh_ratio(w) = tanh(√w)/√w``. Both
are smooth at ``w = 0``, which is where points coincide, vectors vanish and the curvature goes to zero.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from manifolds.differentiable import elementwise
from manifolds.rows import Rows, Vectors, combine, dot, narrow, scale, square, triple, wide_dtype, with_square

__all__ = [
    "Curvature",
    "Rows",
    "Vectors",
    "as_curvature",
    "as_vectors",
    "asinh_ratio",
    "asinh_ratio_slope",
    "combine",
    "dot",
    "narrow",
    "polynomial",
    "root",
    "scale",
    "sech_square",
    "sinh_ratio",
    "square",
    "tanh_ratio",
    "triple",
    "wide_dtype",
    "with_square",
    "without_autocast",
]

Curvature = float | Tensor

SERIES_BELOW = 0.01


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Where products of tensors like ``x`` keep their dtype, whatever autocast the caller runs under."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def as_vectors(*tensors: Tensor, names: str = "this operation") -> list[Tensor]:
    """Check floating dtype and equal last axes, lift half precision to float32, and bring all to one dtype.

    Args:
        *tensors: tensors whose last axis is the vector.
        names: what the caller asked for, quoted in the message.

    Returns:
        The tensors in one dtype, float32 or wider.

    Raises:
        TypeError: a tensor is not floating point.
        ValueError: last axes differ, or a tensor has no axis.
    """
    dtype = torch.float32
    for x in tensors:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{names} needs floating point tensors, got {got}; convert with .float()")
        if x.ndim == 0 or x.shape[-1] != tensors[0].shape[-1]:
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
            raise ValueError(f"{names} needs equal last axes, got shapes {shapes}; the last axis is the vector")
        dtype = torch.promote_types(dtype, x.dtype)
    return [x.to(dtype) for x in tensors]


def as_curvature(c: Curvature, x: Tensor, name: str = "this operation") -> Curvature:
    """Curvature parameter as a positive float or a wide tensor that broadcasts against rows of ``x``.

    Raises:
        TypeError: ``c`` is neither a number nor a floating point tensor.
        ValueError: ``c`` is not positive, or is a tensor whose last axis is not one.
    """
    if isinstance(c, Tensor):
        if not c.is_floating_point():
            raise TypeError(f"{name} needs a floating point c, got {c.dtype}; convert with .double()")
        if c.ndim and c.shape[-1] != 1:
            raise ValueError(
                f"{name} needs c to be 0-dim or to end in an axis of one, got {tuple(c.shape)}; use c[..., None]"
            )
        _check_positive(c, name)
        return c.to(wide_dtype(x))
    if isinstance(c, bool) or not isinstance(c, int | float):
        raise TypeError(f"{name} needs c as a float or a tensor, got {type(c).__name__}")
    if not 0.0 < c < float("inf"):
        raise ValueError(f"{name} needs c > 0, got c={c}; for flat space use manifolds.Euclidean")
    return float(c)


def _check_positive(c: Tensor, name: str) -> None:
    """Look at the values of a tensor ``c`` where that costs no device sync and no graph break."""
    if torch.compiler.is_compiling() or c.device.type != "cpu":
        return
    try:
        positive = bool((c > 0).all())
    except RuntimeError:  # inside vmap over c no value can be read
        return
    if not positive:
        raise ValueError(
            f"{name} needs c > 0, got a tensor with minimum {c.min().item()}; for flat space use Euclidean"
        )


def root(w: Rows) -> Rows:
    """``√w`` with subgradient 0 at ``w = 0``."""
    positive = w > 0
    return torch.where(positive, torch.where(positive, w, 1.0).sqrt(), 0.0)


def polynomial(w: Tensor, coefficients: list[float]) -> Tensor:
    """Horner's rule, lowest order first."""
    value = torch.full_like(w, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * w + coefficient
    return value


# asinh(√w)/√w = Σ (-1)^n (2n)! / (4^n n!² (2n+1)) w^n
_ASINH = [
    1.0,
    -1 / 6,
    3 / 40,
    -5 / 112,
    35 / 1152,
    -63 / 2816,
    231 / 13312,
    -143 / 10240,
    6435 / 557056,
    -12155 / 1245184,
]
# tanh(√w)/√w
_TANH = [
    1.0,
    -1 / 3,
    2 / 15,
    -17 / 315,
    62 / 2835,
    -1382 / 155925,
    21844 / 6081075,
    -929569 / 638512875,
    6404582 / 10854718875,
    -443861162 / 1856156927625,
]


def _slope(coefficients: list[float]) -> list[float]:
    return [n * k for n, k in enumerate(coefficients)][1:]


def _asinh_ratio(w: Tensor) -> Tensor:
    r = torch.where(w > 0, w, 1.0).sqrt()
    return torch.where(w > 0, torch.asinh(r) / r, 1.0 + 0 * w)


def _tanh_ratio(w: Tensor) -> Tensor:
    r = torch.where(w > 0, w, 1.0).sqrt()
    return torch.where(w > 0, torch.tanh(r) / r, 1.0 + 0 * w)


def _tanh_ratio_slope(w: Tensor) -> Tensor:
    small = w < SERIES_BELOW
    near, far = torch.where(small, w, 0.0), torch.where(small, 1.0, w)
    slope = (sech_square(far) - tanh_ratio(far)) / (2 * far)
    return torch.where(small, polynomial(near, _slope(_TANH)), slope)


def sech_square(w: Tensor) -> Tensor:
    """``sech²(√w)`` for ``w >= 0``, with full relative accuracy where it is tiny and smooth at ``w = 0``."""
    large = w > 1
    decay = torch.exp(-2 * torch.where(large, w, 1.0).sqrt())
    near = torch.where(large, 0.0, w)
    return torch.where(large, 4 * decay / (1 + decay).square(), 1 - near * tanh_ratio(near).square())


def asinh_ratio_slope(w: Tensor) -> Tensor:
    """Derivative of ``asinh_ratio``."""
    small = w < SERIES_BELOW
    near, far = torch.where(small, w, 0.0), torch.where(small, 1.0, w)
    slope = ((1 + far).rsqrt() - asinh_ratio(far)) / (2 * far)
    return torch.where(small, polynomial(near, _slope(_ASINH)), slope)


asinh_ratio = elementwise(_asinh_ratio, asinh_ratio_slope)
"""``asinh(√w)/√w`` for ``w >= 0``: 1 at 0, decreasing."""

tanh_ratio = elementwise(_tanh_ratio, _tanh_ratio_slope)
"""``tanh(√w)/√w`` for ``w >= 0``: 1 at 0, decreasing."""


def sinh_ratio(w: Tensor) -> Tensor:
    """``sinh(√w)/√w`` for ``w >= 0``, held at its value for ``√w = 300`` beyond that."""
    small = w < SERIES_BELOW
    near, r = torch.where(small, w, 0.0), torch.where(small, 1.0, w.clamp(max=9e4)).sqrt()
    return torch.where(small, polynomial(near, [1.0, 1 / 6, 1 / 120, 1 / 5040, 1 / 362880, 1 / 39916800]), r.sinh() / r)
