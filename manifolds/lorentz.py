"""The Lorentz (hyperboloid) model and its maps to and from the ball, for points and for tangent vectors.

Points are ``(x₀, x_s)`` with ``-x₀² + |x_s|² = -1/c`` and ``x₀ > 0``; tangent vectors ``v`` obey ``⟨x, v⟩_L = 0``. Only
the space part is trusted: ``x₀`` and ``v₀`` are recomputed from it in float64, so a rounded time part costs nothing.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds import cones, hyperplanes, mappings, means, scalars
from manifolds.base import AbstractHyperbolic
from manifolds.hyperplanes import Normals, Offsets
from manifolds.mappings import Points, Tangents, Values, finish
from manifolds.means import Weights
from manifolds.pairwise import Matrix, pairwise_dist
from manifolds.scalars import Curvature, asinh_ratio, root, square

LorentzPoints = Float[Tensor, "*batch dim+1"]


def _time(space: Tensor, c: Curvature) -> Tensor:
    """``x₀ = √(1/c + |x_s|²)``."""
    return (1.0 / c + square(space.to(scalars.wide_dtype(space)))).sqrt()


def _from_space(space: Tensor, c: Curvature) -> LorentzPoints:
    """The point of the hyperboloid over a space part, its time part as exact as the dtype allows."""
    return torch.cat([_time(space, c).to(space.dtype), space], dim=-1)


def from_ball(x: Points, c: Curvature = 1.0) -> LorentzPoints:
    """A point of the ball on the hyperboloid: ``x_s = 2x/(1 - c|x|²)``, ``x₀ = √(1/c + |x_s|²)``.

    Example:
        >>> from_ball(torch.tensor([0.5, 0.0]))
        tensor([1.6667, 1.3333, 0.0000])
    """
    (x,) = scalars.as_vectors(x, names="from_ball")
    c = scalars.as_curvature(c, x, "from_ball")
    return _from_space(scalars.scale(2.0 / mappings.margin(x, c), x), c)


def to_ball(x: LorentzPoints, c: Curvature = 1.0) -> Points:
    """The ball's point ``x_s/(1 + √c x₀)``, from the space part alone.

    Example:
        >>> to_ball(from_ball(torch.tensor([0.5, 0.0])))
        tensor([0.5000, 0.0000])
    """
    (x,) = scalars.as_vectors(x, names="to_ball")
    c = scalars.as_curvature(c, x, "to_ball")
    space = x[..., 1:]
    shrink = 1.0 / (1.0 + (1.0 + c * square(space)).sqrt())
    radius_square = c * square(space) * shrink.square()
    return scalars.scale(mappings.inside(shrink, radius_square, mappings.storage_dtype(x)), space)


def tangent_from_ball(x: Points, v: Tangents, c: Curvature = 1.0) -> LorentzPoints:
    """The differential of ``from_ball`` at ``x``: ``v₀ = 4√c⟨x,v⟩/a²``, ``v_s = 2v/a + 4c⟨x,v⟩x/a²``."""
    x, v = scalars.as_vectors(x, v, names="tangent_from_ball")
    c = scalars.as_curvature(c, x, "tangent_from_ball")
    a = mappings.margin(x, c)
    lean = 4.0 * scalars.dot(x, v) / a.square()
    return torch.cat([(c**0.5 * lean).to(x.dtype), scalars.combine(2.0 / a, v, c * lean, x)], dim=-1)


def tangent_to_ball(x: LorentzPoints, v: LorentzPoints, c: Curvature = 1.0) -> Tangents:
    """The differential of ``to_ball`` at ``x``: ``(v_s - √c v₀ x_s/(1 + √c x₀))/(1 + √c x₀)``; ``v₀`` from ``v_s``."""
    x, v = scalars.as_vectors(x, v, names="tangent_to_ball")
    c = scalars.as_curvature(c, x, "tangent_to_ball")
    space, push = x[..., 1:], v[..., 1:]
    time = (1.0 + c * square(space)).sqrt()
    lean = c * scalars.dot(space, push) / time
    return scalars.combine(1.0 / (1.0 + time), push, -lean / (1.0 + time).square(), space)


class Lorentz(AbstractHyperbolic):
    """The hyperboloid of sectional curvature ``-c`` in R^(n+1), time first.

    Computed in float64 from the space parts, whatever the dtype of the points: float32 points keep their digits at any
    distance, float64 points near each other lose those that one rounding of the points costs. Distances and the tangent
    at the origin are those of ``PoincareBall(c)`` under ``from_ball``: ``tangent0(u) = (0, 2u)`` reaches ``2|u|``.

    Arguments and errors are those of ``AbstractHyperbolic``.

    Example:
        >>> lorentz = Lorentz()
        >>> lorentz.dist0(lorentz.expmap0(lorentz.tangent0(torch.tensor([0.3, 0.4]))))
        tensor(1.)
    """

    name = "Lorentz"
    reversible = False
    features_offset = -1

    def _wide(self, *tensors: Tensor, points: int = 1, names: str) -> tuple[list[Tensor], torch.dtype]:
        """All tensors in float64, the first ``points`` of them checked if asked for, and the dtype of the result."""
        self._seen(*tensors[:points])
        lifted = scalars.as_vectors(*tensors, names=f"Lorentz.{names}")
        if lifted[0].shape[-1] < 2:
            raise ValueError(f"Lorentz.{names} needs a time and a space coordinate, got shape {tuple(lifted[0].shape)}")
        return [t.to(scalars.wide_dtype(t)) for t in lifted], lifted[0].dtype

    def check_point(self, x: Tensor) -> str | None:
        """The reason why ``x`` cannot hold points of this hyperboloid, or None."""
        reason = super().check_point(x)
        if reason is not None or x.numel() == 0:
            return reason
        wide = x.detach().to(torch.float64)
        off = float(((wide[..., :1] / _time(wide[..., 1:], self.c.detach())) - 1.0).abs().max())
        allowed = 16 * torch.finfo(x.dtype).eps
        if off <= allowed:
            return None
        return f"Lorentz needs x0 = sqrt(1/c + |x_s|²), got a relative gap of {off:.3g}; apply projx first"

    def origin(self, *size: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Points:
        """``(1/√c, 0, ..., 0)`` in the given shape."""
        return _from_space(torch.zeros(*size, dtype=dtype, device=device)[..., 1:], self.c)

    def _feature_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (*size[:-1], size[-1] - 1)

    def tangent0(self, features: Float[Tensor, "*batch features"]) -> Tangents:
        """``(0, 2u)``: one coordinate more than the features."""
        return torch.nn.functional.pad(2.0 * features, (1, 0))

    def features0(self, v: Tangents) -> Float[Tensor, "*batch features"]:
        """``v_s/2``, the inverse of ``tangent0``."""
        return v[..., 1:] / 2.0

    def to_ball(self, x: LorentzPoints) -> Points:
        """See ``lorentz.to_ball``."""
        return to_ball(x, self.c)

    def from_ball(self, x: Points) -> LorentzPoints:
        """See ``lorentz.from_ball``."""
        return from_ball(x, self.c)

    def projx(self, x: Points) -> Points:
        """Recompute the time part from the space part; idempotent bit for bit."""
        self._wide(x, points=0, names="projx")
        return _from_space(x[..., 1:], self.c)

    def proju(self, x: Points, v: Tangents) -> Tangents:
        """Nearest tangent vector in the Lorentz sense: ``v + c⟨x, v⟩_L x``."""
        (x, v), dtype = self._wide(x, v, names="proju")
        time = _time(x[..., 1:], self.c)
        product = scalars.dot(x[..., 1:], v[..., 1:]) - time * v[..., :1]
        space = v[..., 1:] + self.c * product * x[..., 1:]
        return self._tangent(x, space, dtype)

    def _tangent(self, x: Tensor, space: Tensor, dtype: torch.dtype) -> Tangents:
        """The tangent vector at ``x`` with the given space part."""
        time = scalars.dot(x[..., 1:], space) / _time(x[..., 1:], self.c)
        return torch.cat([time, space], dim=-1).to(dtype)

    def _ratio(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``‖x - y‖²_L / 4`` without cancellation, through the ball, and ``c``."""
        c = self.c
        shrunk = [s / (1.0 + (1.0 + c * square(s)).sqrt()) for s in (x[..., 1:], y[..., 1:])]
        margins = [2.0 / (1.0 + (1.0 + c * square(s)).sqrt()) for s in (x[..., 1:], y[..., 1:])]
        return square(shrunk[0] - shrunk[1]) / (margins[0] * margins[1]), c

    def _stored(self, ball: Tensor, c: Tensor, dtype: torch.dtype) -> LorentzPoints:
        """A point of the wide ball, within the radius of ``dtype``, as a point of the hyperboloid in that dtype."""
        ball = mappings.within(ball, c, dtype)
        return _from_space(scalars.scale(2.0 / mappings.margin(ball, c), ball).to(dtype), c)

    def dist(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """Geodesic distance; subgradient 0 where the points coincide."""
        (x, y), dtype = self._wide(x, y, points=2, names="dist")
        spread, c = self._ratio(x, y)
        return finish(2.0 * root(spread) * asinh_ratio(c * spread), dtype, keepdim)

    def sqdist(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """Squared distance, smooth everywhere."""
        (x, y), dtype = self._wide(x, y, points=2, names="sqdist")
        spread, c = self._ratio(x, y)
        return finish(4.0 * spread * asinh_ratio(c * spread).square(), dtype, keepdim)

    def dist0(self, x: Points, *, keepdim: bool = False) -> Values:
        """``asinh(√c|x_s|)/√c``."""
        (x,), dtype = self._wide(x, names="dist0")
        length = square(x[..., 1:])
        return finish(root(length) * asinh_ratio(self.c * length), dtype, keepdim)

    def pairwise_dist(self, x: Points, y: Points | None = None) -> Matrix:
        """Distance matrix, through the ball in float64."""
        (x, *rest), dtype = self._wide(x, *(() if y is None or y is x else (y,)), points=2, names="pairwise_dist")
        balls = [to_ball(z, self.c) for z in (x, *rest)]
        return pairwise_dist(balls[0], balls[-1], self.c).to(dtype)

    def expmap(self, x: Points, v: Tangents) -> Points:
        """``cosh(√c|v|)x + sinh(√c|v|)v/(√c|v|)``, through the ball, so that a long step cannot overflow."""
        (x, v), dtype = self._wide(x, v, names="expmap")
        c = self.c
        return self._stored(mappings.expmap(to_ball(x, c), tangent_to_ball(x, v, c), c), c, dtype)

    def logmap(self, x: Points, y: Points) -> Tangents:
        """Logarithmic map."""
        (x, y), dtype = self._wide(x, y, points=2, names="logmap")
        c = self.c
        ball_x = to_ball(x, c)
        return tangent_from_ball(ball_x, mappings.logmap(ball_x, to_ball(y, c), c), c).to(dtype)

    def expmap0(self, v: Tangents) -> Points:
        """Exponential map at the origin; the time part of ``v`` is zero there and not read."""
        (v,), dtype = self._wide(v, points=0, names="expmap0")
        c = self.c
        return self._stored(mappings.expmap0(v[..., 1:] / 2.0, c), c, dtype)

    def logmap0(self, y: Points) -> Tangents:
        """Logarithmic map at the origin."""
        (y,), dtype = self._wide(y, names="logmap0")
        return self.tangent0(mappings.logmap0(to_ball(y, self.c), self.c)).to(dtype)

    def transp(self, x: Points, y: Points, v: Tangents) -> Tangents:
        """Parallel transport along the geodesic from ``x`` to ``y``."""
        (x, y, v), dtype = self._wide(x, y, v, points=2, names="transp")
        c = self.c
        ball_x, ball_y = to_ball(x, c), to_ball(y, c)
        return tangent_from_ball(ball_y, mappings.transp(ball_x, ball_y, tangent_to_ball(x, v, c), c), c).to(dtype)

    def transp0(self, y: Points, v: Tangents) -> Tangents:
        """Parallel transport from the origin."""
        (y, v), dtype = self._wide(y, v, names="transp0")
        ball_y = to_ball(y, self.c)
        return tangent_from_ball(ball_y, mappings.transp0(ball_y, self.features0(v), self.c), self.c).to(dtype)

    def transp0back(self, x: Points, v: Tangents) -> Tangents:
        """Parallel transport to the origin."""
        (x, v), dtype = self._wide(x, v, names="transp0back")
        c = self.c
        return self.tangent0(mappings.transp0back(to_ball(x, c), tangent_to_ball(x, v, c), c)).to(dtype)

    def inner(self, x: Points, u: Tangents, v: Tangents | None = None, *, keepdim: bool = False) -> Values:
        """Lorentz product ``⟨u_s, v_s⟩ - u₀v₀``, taken through the ball where it cannot cancel."""
        (x, u, v), dtype = self._wide(x, u, u if v is None else v, names="inner")
        c = self.c
        ball_u, ball_v = tangent_to_ball(x, u, c), tangent_to_ball(x, v, c)
        return mappings.inner(to_ball(x, c), ball_u, ball_v, c, keepdim).to(dtype)

    def norm(self, x: Points, v: Tangents, *, keepdim: bool = False) -> Values:
        """Riemannian length of ``v``."""
        (x, v), dtype = self._wide(x, v, names="norm")
        return mappings.norm(to_ball(x, self.c), tangent_to_ball(x, v, self.c), self.c, keepdim).to(dtype)

    def egrad2rgrad(self, x: Points, u: Tangents) -> Tangents:
        """Riemannian gradient: flip the sign of the time part, then project to the tangent space."""
        flipped = torch.cat([-u[..., :1], u[..., 1:]], dim=-1)
        return self.proju(x, flipped)

    def geodesic(self, t: float | Tensor, x: Points, y: Points) -> Points:
        """Point at time ``t`` between ``x`` and ``y``."""
        (x, y), dtype = self._wide(x, y, points=2, names="geodesic")
        c = self.c
        return self._stored(mappings.geodesic(t, to_ball(x, c), to_ball(y, c), c), c, dtype)

    def _of_result(self) -> Tensor:
        """The curvature of one point, where that of a set of points ends in two axes of one."""
        return self.c.squeeze(-1) if self.c.ndim else self.c

    def midpoint(self, x: Points, weights: Weights | None = None) -> Points:
        """Lorentz centroid: the sum of the points, scaled back to the hyperboloid; the ball's gyromidpoint."""
        (x,), dtype = self._wide(x, names="midpoint")
        c = self.c
        return self._stored(means.gyromidpoint(to_ball(x, c), weights, c), self._of_result(), dtype)

    def frechet_mean(
        self, x: Points, weights: Weights | None = None, tolerance: float = 1e-9, max_steps: int = 100
    ) -> Points:
        """See ``means.frechet_mean``."""
        (x,), dtype = self._wide(x, names="frechet_mean")
        c = self.c
        mean = means.frechet_mean(to_ball(x, c), weights, c, tolerance, max_steps)
        return self._stored(mean, self._of_result(), dtype)

    def half_aperture(self, x: Points, k: float = 0.1, *, keepdim: bool = False) -> Values:
        """``arcsin(2K/(√c|x_s|))``: see ``cones.half_aperture``."""
        (x,), dtype = self._wide(x, names="half_aperture")
        return cones.half_aperture(to_ball(x, self.c), self.c, k, keepdim).to(dtype)

    def cone_angle(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """See ``cones.cone_angle``."""
        (x, y), dtype = self._wide(x, y, points=2, names="cone_angle")
        return cones.cone_angle(to_ball(x, self.c), to_ball(y, self.c), self.c, keepdim).to(dtype)

    def cone_violation(self, x: Points, y: Points, k: float = 0.1, margin: float = 0.0) -> Values:
        """See ``cones.cone_violation``."""
        return cones.violation(self.cone_angle(x, y), self.half_aperture(x, k), margin)

    def busemann(self, p: Tangents, x: Points, *, keepdim: bool = False) -> Values:
        """See ``cones.busemann``; ``p`` is a direction among the features of ``tangent0``."""
        (x,), dtype = self._wide(x, names="busemann")
        return cones.busemann(p.to(x.dtype), to_ball(x, self.c), self.c, keepdim).to(dtype)

    def hyperplane_distance(self, x: Points, z: Normals, r: Offsets) -> Float[Tensor, "*batch planes"]:
        """See ``hyperplanes.hyperplane_distance``; ``z`` are directions among the features of ``tangent0``."""
        (x,), dtype = self._wide(x, names="hyperplane_distance")
        return hyperplanes.hyperplane_distance(to_ball(x, self.c), z, r, self.c).to(dtype)
