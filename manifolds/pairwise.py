"""Distance matrices without an (N, M, D) tensor.

The cross terms come from one matrix product in float64, the squared gaps from ``|x|² + |y|² - 2⟨x, y⟩``; pairs so near
that this cancels are recomputed from differences. The result ``r = √(δ/(ab))`` is the only matrix kept for the backward
pass, which is two more products. Rows are taken in blocks that fit a memory budget.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from manifolds import scalars
from manifolds.mappings import Points, margin_of
from manifolds.scalars import Curvature

Matrix = Float[Tensor, "*batch rows columns"]

CPU_BUDGET_BYTES = 8 * 2**20
DEVICE_BUDGET_BYTES = 256 * 2**20
DENSE_FRACTION = 0.02


def _blocks(rows: int, columns: int, batch: int, device: torch.device) -> Iterator[slice]:
    """Slices of rows whose float64 block stays within the budget of the device."""
    budget = CPU_BUDGET_BYTES if device.type == "cpu" else DEVICE_BUDGET_BYTES
    size = max(1, budget // (8 * max(1, columns) * max(1, batch)))
    return (slice(start, min(start + size, rows)) for start in range(0, max(1, rows), size))


def _exact_gap(gap: Tensor, near: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``gap`` with the entries under ``near`` recomputed from differences."""
    count = int(near.sum())
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
    left, right = x.to(wide), y.to(wide)
    xx, yy = left.square().sum(-1, keepdim=True), right.square().sum(-1, keepdim=True)
    a, b = margin_of(c * xx, x.dtype), margin_of(c * yy, y.dtype)
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2], c.shape[:-2])
    result = x.new_empty((*batch, x.shape[-2], y.shape[-2]))
    cancels_below = 1e-2 if x.dtype == wide else 1e-8
    for rows in _blocks(x.shape[-2], y.shape[-2], batch.numel(), x.device):
        total = xx[..., rows, :] + yy.mT
        gap = torch.sub(total, left[..., rows, :] @ right.mT, alpha=2.0)
        gap = _exact_gap(gap, gap < cancels_below * total, left[..., rows, :], right)
        result[..., rows, :] = (gap / b.mT / a[..., rows, :]).sqrt_()
    if same:
        upper = result.triu(1)
        result = upper + upper.mT
    return result


@_pair_root.register_fake
def _(x: Tensor, y: Tensor, c: Tensor, same: bool) -> Tensor:
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2], c.shape[:-2])
    return x.new_empty((*batch, x.shape[-2], y.shape[-2]))


def _root_gradients(grad: Tensor, x: Tensor, y: Tensor, c: Tensor, root: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``√(δ/(ab))`` in ``x``, ``y`` and ``c``, made of differentiable operations."""
    wide = scalars.wide_dtype(x)
    left, right = x.to(wide), y.to(wide)
    xx, yy = left.square().sum(-1, keepdim=True), right.square().sum(-1, keepdim=True)
    a, b = margin_of(c * xx, x.dtype), margin_of(c * yy, y.dtype)
    lively_a, lively_b = 1.0 - c * xx >= a, 1.0 - c * yy >= b
    scaled = right / b
    tiny = torch.finfo(x.dtype).tiny
    to_left, along_left, to_right, weight_right, along_right = [], [], [], [], []
    for rows in _blocks(x.shape[-2], y.shape[-2], root.shape[:-2].numel(), x.device):
        r, g = root[..., rows, :], grad[..., rows, :]
        weight = torch.where(r > 0, g / r.clamp(min=tiny), 0.0).to(wide)
        along = (g * r).to(wide)
        shrunk = weight / a[..., rows, :]
        to_left.append((weight @ b.reciprocal() * left[..., rows, :] - weight @ scaled) / a[..., rows, :])
        to_right.append(shrunk.mT @ left[..., rows, :])
        weight_right.append(shrunk.sum(-2)[..., None])
        along_left.append(along.sum(-1, keepdim=True))
        along_right.append(along.sum(-2)[..., None])
    pull_left = torch.where(lively_a, torch.cat(along_left, -2) / a, 0.0)
    pull_right = torch.where(lively_b, sum(along_right) / b, 0.0)
    grad_x = torch.cat(to_left, -2) + c * pull_left * left
    grad_y = (sum(weight_right) * right - sum(to_right)) / b + c * pull_right * right
    grad_c = (pull_left * xx / 2).sum(-2, keepdim=True) + (pull_right * yy / 2).sum(-2, keepdim=True)
    return (
        grad_x.sum_to_size(x.shape).to(x.dtype),
        grad_y.sum_to_size(y.shape).to(y.dtype),
        grad_c.sum_to_size(c.shape) if c.ndim else grad_c.sum(),
    )


@_pair_root.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], x: Tensor, y: Tensor, c: Tensor, same: bool) -> tuple[Tensor, int]:
    logical = [t.ndim - (d is not None) for t, d in zip((x, y, c), in_dims, strict=False)]
    depth = max(2, *logical)
    moved = []
    for t, d in zip((x, y, c), in_dims, strict=False):
        if d is not None:
            t = t.movedim(d, 0)
            t = t.reshape(t.shape[0], *(1,) * (depth - t.ndim + 1), *t.shape[1:])
        moved.append(t)
    return _pair_root(*moved, same), 0


class _PairRoot(Function):
    """``_pair_root`` with its gradients; the operator itself stays opaque to ``torch.compile``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, c: Tensor, same: bool) -> Tensor:
        return _pair_root(x, y, c, same)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[:3], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, y, c, root = ctx.saved_tensors
        return *_root_gradients(grads[0], x, y, c, root), None


class _ArcLength(Function):
    """``(2/√c) asinh(√c r)`` elementwise, through ``log1p``, which the CPU has in vector form."""

    generate_vmap_rule = True

    @staticmethod
    def forward(r: Tensor, c: Tensor) -> Tensor:
        factor = c.sqrt().to(r.dtype)
        t = r * factor
        return torch.log1p(t + t * t / (1.0 + (1.0 + t * t).sqrt())) * (2.0 / factor)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        r, c = ctx.saved_tensors
        (grad,) = grads
        need_r, need_c = ctx.needs_input_grad
        spread = c.to(r.dtype) * r.square()
        grad_r = 2.0 * grad * (1.0 + spread).rsqrt() if need_r else None
        if not need_c:
            return grad_r, None
        each = 2.0 * grad.to(c.dtype) * r.to(c.dtype) ** 3 * scalars.asinh_ratio_slope(spread.to(c.dtype))
        return grad_r, each.sum_to_size(c.shape) if c.ndim else each.sum()


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
    return _ArcLength.apply(pairwise_root(x, y, c), c)  # pyright: ignore[reportReturnType]


def pairwise_root(x: Points, y: Points | None, c: Curvature) -> Matrix:
    """``√(δ/(ab))`` for all pairs of rows: ``sinh(√c d/2)/√c``, and half the distance where ``c`` is the float zero."""
    same = y is None or y is x
    x, y = _matrices(x, y)
    y = y.view_as(y) if y is x else y
    if isinstance(c, Tensor) or c > 0.0:
        c = _matrix_curvature(x, c)
    else:
        c = torch.zeros((), dtype=scalars.wide_dtype(x), device=x.device)
    return _PairRoot.apply(x, y, c, same)  # pyright: ignore[reportReturnType]


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
