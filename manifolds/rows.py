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
from torch.autograd import Function

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


class _Square(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _reduce(_square_wide, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        return scale(2 * grad, ctx.saved_tensors[0])


class _Dot(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return _reduce(_dot_wide, x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        x, y = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        return scale(grad, y) if need_x else None, scale(grad, x) if need_y else None


class _Scale(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(alpha: Tensor, x: Tensor) -> Tensor:
        return narrow(alpha, x.dtype) * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        alpha, x = ctx.saved_tensors
        need_alpha, need_x = ctx.needs_input_grad
        return dot(grad, x).to(alpha.dtype) if need_alpha else None, scale(alpha, grad) if need_x else None


class _Combine(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(alpha: Tensor, x: Tensor, beta: Tensor, y: Tensor) -> Tensor:
        return torch.addcmul(narrow(alpha, x.dtype) * x, narrow(beta, y.dtype), y)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        alpha, x, beta, y = ctx.saved_tensors
        need = ctx.needs_input_grad
        return (
            dot(grad, x).to(alpha.dtype) if need[0] else None,
            scale(alpha, grad) if need[1] else None,
            dot(grad, y).to(beta.dtype) if need[2] else None,
            scale(beta, grad) if need[3] else None,
        )


class _AddScaled(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, alpha: Tensor, x: Tensor) -> Tensor:
        return torch.addcmul(y, narrow(alpha, x.dtype), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        alpha, x = ctx.saved_tensors
        (grad,) = grads
        _, need_alpha, need_x = ctx.needs_input_grad
        return grad, dot(grad, x).to(alpha.dtype) if need_alpha else None, scale(alpha, grad) if need_x else None


class _WithSquare(Function):
    """A vector and its squared length from one node, so that the two gradients meet in one pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.view_as(x), _reduce(_square_wide, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return _AddScaled.apply(grads[0], 2 * grads[1], x)


class _Triple(Function):
    """Squared lengths of ``x``, ``y`` and ``x - y`` in one node: four passes backward instead of six."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _reduce(_square_wide, x), _reduce(_square_wide, y), _reduce(_square_gap_wide, x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, y = ctx.saved_tensors
        grad_x, grad_y, grad_gap = (2 * g for g in grads)
        gap = x - y
        need_x, need_y = ctx.needs_input_grad
        return (
            combine(grad_gap, gap, grad_x, x) if need_x else None,
            combine(-grad_gap, gap, grad_y, y) if need_y else None,
        )


def square(x: Vectors) -> Rows:
    """Squared length of each row, accumulated in float64."""
    return _Square.apply(x)  # pyright: ignore[reportReturnType]


def with_square(x: Vectors) -> tuple[Vectors, Rows]:
    """``x`` and its squared length; cheaper backward than ``square`` where both are used."""
    return _WithSquare.apply(x)  # pyright: ignore[reportReturnType]


def dot(x: Vectors, y: Vectors) -> Rows:
    """Inner product of rows, in the dtype of the vectors, returned wide."""
    _, (x, y) = _expand((), (x, y))
    return _Dot.apply(x, y)  # pyright: ignore[reportReturnType]


def scale(alpha: Rows, x: Vectors) -> Vectors:
    """``alpha * x`` with one wide ``alpha`` a row, in the dtype of ``x``."""
    (alpha,), (x,) = _expand((alpha,), (x,))
    return _Scale.apply(alpha, x)  # pyright: ignore[reportReturnType]


def combine(alpha: Rows, x: Vectors, beta: Rows, y: Vectors) -> Vectors:
    """``alpha * x + beta * y`` with wide row weights, in the dtype of the vectors."""
    (alpha, beta), (x, y) = _expand((alpha, beta), (x, y))
    return _Combine.apply(alpha, x, beta, y)  # pyright: ignore[reportReturnType]


def triple(x: Vectors, y: Vectors) -> tuple[Rows, Rows, Rows]:
    """``|x|², |y|², |x - y|²`` of each pair of rows."""
    _, (x, y) = _expand((), (x, y))
    return _Triple.apply(x, y)  # pyright: ignore[reportReturnType]
