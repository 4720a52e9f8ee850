"""Distance matrices without an (N, M, D) tensor."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds import scalars
from manifolds.mappings import Points, margin
from manifolds.scalars import Curvature, asinh_ratio, root

Matrix = Float[Tensor, "*batch rows columns"]


@torch.library.custom_op("manifolds::pair_square", mutates_args=())
def _pair_square(x: Tensor, y: Tensor) -> Tensor:
    wide = scalars.wide_dtype(x)
    left, right = x.to(wide), y.to(wide)
    xx, yy = left.square().sum(-1)[..., :, None], right.square().sum(-1)[..., None, :]
    gap = (xx + yy - 2.0 * (left @ right.mT)).clamp_(min=0.0)
    near = gap < (1e-2 if x.dtype == wide else 1e-8) * (xx + yy)
    if bool(near.any()):
        i = near.nonzero()
        batch = gap.shape[:-2]
        left, right = left.expand(*batch, *left.shape[-2:]), right.expand(*batch, *right.shape[-2:])
        head = tuple(i[:, :-2].unbind(-1))
        gap[near] = (left[(*head, i[:, -2])] - right[(*head, i[:, -1])]).square().sum(-1)
    return gap


@_pair_square.register_fake
def _(x: Tensor, y: Tensor) -> Tensor:
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    return x.new_empty((*batch, x.shape[-2], y.shape[-2]), dtype=scalars.wide_dtype(x))


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _pair_square_backward(ctx: Any, grad: Tensor) -> Any:
    x, y = (t.to(grad.dtype) for t in ctx.saved_tensors)
    gx = 2.0 * (grad.sum(-1, keepdim=True) * x - grad @ y)
    gy = 2.0 * (grad.sum(-2)[..., None] * y - grad.mT @ x)
    return gx.sum_to_size(x.shape).to(ctx.saved_tensors[0].dtype), gy.sum_to_size(y.shape).to(
        ctx.saved_tensors[1].dtype
    )


_pair_square.register_autograd(_pair_square_backward, setup_context=_save)


def pairwise_dist(x: Points, y: Points | None = None, c: Curvature = 1.0) -> Matrix:
    """All distances between the rows of ``x`` (*, n, dim) and of ``y`` (*, m, dim), shape (*, n, m).

    Args:
        x: points, shape (*, n, dim).
        y: points, shape (*, m, dim); ``x`` itself where left out.
        c: curvature, 0-dim or ending in two axes of one.

    Example:
        >>> pairwise_dist(torch.zeros(2, 3), torch.zeros(4, 3)).shape
        torch.Size([2, 4])
    """
    x, y = scalars.as_vectors(x, x if y is None else y, names="pairwise_dist")
    c = scalars.as_curvature(c, x, "pairwise_dist")
    spread = _pair_square(x, y) / (margin(x, c) * margin(y, c).mT)
    return scalars.narrow(2.0 * root(spread) * asinh_ratio(c * spread), x.dtype)


def pairwise_flat(x: Points, y: Points | None = None) -> Matrix:
    """The limit of ``pairwise_dist`` for ``c -> 0``: ``2|x - y|`` for all pairs of rows."""
    x, y = scalars.as_vectors(x, x if y is None else y, names="pairwise_dist")
    return scalars.narrow(2.0 * root(_pair_square(x, y)), x.dtype)
