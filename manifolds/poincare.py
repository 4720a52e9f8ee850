"""The Poincaré ball: the class over the functions of ``mappings``, ``gyro`` and ``pairwise``, which it re-exports.

>>> import torch
>>> from manifolds import PoincareBall, poincare
>>> x, y = torch.tensor([0.1, 0.2]), torch.tensor([0.3, -0.4])
>>> PoincareBall(c=0.5).dist(x, y) == poincare.dist(x, y, c=0.5)
tensor(True)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds import gyro, mappings, pairwise, scalars
from manifolds.base import AbstractManifold
from manifolds.curvature import Curvature
from manifolds.gyro import gyration, mobius_add, mobius_matvec, mobius_scalar_mul, mobius_sub
from manifolds.mappings import (
    Points,
    Tangents,
    Values,
    dist,
    dist0,
    egrad2rgrad,
    expmap,
    expmap0,
    geodesic,
    inner,
    lambda_x,
    logmap,
    logmap0,
    norm,
    projx,
    sqdist,
    transp,
    transp0,
    transp0back,
)
from manifolds.pairwise import Matrix, pairwise_dist

__all__ = [
    "PoincareBall",
    "dist",
    "dist0",
    "egrad2rgrad",
    "expmap",
    "expmap0",
    "geodesic",
    "gyration",
    "inner",
    "lambda_x",
    "logmap",
    "logmap0",
    "mobius_add",
    "mobius_matvec",
    "mobius_scalar_mul",
    "mobius_sub",
    "norm",
    "pairwise_dist",
    "projx",
    "sqdist",
    "transp",
    "transp0",
    "transp0back",
]


class PoincareBall(AbstractManifold):
    """The ball ``|x| < 1/√c`` with the metric ``(2/(1 - c|x|²))²``: sectional curvature ``-c``.

    Args:
        c: a positive float, or a tensor that broadcasts against points with a last axis of one.
        learnable: whether ``c`` follows gradients (see ``curvature.Curvature`` for how it is stored).
        check: look at every point that comes in and raise where one is outside; costs a read of the values.

    Raises:
        TypeError: ``c`` is not a number; an operation gets integers.
        ValueError: ``c <= 0``; last axes differ; with ``check=True``, a point is not inside the ball.

    Example:
        >>> ball = PoincareBall(c=1.0)
        >>> x = ball.expmap0(torch.tensor([0.3, 0.4]))
        >>> ball.dist0(x)
        tensor(1.)
    """

    name = "PoincareBall"
    reversible = False

    def __init__(self, c: float | Float[Tensor, "*batch"] = 1.0, learnable: bool = False, check: bool = False) -> None:
        super().__init__()
        self.curvature_module = Curvature(c, learnable)
        self.check = check

    @property
    def c(self) -> Float[Tensor, "*batch"]:
        """Curvature parameter, float64, differentiable where learnable."""
        return self.curvature_module()

    @property
    def curvature(self) -> Tensor:
        """The same as ``c``."""
        return self.curvature_module()

    def _seen(self, *points: Tensor) -> None:
        if self.check:
            for x in points:
                self.assert_check_point(x)

    def check_point(self, x: Tensor) -> str | None:
        """The reason why ``x`` cannot hold points of this ball, or None."""
        reason = super().check_point(x)
        if reason is not None or x.numel() == 0:
            return reason
        worst = float((self.c.detach() * scalars.square(x.detach().to(torch.float64))).max()) ** 0.5
        if worst < 1.0:
            return None
        return f"PoincareBall needs points with √c|x| < 1, got {worst:.9g}; apply projx first"

    def origin(self, *size: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Points:
        """Zeros of the given shape."""
        return torch.zeros(*size, dtype=dtype, device=device)

    def tangent0(self, features: Tangents) -> Tangents:
        """The features themselves: a vector ``u`` reaches distance ``2|u|``."""
        return features

    def projx(self, x: Points) -> Points:
        """See ``mappings.projx``."""
        return mappings.projx(x, self.c)

    def proju(self, x: Points, v: Tangents) -> Tangents:
        """Every vector is tangent: ``v``, broadcast to ``x``."""
        return v.expand(torch.broadcast_shapes(x.shape, v.shape))

    def lambda_x(self, x: Points, *, keepdim: bool = False) -> Values:
        """See ``mappings.lambda_x``."""
        self._seen(x)
        return mappings.lambda_x(x, self.c, keepdim)

    def dist(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """See ``mappings.dist``."""
        self._seen(x, y)
        return mappings.dist(x, y, self.c, keepdim)

    def sqdist(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """See ``mappings.sqdist``."""
        self._seen(x, y)
        return mappings.sqdist(x, y, self.c, keepdim)

    def dist0(self, x: Points, *, keepdim: bool = False) -> Values:
        """See ``mappings.dist0``."""
        self._seen(x)
        return mappings.dist0(x, self.c, keepdim)

    def pairwise_dist(self, x: Points, y: Points | None = None) -> Matrix:
        """See ``pairwise.pairwise_dist``."""
        self._seen(x, *(() if y is None else (y,)))
        return pairwise.pairwise_dist(x, y, self.c)

    def expmap(self, x: Points, v: Tangents) -> Points:
        """See ``mappings.expmap``."""
        self._seen(x)
        return mappings.expmap(x, v, self.c)

    def logmap(self, x: Points, y: Points) -> Tangents:
        """See ``mappings.logmap``."""
        self._seen(x, y)
        return mappings.logmap(x, y, self.c)

    def expmap0(self, v: Tangents) -> Points:
        """See ``mappings.expmap0``."""
        return mappings.expmap0(v, self.c)

    def logmap0(self, y: Points) -> Tangents:
        """See ``mappings.logmap0``."""
        self._seen(y)
        return mappings.logmap0(y, self.c)

    def transp(self, x: Points, y: Points, v: Tangents) -> Tangents:
        """See ``mappings.transp``."""
        self._seen(x, y)
        return mappings.transp(x, y, v, self.c)

    def transp0(self, y: Points, v: Tangents) -> Tangents:
        """See ``mappings.transp0``."""
        self._seen(y)
        return mappings.transp0(y, v, self.c)

    def transp0back(self, x: Points, v: Tangents) -> Tangents:
        """See ``mappings.transp0back``."""
        self._seen(x)
        return mappings.transp0back(x, v, self.c)

    def inner(self, x: Points, u: Tangents, v: Tangents | None = None, *, keepdim: bool = False) -> Values:
        """See ``mappings.inner``."""
        self._seen(x)
        return mappings.inner(x, u, v, self.c, keepdim)

    def norm(self, x: Points, v: Tangents, *, keepdim: bool = False) -> Values:
        """See ``mappings.norm``."""
        self._seen(x)
        return mappings.norm(x, v, self.c, keepdim)

    def egrad2rgrad(self, x: Points, u: Tangents) -> Tangents:
        """See ``mappings.egrad2rgrad``."""
        return mappings.egrad2rgrad(x, u, self.c)

    def geodesic(self, t: float | Tensor, x: Points, y: Points) -> Points:
        """See ``mappings.geodesic``."""
        self._seen(x, y)
        return mappings.geodesic(t, x, y, self.c)

    def mobius_add(self, x: Points, y: Points) -> Points:
        """See ``gyro.mobius_add``."""
        self._seen(x, y)
        return gyro.mobius_add(x, y, self.c)

    def mobius_sub(self, x: Points, y: Points) -> Points:
        """See ``gyro.mobius_sub``."""
        self._seen(x, y)
        return gyro.mobius_sub(x, y, self.c)

    def mobius_scalar_mul(self, r: float | Tensor, x: Points) -> Points:
        """See ``gyro.mobius_scalar_mul``."""
        self._seen(x)
        return gyro.mobius_scalar_mul(r, x, self.c)

    def mobius_matvec(self, m: Float[Tensor, "*batch out dim"], x: Points) -> Float[Tensor, "*batch out"]:
        """See ``gyro.mobius_matvec``."""
        self._seen(x)
        return gyro.mobius_matvec(m, x, self.c)

    def gyration(self, x: Points, y: Points, v: Tangents) -> Tangents:
        """See ``gyro.gyration``."""
        self._seen(x, y)
        return gyro.gyration(x, y, v, self.c)
