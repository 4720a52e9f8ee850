"""Row reductions and weighted sums of rows: the three bilinear maps that carry vectors, and their derivatives.

``square`` (a row's squared length), ``dot`` and ``combine`` (a weighted sum of two vectors) are each the derivative of
the others, so a gradient of any order stays inside the three. Row results live in float64 with a trailing axis of one;
vectors stay in the dtype of the caller.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds.differentiable import differentiable

Rows = Float[Tensor, "*batch 1"]
Vectors = Float[Tensor, "*batch dim"]

BLOCK_ELEMENTS = 2**17


def wide_dtype(x: Tensor) -> torch.dtype:
    """Dtype of row scalars: float64, or float32 on a device without it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def narrow(rows: Rows, dtype: torch.dtype) -> Rows:
    """Round rows to ``dtype`` without making infinities of finite numbers."""
    if rows.dtype == dtype:
        return rows
    top = torch.finfo(dtype).max
    return rows.clamp(-top, top).to(dtype)


def _expand(rows: tuple[Tensor, ...], vectors: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Give rows and vectors one batch shape, and no tensor twice, which the compiler does not trace."""
    vectors = tuple(v.view_as(v) if any(v is w for w in vectors[:i]) else v for i, v in enumerate(vectors))
    shapes = [t.shape[:-1] for t in (*rows, *vectors)]
    if all(s == shapes[0] for s in shapes):
        return list(rows), list(vectors)
    batch = torch.broadcast_shapes(*shapes)
    return [r.expand(*batch, 1) for r in rows], [v.expand(*batch, v.shape[-1]) for v in vectors]


def _reduce(function: Callable[..., Tensor], *vectors: Tensor) -> Tensor:
    """A row reduction, taken in blocks that stay in the cache where a CPU runs it over a large tensor."""
    first = vectors[0]
    plain = torch.compiler.is_compiling() or first.device.type != "cpu" or first.numel() < 4 * BLOCK_ELEMENTS
    if plain or not all(v.is_contiguous() for v in vectors):
        return function(*vectors)
    size = max(1, BLOCK_ELEMENTS // first.shape[-1])
    flat = [v.reshape(-1, v.shape[-1]) for v in vectors]
    blocks = [function(*(v[start : start + size] for v in flat)) for start in range(0, len(flat[0]), size)]
    return torch.cat(blocks).reshape(*first.shape[:-1], 1)


def _square_wide(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.to(wide_dtype(x)), dim=-1, keepdim=True).square()


def _square_gap_wide(x: Tensor, y: Tensor) -> Tensor:
    return _square_wide(x - y)


def _dot_wide(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1, keepdim=True).to(wide_dtype(x))


def _square_forward(x: Tensor) -> Tensor:
    return _reduce(_square_wide, x)


def _dot_forward(x: Tensor, y: Tensor) -> Tensor:
    return _reduce(_dot_wide, x, y)


def _dot_pullback(need: Any, x: Tensor, y: Tensor, grad: Tensor) -> Any:
    return scale(grad, y) if need[0] else None, scale(grad, x) if need[1] else None


def _scale_forward(alpha: Tensor, x: Tensor) -> Tensor:
    return narrow(alpha, x.dtype) * x


def _scale_pullback(need: Any, alpha: Tensor, x: Tensor, grad: Tensor) -> Any:
    return dot(grad, x).to(alpha.dtype) if need[0] else None, scale(alpha, grad) if need[1] else None


def _combine_forward(alpha: Tensor, x: Tensor, beta: Tensor, y: Tensor) -> Tensor:
    return torch.addcmul(narrow(alpha, x.dtype) * x, narrow(beta, y.dtype), y)


def _combine_pullback(need: Any, alpha: Tensor, x: Tensor, beta: Tensor, y: Tensor, grad: Tensor) -> Any:
    return *_scale_pullback(need[:2], alpha, x, grad), *_scale_pullback(need[2:], beta, y, grad)


def _add_scaled_forward(y: Tensor, alpha: Tensor, x: Tensor) -> Tensor:
    return torch.addcmul(y, narrow(alpha, x.dtype), x)


def _with_square_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.view_as(x), _reduce(_square_wide, x)


def _triple_forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _reduce(_square_wide, x), _reduce(_square_wide, y), _reduce(_square_gap_wide, x, y)


def _triple_pullback(need: Any, x: Tensor, y: Tensor, *grads: Tensor) -> Any:
    """Four passes over the vectors instead of the six of three separate squares."""
    from_x, from_y, from_gap = (2 * g for g in grads)
    gap = x - y
    return (
        combine(from_gap, gap, from_x, x) if need[0] else None,
        combine(-from_gap, gap, from_y, y) if need[1] else None,
    )


_square = differentiable(
    _square_forward,
    lambda _need, x, grad: scale(2 * grad, x),
    lambda x, dx: 2 * dot(x, dx),
)
_dot = differentiable(
    _dot_forward,
    _dot_pullback,
    lambda x, y, dx, dy: dot(dx, y) + dot(x, dy),
)
_scale = differentiable(
    _scale_forward,
    _scale_pullback,
    lambda alpha, x, d_alpha, dx: combine(d_alpha, x, alpha, dx),
)
_combine = differentiable(
    _combine_forward,
    _combine_pullback,
    lambda a, x, b, y, da, dx, db, dy: combine(da, x, a, dx) + combine(db, y, b, dy),
)
_add_scaled = differentiable(
    _add_scaled_forward,
    lambda need, _y, alpha, x, grad: (grad, *_scale_pullback(need[1:], alpha, x, grad)),
    lambda _y, alpha, x, dy, d_alpha, dx: dy + combine(d_alpha, x, alpha, dx),
)
_with_square = differentiable(
    _with_square_forward,
    lambda _need, x, grad, grad_square: _add_scaled(grad, 2 * grad_square, x),
    lambda x, dx: (dx.view_as(dx), 2 * dot(x, dx)),
)
_triple = differentiable(
    _triple_forward,
    _triple_pullback,
    lambda x, y, dx, dy: (2 * dot(x, dx), 2 * dot(y, dy), 2 * dot(x - y, dx - dy)),
)


def square(x: Vectors) -> Rows:
    """Squared length of each row, accumulated in float64."""
    return _square(x)


def with_square(x: Vectors) -> tuple[Vectors, Rows]:
    """``x`` and its squared length from one node, whose two gradients meet in one pass."""
    return _with_square(x)


def dot(x: Vectors, y: Vectors) -> Rows:
    """Inner product of rows, in the dtype of the vectors, returned wide."""
    return _dot(*_expand((), (x, y))[1])


def scale(alpha: Rows, x: Vectors) -> Vectors:
    """``alpha * x`` with one wide ``alpha`` a row, in the dtype of ``x``."""
    (alpha,), (x,) = _expand((alpha,), (x,))
    return _scale(alpha, x)


def combine(alpha: Rows, x: Vectors, beta: Rows, y: Vectors) -> Vectors:
    """``alpha * x + beta * y`` with wide row weights, in the dtype of the vectors."""
    (alpha, beta), (x, y) = _expand((alpha, beta), (x, y))
    return _combine(alpha, x, beta, y)


def triple(x: Vectors, y: Vectors) -> tuple[Rows, Rows, Rows]:
    """``|x|², |y|², |x - y|²`` of each pair of rows."""
    return _triple(*_expand((), (x, y))[1])
