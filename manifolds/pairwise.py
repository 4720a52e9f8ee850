"""Distance matrices without an (N, M, D) tensor.

The cross terms come from one matrix product in float64, the squared gaps from ``|x|² + |y|² - 2⟨x, y⟩``; pairs so near
that this cancels are recomputed from differences. The result ``r = √(δ/(ab))`` is the only matrix kept for the backward
pass, which is two more products. Both are taken in blocks that fit a memory budget.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds import scalars
from manifolds.differences import NEAR_BELOW, weighted_differences
from manifolds.differentiable import differentiable, maps_over_batches
from manifolds.mappings import Points, lowest_margin, margin_of
from manifolds.scalars import Curvature

Matrix = Float[Tensor, "*batch rows columns"]

CPU_BUDGET_BYTES = 4 * 2**20
DEVICE_BUDGET_BYTES = 512 * 2**20
SMALLEST_BLOCK = 64
DENSE_FRACTION = 0.02
UNSEEN_WORK = 2**28
"""Differences that a device computes at once rather than be asked how many pairs are near, which waits for it."""


def _blocks(count: int, dim: int, batch: int, device: torch.device) -> list[slice]:
    """Slices of rows whose float64 copies and products stay within the memory budget of the device."""
    quarter = (CPU_BUDGET_BYTES if device.type == "cpu" else DEVICE_BUDGET_BYTES) // (4 * 8 * max(1, batch))
    size = max(SMALLEST_BLOCK, min(quarter // max(1, dim), int(quarter**0.5)))
    return [slice(start, min(start + size, count)) for start in range(0, max(1, count), size)]


def _exact_gap(gap: Tensor, near: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``gap`` with the entries under ``near`` recomputed from differences."""
    unseen = gap.device.type != "cpu" and gap.numel() * left.shape[-1] <= UNSEEN_WORK
    count = near.numel() if unseen else int(near.sum())
    if count == 0:
        return gap
    if count > DENSE_FRACTION * near.numel() or count * left.shape[-1] * 8 > CPU_BUDGET_BYTES:
        exact = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").square()
        return torch.where(near, exact, gap)
    *head, i, j = near.nonzero(as_tuple=True)
    batch = gap.shape[:-2]
    left, right = left.expand(*batch, *left.shape[-2:]), right.expand(*batch, *right.shape[-2:])
    gap[near] = (left[(*head, i)] - right[(*head, j)]).square().sum(-1)
    return gap


@torch.library.custom_op("manifolds::pair_root", mutates_args=())
def _pair_root(x: Tensor, y: Tensor, c: Tensor, same: bool) -> Tensor:
    """``√(δ/(ab))`` of all pairs of rows, in the dtype of ``x``; ``c`` may be zero."""
    wide = scalars.wide_dtype(x)
    xx, yy = scalars.square(x), scalars.square(y)
    a, b = margin_of(c * xx, x, c), margin_of(c * yy, y, c)
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2], c.shape[:-2])
    result = x.new_empty((*batch, x.shape[-2], y.shape[-2]))
    cancels_below = 1e-2 if x.dtype == wide else 1e-8
    row_blocks = _blocks(x.shape[-2], x.shape[-1], batch.numel(), x.device)
    only = x.to(wide) if len(row_blocks) == 1 else None
    for columns in _blocks(y.shape[-2], y.shape[-1], batch.numel(), x.device):
        right, from_b = y[..., columns, :].to(wide), b[..., columns, :].mT
        for rows in row_blocks:
            left = x[..., rows, :].to(wide) if only is None else only
            total = xx[..., rows, :] + yy[..., columns, :].mT
            gap = torch.sub(total, left @ right.mT, alpha=2.0)
            gap = _exact_gap(gap, gap < cancels_below * total, left, right)
            result[..., rows, columns] = gap.div(from_b * a[..., rows, :]).sqrt_()
    if same:
        upper = result.triu(1)
        result = upper + upper.mT
    return result


@_pair_root.register_fake
def _(x: Tensor, y: Tensor, c: Tensor, same: bool) -> Tensor:
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2], c.shape[:-2])
    return x.new_empty((*batch, x.shape[-2], y.shape[-2]))


