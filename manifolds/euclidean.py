"""Flat space in the ball's convention: the control twin of every hyperbolic experiment."""

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds import cones, hyperplanes, scalars
from manifolds.base import AbstractManifold
from manifolds.hyperplanes import Normals, Offsets
from manifolds.mappings import Points, Tangents, Values, finish
from manifolds.means import Weights, normalized
from manifolds.pairwise import Matrix, pairwise_flat
from manifolds.scalars import dot, root, square, triple


class Euclidean(AbstractManifold):
    """R^n as the limit of the Poincaré ball for ``c -> 0``: the metric is four times the usual one.

    In the ball the metric at the origin is ``λ² = 4``, whatever ``c`` is. The flat twin keeps that factor everywhere:
    ``dist(x, y) = 2|x - y|``, ``norm(x, v) = 2|v|``, ``egrad2rgrad(x, g) = g/4``, while ``expmap0`` is the identity and
    Möbius addition is addition. So a head, a temperature or a margin tuned on one can be read on the other, and
    ``PoincareBall(c)`` tends to ``Euclidean()`` in values and in gradients.

    Args:
        check: raise on points that are not finite; costs a read of the values.

    Example:
        >>> flat = Euclidean()
        >>> flat.dist(torch.zeros(2), torch.tensor([0.3, 0.4]))
        tensor(1.)
    """

    name = "Euclidean"
    reversible = True

    def __init__(self, check: bool = False) -> None:
        super().__init__()
        self.check = check

    @property
    def c(self) -> Tensor:
        """Zero: flat."""
        return torch.zeros((), dtype=torch.float64)

    @property
    def curvature(self) -> Tensor:
        """Zero: flat."""
        return self.c

    def _vectors(self, *tensors: Tensor, names: str) -> list[Tensor]:
        if self.check:
            for x in tensors:
                self.assert_check_point(x)
        return scalars.as_vectors(*tensors, names=names)

    def origin(self, *size: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Points:
        """Zeros of the given shape."""
        return torch.zeros(*size, dtype=dtype, device=device)

    def tangent0(self, features: Tangents) -> Tangents:
        """The features themselves."""
        return features

    def projx(self, x: Points) -> Points:
        """``x``: every vector is a point."""
        self._vectors(x, names="projx")
        return x

    def proju(self, x: Points, v: Tangents) -> Tangents:
        """Every vector is tangent: ``v``, broadcast to ``x``."""
        return v.expand(torch.broadcast_shapes(x.shape, v.shape))

    def lambda_x(self, x: Points, *, keepdim: bool = False) -> Values:
        """The conformal factor, 2 everywhere."""
        (x,) = self._vectors(x, names="lambda_x")
        return torch.full_like(x[..., :1] if keepdim else x[..., 0], 2.0)

    def dist(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """``2|x - y|``; subgradient 0 where the points coincide."""
        x, y = self._vectors(x, y, names="dist")
        return finish(2.0 * root(triple(x, y)[2]), x.dtype, keepdim)

    def sqdist(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """``4|x - y|²``."""
        x, y = self._vectors(x, y, names="sqdist")
        return finish(4.0 * triple(x, y)[2], x.dtype, keepdim)

    def dist0(self, x: Points, *, keepdim: bool = False) -> Values:
        """``2|x|``."""
        (x,) = self._vectors(x, names="dist0")
        return finish(2.0 * root(square(x)), x.dtype, keepdim)

    def pairwise_dist(self, x: Points, y: Points | None = None) -> Matrix:
        """Distance matrix, shape (*, n, m)."""
        self._vectors(x, *(() if y is None else (y,)), names="pairwise_dist")
        return pairwise_flat(x, y)

    def expmap(self, x: Points, v: Tangents) -> Points:
        """``x + v``."""
        x, v = self._vectors(x, v, names="expmap")
        return x + v

    def logmap(self, x: Points, y: Points) -> Tangents:
        """``y - x``."""
        x, y = self._vectors(x, y, names="logmap")
        return y - x

    def expmap0(self, v: Tangents) -> Points:
        """``v``."""
        return self._vectors(v, names="expmap0")[0]

    def logmap0(self, y: Points) -> Tangents:
        """``y``."""
        return self._vectors(y, names="logmap0")[0]

    def transp(self, x: Points, y: Points, v: Tangents) -> Tangents:
        """``v``, broadcast to the points."""
        return self._carried(v, x, y, names="transp")

    def _carried(self, v: Tensor, *points: Tensor, names: str) -> Tensor:
        lifted = self._vectors(v, *points, names=names)
        return lifted[0].expand(torch.broadcast_shapes(*(x.shape for x in lifted)))

    def transp0(self, y: Points, v: Tangents) -> Tangents:
        """``v``, broadcast to ``y``."""
        return self._carried(v, y, names="transp0")

    def transp0back(self, x: Points, v: Tangents) -> Tangents:
        """``v``, broadcast to ``x``."""
        return self._carried(v, x, names="transp0back")

    def inner(self, x: Points, u: Tangents, v: Tangents | None = None, *, keepdim: bool = False) -> Values:
        """``4⟨u, v⟩``; of ``u`` with itself where ``v`` is left out."""
        x, u, v = self._vectors(x, u, u if v is None else v, names="inner")
        return finish(4.0 * dot(u, v), x.dtype, keepdim)

    def norm(self, x: Points, v: Tangents, *, keepdim: bool = False) -> Values:
        """``2|v|``."""
        x, v = self._vectors(x, v, names="norm")
        return finish(2.0 * root(square(v)), x.dtype, keepdim)

    def egrad2rgrad(self, x: Points, u: Tangents) -> Tangents:
        """``u/4``."""
        x, u = self._vectors(x, u, names="egrad2rgrad")
        return u / 4.0

    def geodesic(self, t: float | Tensor, x: Points, y: Points) -> Points:
        """``x + t(y - x)``."""
        x, y = self._vectors(x, y, names="geodesic")
        return x + t * (y - x)

    def mobius_add(self, x: Points, y: Points) -> Points:
        """``x + y``."""
        x, y = self._vectors(x, y, names="mobius_add")
        return x + y

    def mobius_sub(self, x: Points, y: Points) -> Points:
        """``x - y``."""
        x, y = self._vectors(x, y, names="mobius_sub")
        return x - y

    def mobius_scalar_mul(self, r: float | Tensor, x: Points) -> Points:
        """``r x``."""
        return r * self._vectors(x, names="mobius_scalar_mul")[0]

    def mobius_matvec(self, m: Float[Tensor, "*batch out dim"], x: Points) -> Float[Tensor, "*batch out"]:
        """``M x``, outside autocast."""
        m, x = self._vectors(m, x, names="mobius_matvec")
        with scalars.without_autocast(x):
            return (m @ x[..., None]).squeeze(-1) if m.ndim > 2 else x @ m.mT

    def gyration(self, x: Points, y: Points, v: Tangents) -> Tangents:
        """``v``: flat space has no gyration."""
        return self._carried(v, x, y, names="gyration")

    def midpoint(self, x: Points, weights: Weights | None = None) -> Points:
        """Weighted mean of sets of points, shape (*, dim)."""
        (wide,) = self._vectors(x, names="midpoint")
        points, w = normalized(wide, weights, "midpoint")
        return (w * points).sum(-2).to(wide.dtype)

    def frechet_mean(
        self, x: Points, weights: Weights | None = None, tolerance: float = 1e-9, max_steps: int = 100
    ) -> Points:
        """The same as ``midpoint``: the mean minimizes squared distances in closed form."""
        return self.midpoint(x, weights)

    def half_aperture(self, x: Points, k: float = 0.1, *, keepdim: bool = False) -> Values:
        """``arcsin(K/|x|)``, π/2 within ``K`` of the origin: the flat cones of Ganea et al. 2018 (section 3)."""
        (x,) = self._vectors(x, names="half_aperture")
        return finish(cones.aperture_of(cones.checked(k), root(square(x))), x.dtype, keepdim)

    def cone_angle(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """Angle at ``x`` between ``x`` and ``y - x``."""
        x, y = self._vectors(x, y, names="cone_angle")
        return finish(cones.angle_of(x, y, 0.0), x.dtype, keepdim)

    def cone_violation(self, x: Points, y: Points, k: float = 0.1, margin: float = 0.0) -> Values:
        """See ``cones.cone_violation``."""
        return cones.violation(self.cone_angle(x, y), self.half_aperture(x, k), margin)

    def busemann(self, p: Tangents, x: Points, *, keepdim: bool = False) -> Values:
        """``-2⟨p, x⟩`` for a unit ``p``: the signed distance from a plane through the origin."""
        p, x = self._vectors(p, x, names="busemann")
        wide = x.to(scalars.wide_dtype(x))
        return finish(-2.0 * dot(cones.unit(p.to(wide.dtype)), wide), x.dtype, keepdim)

    def hyperplane_distance(self, x: Points, z: Normals, r: Offsets) -> Float[Tensor, "*batch planes"]:
        """``2(⟨x, z⟩/|z| - r)``."""
        x, z = self._vectors(x, z, names="hyperplane_distance")
        return hyperplanes.plane_distance(x, z, r, 0.0).to(x.dtype)
