"""Weighted sums of differences of rows, ``Σ_j w_ij (x_i - y_j)``, without an (N, M, D) tensor.

They are what a distance matrix pulls its points by. Two matrix products give them, and lose digits where ``x_i`` and
``y_j`` are near. Products in float64 have these digits to spare; on a CPU they cost twice as much as products in
float32, so float32 points are multiplied as they are and only near pairs are taken from their differences.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from manifolds.differentiable import differentiable, maps_over_batches

NEAR_BELOW = 1 / 16
"""Pairs whose squared gap is below this part of ``|x|² + |y|²`` lose more than two bits in a product."""
DENSE_FRACTION = 0.02
"""Part of all pairs above which float64 products are quicker than single differences."""


def weighted_differences(
    weight: Float[Tensor, "*batch n m"],
    x: Float[Tensor, "*batch n d"],
    y: Float[Tensor, "*batch m d"],
    near: Bool[Tensor, "*batch n m"],
) -> tuple[Float[Tensor, "*batch n d"], Float[Tensor, "*batch m d"]]:
    """``Σ_j w_ij (x_i - y_j)`` and ``Σ_i w_ij (y_j - x_i)``.

    Args:
        weight: (*, n, m), wide.
        x: (*, n, d).
        y: (*, m, d), of the dtype of ``x``.
        near: (*, n, m), pairs with ``|x_i - y_j|²`` below about ``NEAR_BELOW (|x_i|² + |y_j|²)``.

    Returns:
        Sums in the dtype of ``x``, shapes (*, n, d) and (*, m, d).
    """
    if x.dtype == weight.dtype or x.device.type != "cpu":
        return _wide_products(weight, x, y)
    return _mixed(weight, x, y, near)


def _products(weight: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    turned = weight.mT
    return weight.sum(-1, keepdim=True) * x - weight @ y, turned.sum(-1, keepdim=True) * y - turned @ x


def _wide_products(weight: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    to_x, to_y = _products(weight, x.to(weight.dtype), y.to(weight.dtype))
    return to_x.to(x.dtype), to_y.to(y.dtype)


@torch.library.custom_op("manifolds::weighted_differences", mutates_args=())
def _differences(weight: Tensor, x: Tensor, y: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    near = near.expand(weight.shape)  # one mask may serve several weights
    counts = near.sum((-2, -1))
    dense = counts > DENSE_FRACTION * (near.shape[-2] * near.shape[-1])  # a matrix is summed alike in every batch
    if dense.all():
        return _wide_products(weight, x, y)
    if not dense.any():
        return _sums_with_few_near(weight, x, y, near, bool(counts.any()))
    batch = weight.shape[:-2]
    x, y = x.expand(*batch, *x.shape[-2:]), y.expand(*batch, *y.shape[-2:])
    to_x, to_y = torch.empty_like(x), torch.empty_like(y)
    to_x[dense], to_y[dense] = _wide_products(weight[dense], x[dense], y[dense])
    few = ~dense
    to_x[few], to_y[few] = _sums_with_few_near(weight[few], x[few], y[few], near[few], bool(counts[few].any()))
    return to_x, to_y


def _sums_with_few_near(weight: Tensor, x: Tensor, y: Tensor, near: Tensor, any_near: bool) -> tuple[Tensor, Tensor]:
    far = weight.masked_fill(near, 0.0).to(x.dtype) if any_near else weight.to(x.dtype)
    to_x, to_y = _products(far, x, y)
    if any_near:
        batch = weight.shape[:-2]
        *head, i, j = near.nonzero(as_tuple=True)
        rows, columns = (*head, i), (*head, j)
        gap = x.expand(*batch, *x.shape[-2:])[rows] - y.expand(*batch, *y.shape[-2:])[columns]
        pull = (weight[near][:, None] * gap).to(x.dtype)
        to_x.index_put_(rows, pull, accumulate=True)
        to_y.index_put_(columns, -pull, accumulate=True)
    return to_x, to_y


@_differences.register_fake
def _(weight: Tensor, x: Tensor, y: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    batch = weight.shape[:-2]
    return x.new_empty((*batch, *x.shape[-2:])), y.new_empty((*batch, *y.shape[-2:]))


maps_over_batches(_differences, axes=2)


def _pullback(need: Any, weight: Tensor, x: Tensor, y: Tensor, near: Tensor, to_x: Tensor, to_y: Tensor) -> Any:
    """The sums are their own adjoint in the points; in the weights they are inner products with the differences."""
    from_x, from_y = _wide_products(weight, to_x, to_y)
    of_weight = None
    if need[0]:
        wide_x, wide_y, to_x, to_y = (t.to(weight.dtype) for t in (x, y, to_x, to_y))
        own_x, own_y = (to_x * wide_x).sum(-1, keepdim=True), (to_y * wide_y).sum(-1, keepdim=True)
        of_weight = own_x + own_y.mT - to_x @ wide_y.mT - wide_x @ to_y.mT
    return of_weight, from_x.sum_to_size(x.shape), from_y.sum_to_size(y.shape), None


def _pushforward(
    weight: Tensor, x: Tensor, y: Tensor, near: Tensor, d_weight: Tensor, dx: Tensor, dy: Tensor, _near: Any
) -> Any:
    along, across = _wide_products(weight, dx, dy), _wide_products(d_weight, x, y)
    return along[0] + across[0], along[1] + across[1]


_mixed = differentiable(lambda *arguments: _differences(*arguments), _pullback, _pushforward)
