"""Bridge to geoopt: Riemannian optimizers over parameters that live on our manifolds.

geoopt asks a manifold for its methods, not for its class, so ``geoopt.ManifoldParameter(x, manifold=PoincareBall())``
and ``geoopt.optim.RiemannianAdam`` work as they are. The two functions here save the wrapping and keep the choice of
optimizer in one place. This is the only module that imports geoopt.
"""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from manifolds.base import AbstractManifold

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
    import geoopt


def manifold_parameter(x: Tensor, manifold: AbstractManifold, requires_grad: bool = True) -> geoopt.ManifoldParameter:
    """A parameter that optimizers move along geodesics of ``manifold``.

    Points outside are pulled in first. A copy is made; ``x`` is left alone. Half precision points are refused: they
    cannot be stored away from the boundary with useful accuracy.

    Args:
        x: points, shape (*, dim), float32 or wider.
        manifold: where they live.
        requires_grad: as for any parameter.

    Raises:
        TypeError: ``x`` is half precision or not floating point.

    Example:
        >>> from manifolds import PoincareBall
        >>> manifold_parameter(torch.zeros(3, 2), PoincareBall()).shape
        torch.Size([3, 2])
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"manifold_parameter needs float32 or float64 points, got {x.dtype}; convert with .float()")
    with torch.no_grad():
        x = manifold.projx(x.detach()).clone()
    return geoopt.ManifoldParameter(x, manifold=manifold, requires_grad=requires_grad)  # pyright: ignore[reportCallIssue, reportArgumentType]


def riemannian_adam(parameters: Iterable[Any], lr: float = 1e-3, **options: Any) -> geoopt.optim.RiemannianAdam:
    """Geoopt's Riemannian Adam; plain parameters among ``parameters`` are stepped as in Adam.

    Example:
        >>> from manifolds import PoincareBall
        >>> _ = riemannian_adam([manifold_parameter(torch.zeros(2), PoincareBall())], lr=0.1)
    """
    return geoopt.optim.RiemannianAdam(parameters, lr=lr, **options)


def riemannian_sgd(parameters: Iterable[Any], lr: float, **options: Any) -> geoopt.optim.RiemannianSGD:
    """Geoopt's Riemannian gradient descent; plain parameters are stepped as in SGD.

    With ``momentum`` geoopt 0.5.1 starts its buffer from the Euclidean gradient, which is long near the boundary: start
    points well inside, or leave momentum out.

    Example:
        >>> from manifolds import PoincareBall
        >>> _ = riemannian_sgd([manifold_parameter(torch.zeros(2), PoincareBall())], lr=0.1)
    """
    return geoopt.optim.RiemannianSGD(parameters, lr=lr, **options)