Factors = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def _root_factors(root: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``δ/(ab)``, and what multiplies ``dδ/(2ab)`` and ``-da/(2a) - db/(2b)`` in the differential of ``√(δ/(ab))``."""
    resolved = root > torch.finfo(root.dtype).tiny
    return root.square(), torch.where(resolved, torch.where(resolved, root, 1.0).reciprocal(), 0.0), root


def _ratio_factors(ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for ``δ/(ab)``, which is smooth where points coincide."""
    return ratio, torch.full_like(ratio, 2.0), 2.0 * ratio


def _pair_gradients(
    factors: Factors, grad: Tensor, x: Tensor, y: Tensor, c: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a function of ``δ/(ab)`` in ``x``, ``y`` and ``c``, made of differentiable operations."""
    wide = scalars.wide_dtype(x)
    xx, yy = scalars.square(x), scalars.square(y)
    a, b = margin_of(c * xx, x, c), margin_of(c * yy, y, c)
    floor = lowest_margin(x.dtype)
    inner_a, inner_b = (a > floor) / a, (b > floor) / b
    batch = value.shape[:-2].numel()
    to_x, to_y, pull_x, pull_y = [], [], [], []
    reach_x, reach_y = (scalars.narrow(NEAR_BELOW * square, x.dtype) for square in (xx, yy))
    for j, columns in enumerate(_blocks(y.shape[-2], y.shape[-1], batch, x.device)):
        for i, rows in enumerate(_blocks(x.shape[-2], x.shape[-1], batch, x.device)):
            g = grad[..., rows, columns]
            ratio, to_gap, to_margins = factors(value[..., rows, columns])
            along = g * to_margins
            margins = a[..., rows, :] * b[..., columns, :].mT
            # narrow numbers serve; where they vanish a pair counts as near
            near = ratio * margins.to(ratio.dtype) <= reach_x[..., rows, :] + reach_y[..., columns, :].mT
            weight = (g * to_gap).to(wide) / margins
            left, right = weighted_differences(weight, x[..., rows, :], y[..., columns, :], near)
            _add_at(to_x, i, left)
            _add_at(to_y, j, right)
            _add_at(pull_x, i, along.sum(-1, keepdim=True))
            _add_at(pull_y, j, along.sum(-2)[..., None])
    from_a, from_b = inner_a * torch.cat(pull_x, -2), inner_b * torch.cat(pull_y, -2)
    grad_x = torch.cat(to_x, -2) + scalars.narrow(c * from_a, x.dtype) * x
    grad_y = torch.cat(to_y, -2) + scalars.narrow(c * from_b, y.dtype) * y
    grad_c = 0.5 * ((from_a * xx).sum(-2, keepdim=True) + (from_b * yy).sum(-2, keepdim=True))
    grad_c = grad_c.sum_to_size(c.shape) if c.ndim else grad_c.sum()
    return grad_x.sum_to_size(x.shape), grad_y.sum_to_size(y.shape), grad_c


def _add_at(parts: list[Tensor], place: int, part: Tensor) -> None:
    """Add to one of the parts, the next new one included."""
    if place < len(parts):
        parts[place] = parts[place] + part
    else:
        parts.append(part)


maps_over_batches(_pair_root, axes=2)


def _pair_tangents(
    factors: Factors, x: Tensor, y: Tensor, c: Tensor, value: Tensor, dx: Tensor, dy: Tensor, dc: Tensor
) -> Tensor:
    """Tangents of a function of ``δ/(ab)`` from those of ``x``, ``y`` and ``c``."""
    wide, floor = scalars.wide_dtype(x), lowest_margin(x.dtype)
    (wide_x, wide_y, dx, dy) = (t.to(wide) for t in (x, y, dx, dy))
    xx, yy = scalars.square(x), scalars.square(y)
    a, b = margin_of(c * xx, x, c), margin_of(c * yy, y, c)
    own_x, own_y = (wide_x * dx).sum(-1, keepdim=True), (wide_y * dy).sum(-1, keepdim=True)
    half_gap = own_x + own_y.mT - dx @ wide_y.mT - wide_x @ dy.mT
    from_a = torch.where(a > floor, (c * own_x + dc * xx / 2) / a, 0.0)
    from_b = torch.where(b > floor, (c * own_y + dc * yy / 2) / b, 0.0)
    _, to_gap, to_margins = factors(value)
    return (to_gap * half_gap / (a * b.mT) + to_margins * (from_a + from_b.mT)).to(x.dtype)


def _pair_function(power: int, factors: Factors, same: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A power of ``_pair_root`` with its derivatives; the operator itself stays opaque to ``torch.compile``."""

    def forward(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        return _pair_root(x, y, c, same) ** power

    def pullback(_need: Any, x: Tensor, y: Tensor, c: Tensor, value: Tensor, grad: Tensor) -> Any:
        return _pair_gradients(factors, grad, x, y, c, value)

    return differentiable(forward, pullback, partial(_pair_tangents, factors), keeps_output=True)


_ROOTS = {same: _pair_function(1, _root_factors, same) for same in (False, True)}
_RATIOS = {same: _pair_function(2, _ratio_factors, same) for same in (False, True)}


def _arc_length_forward(r: Tensor, c: Tensor) -> Tensor:
    factor = c.sqrt().to(r.dtype)
    t = r * factor
    return torch.log1p(t + t * t / (1.0 + (1.0 + t * t).sqrt())) * (2.0 / factor)


def _in_root(r: Tensor, c: Tensor) -> Tensor:
    return 2.0 * (1.0 + c.to(r.dtype) * r.square()).rsqrt()


def _in_curvature(r: Tensor, c: Tensor) -> Tensor:
    wide = r.to(c.dtype)
    return 2.0 * wide**3 * scalars.asinh_ratio_slope(c * wide.square())


def _arc_length_pullback(need: Any, r: Tensor, c: Tensor, grad: Tensor) -> Any:
    grad_r = grad * _in_root(r, c) if need[0] else None
    if not need[1]:
        return grad_r, None
    each = grad.to(c.dtype) * _in_curvature(r, c)
    return grad_r, each.sum_to_size(c.shape) if c.ndim else each.sum()


_arc_length = differentiable(
    _arc_length_forward,
    _arc_length_pullback,
    lambda r, c, dr, dc: dr * _in_root(r, c) + (dc * _in_curvature(r, c)).to(r.dtype),
)
"""``(2/√c) asinh(√c r)`` elementwise, through ``log1p``, which the CPU has in vector form."""


def pairwise_dist(x: Points, y: Points | None = None, c: Curvature = 1.0) -> Matrix:
    """All distances between the rows of ``x`` (*, n, dim) and of ``y`` (*, m, dim), shape (*, n, m).

    ``pairwise_dist(x, x)`` and ``pairwise_dist(x)`` are exactly symmetric with an exactly zero diagonal.

    Args:
        x: points, shape (*, n, dim).
        y: points, shape (*, m, dim); ``x`` itself where left out.
        c: curvature, 0-dim or ending in two axes of one.

    Returns:
        Distances, float32 or wider.

    Raises:
        TypeError: an argument is not floating point.
        ValueError: an argument has fewer than two axes, last axes differ, or ``c <= 0``.

    Example:
        >>> pairwise_dist(torch.zeros(2, 3), torch.zeros(4, 3)).shape
        torch.Size([2, 4])
    """
    c = _matrix_curvature(x, c)
    return _arc_length(pairwise_root(x, y, c), c)


def pairwise_root(x: Points, y: Points | None, c: Curvature) -> Matrix:
    """``√(δ/(ab))`` for all pairs of rows: ``sinh(√c d/2)/√c``, and half the distance where ``c`` is the float zero."""
    return _of_pairs(_ROOTS, x, y, c)


def pairwise_ratio(x: Points, y: Points | None, c: Curvature) -> Matrix:
    """The square of ``pairwise_root``, ``δ/(ab)``, with derivatives of every order where points coincide."""
    return _of_pairs(_RATIOS, x, y, c)


def _of_pairs(functions: dict[bool, Callable[..., Matrix]], x: Points, y: Points | None, c: Curvature) -> Matrix:
    same = y is None or y is x
    x, y = _matrices(x, y)
    y = y.view_as(y) if y is x else y
    if isinstance(c, Tensor) or c > 0.0:
        c = _matrix_curvature(x, c)
    else:
        c = torch.zeros((), dtype=scalars.wide_dtype(x), device=x.device)
    return functions[same](x, y, c)


def _matrix_curvature(x: Tensor, c: Curvature) -> Tensor:
    c = scalars.as_curvature(c, x, "pairwise_dist")
    if not isinstance(c, Tensor):
        return torch.full((), c, dtype=scalars.wide_dtype(x), device=x.device)
    if c.ndim and c.shape[-2:] != (1, 1):
        raise ValueError(f"pairwise_dist needs c 0-dim or ending in two axes of one, got shape {tuple(c.shape)}")
    return c.to(x.device)


def pairwise_flat(x: Points, y: Points | None = None) -> Matrix:
    """The limit of ``pairwise_dist`` for ``c -> 0``: ``2|x - y|`` for all pairs of rows."""
    return 2.0 * pairwise_root(x, y, 0.0)


def _matrices(x: Tensor, y: Tensor | None) -> list[Tensor]:
    x, y = scalars.as_vectors(x, x if y is None else y, names="pairwise_dist")
    if x.ndim < 2 or y.ndim < 2:
        raise ValueError(
            f"pairwise_dist needs matrices of points, got shapes {tuple(x.shape)} and {tuple(y.shape)}; use x[None]"
        )
    return [x, y]
