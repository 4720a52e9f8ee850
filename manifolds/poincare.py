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

from manifolds import cones, gyro, hyperplanes, mappings, means, pairwise, scalars
from manifolds.base import AbstractHyperbolic
from manifolds.gyro import gyration, mobius_add, mobius_matvec, mobius_scalar_mul, mobius_sub
from manifolds.hyperplanes import Normals, Offsets
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
from manifolds.means import Weights
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


class PoincareBall(AbstractHyperbolic):
    """The ball ``|x| < 1/√c`` with the metric ``(2/(1 - c|x|²))²``: sectional curvature ``-c``.

    Arguments and errors are those of ``AbstractHyperbolic``.

    Example:
        >>> ball = PoincareBall(c=1.0)
        >>> x = ball.expmap0(torch.tensor([0.3, 0.4]))
        >>> ball.dist0(x)
        tensor(1.)
    """

    name = "PoincareBall"
    reversible = False

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

    def midpoint(self, x: Points, weights: Weights | None = None) -> Points:
        """See ``means.gyromidpoint``."""
        self._seen(x)
        return means.gyromidpoint(x, weights, self.c)

    def frechet_mean(
        self, x: Points, weights: Weights | None = None, tolerance: float = 1e-9, max_steps: int = 100
    ) -> Points:
        """See ``means.frechet_mean``."""
        self._seen(x)
        return means.frechet_mean(x, weights, self.c, tolerance, max_steps)

    def half_aperture(self, x: Points, k: float = 0.1, *, keepdim: bool = False) -> Values:
        """See ``cones.half_aperture``."""
        self._seen(x)
        return cones.half_aperture(x, self.c, k, keepdim)

    def cone_angle(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """See ``cones.cone_angle``."""
        self._seen(x, y)
        return cones.cone_angle(x, y, self.c, keepdim)

    def cone_violation(self, x: Points, y: Points, k: float = 0.1, margin: float = 0.0) -> Values:
        """See ``cones.cone_violation``."""
        self._seen(x, y)
        return cones.cone_violation(x, y, self.c, k, margin)

    def busemann(self, p: Tangents, x: Points, *, keepdim: bool = False) -> Values:
        """See ``cones.busemann``."""
        self._seen(x)
        return cones.busemann(p, x, self.c, keepdim)

    def hyperplane_distance(self, x: Points, z: Normals, r: Offsets) -> Float[Tensor, "*batch planes"]:
        """See ``hyperplanes.hyperplane_distance``."""
        self._seen(x)
        return hyperplanes.hyperplane_distance(x, z, r, self.c)
