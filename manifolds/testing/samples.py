"""Hypothesis strategies: points by hyperbolic radius, pairs in every awkward position, tangents, curvatures, shapes.

Hypothesis draws the numbers that matter (dimension, dtype, radii, how the pair lies) and shrinks them; directions come
from a seed. Everything is finite and, with ``derandomize``, the same on every run.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor

from manifolds.base import AbstractManifold

DTYPES = (torch.float32, torch.float64)
DIMENSIONS = (1, 2, 3, 8, 64)
SHAPES = ((), (1,), (5,), (2, 3), (0,))
PAIRS = ("independent", "near", "equal", "antipodal", "collinear")
FLAT_RADIUS = 100.0
BUDGET = 16.0
WIDE = torch.finfo(torch.float64).eps


def curvatures(low: float = 1e-6, high: float = 1e2) -> SearchStrategy[float]:
    """Curvature parameters, log-uniform."""
    return st.floats(math.log(low), math.log(high)).map(math.exp)


def radii(manifold: AbstractManifold, dtype: torch.dtype, reach: float = 1.0) -> SearchStrategy[float]:
    """Distances from the origin: zero, subnormal, tiny, ordinary, and ``reach`` times the largest that is stored."""
    limit = reach * min(manifold.max_radius(dtype), FLAT_RADIUS if math.isinf(manifold.max_radius(dtype)) else math.inf)
    special = [0.0, torch.finfo(dtype).tiny / 4, 1e-6 * limit, 0.1 * limit, limit]
    return st.one_of(st.floats(0.0, limit), st.sampled_from(special))


def _ways(shape: tuple[int, ...], dim: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*shape, dim, generator=generator, dtype=torch.float64)
    return (noise / noise.norm(dim=-1, keepdim=True).clamp(min=1e-300)).to(dtype)


def place(manifold: AbstractManifold, way: Tensor, radius: float) -> Tensor:
    """The points at distance ``radius`` from the origin in the directions ``way``."""
    return manifold.expmap0(manifold.tangent0(way * (radius / 2.0)))


@st.composite
def points(
    draw: DrawFn,
    manifold: AbstractManifold,
    dtype: torch.dtype = torch.float64,
    dim: int = 3,
    shape: tuple[int, ...] = (5,),
    reach: float = 1.0,
) -> Tensor:
    """Points at one drawn distance from the origin, in seeded directions; shape (*shape, dim)."""
    way = _ways(shape, dim, dtype, draw(st.integers(0, 2**16)))
    return place(manifold, way, draw(radii(manifold, dtype, reach)))


@st.composite
def tangents(draw: DrawFn, manifold: AbstractManifold, x: Tensor, longest: float) -> Tensor:
    """Tangent vectors at ``x`` of one drawn Riemannian length up to ``longest``."""
    dim = x.shape[-1] + manifold.features_offset
    way = _ways(tuple(x.shape[:-1]), dim, x.dtype, draw(st.integers(0, 2**16)))
    size = draw(st.one_of(st.floats(0.0, longest), st.sampled_from([0.0, 1e-6 * longest, longest])))
    return manifold.transp0(x, manifold.tangent0(way * (size / 2.0)))


@st.composite
def partners(draw: DrawFn, manifold: AbstractManifold, x: Tensor, kind: str, reach: float) -> Tensor:
    """Points that lie to ``x`` as ``kind`` of ``PAIRS`` says."""
    if kind == "equal":
        return x.clone()
    if kind == "near":
        scale = 1.0 / math.sqrt(max(float(manifold.curvature.detach().max()), FLAT_RADIUS**-2))
        step = math.exp(draw(st.floats(math.log(1e-8), 0.0))) * scale * min(1.0, reach)
        way = _ways(tuple(x.shape[:-1]), x.shape[-1] + manifold.features_offset, x.dtype, draw(st.integers(0, 2**16)))
        return manifold.expmap(x, manifold.transp0(x, manifold.tangent0(way * (step / 2.0))))
    if kind == "antipodal":
        return manifold.expmap0(-manifold.logmap0(x))
    if kind == "collinear":
        return manifold.expmap0(manifold.logmap0(x) * draw(st.floats(-1.0, 1.0)))
    dim = x.shape[-1] + manifold.features_offset
    return draw(points(manifold, x.dtype, dim, tuple(x.shape[:-1]), reach))


@dataclass(frozen=True)
class Sample:
    """What a law is checked on: three points, two tangent vectors at the first, a number, and the tolerances.

    Tolerances are ``BUDGET`` roundings times the condition of the quantity, never plain constants. They hold for
    coordinates in which rounding a point moves it by at most ``sinh(√c ρ)/√c`` roundings at distance ``ρ`` from the
    origin: those of the ball, the hyperboloid and the half-space, not Klein's, which lose twice the digits.

    A manifold that has ``lambda_x`` promises conformal coordinates, in which the length of a vector is one factor times
    its Euclidean length. Others may compute in a float64 chart of their own, and get the tolerance which that costs.
    """

    manifold: AbstractManifold
    x: Tensor
    y: Tensor
    z: Tensor
    u: Tensor
    v: Tensor
    t: float
    seed: int

    @property
    def unit(self) -> float:
        """One rounding of the dtype."""
        return torch.finfo(self.x.dtype).eps

    @property
    def tiny(self) -> float:
        """What is lost where numbers underflow."""
        return 1e3 * torch.finfo(self.x.dtype).tiny

    @property
    def root_c(self) -> float:
        """``√c``."""
        return float(self.manifold.curvature.detach().max()) ** 0.5

    @property
    def length(self) -> float:
        """The length at which curvature shows, ``1/√c``; one in flat space."""
        return 1.0 / self.root_c if self.root_c else 1.0

    @property
    def conformal(self) -> bool:
        """Whether the coordinates are conformal."""
        return hasattr(self.manifold, "lambda_x")

    def generator(self) -> torch.Generator:
        """A source of randomness that depends on the sample alone."""
        return torch.Generator().manual_seed(self.seed)

    def noise(self, *shape: int) -> Tensor:
        """Seeded standard normal numbers in the dtype of the points."""
        return torch.randn(*shape, generator=self.generator(), dtype=torch.float64).to(self.x.dtype)

    def features(self, x: Tensor) -> Tensor:
        """The features, in R^n, of a point: half its distance from the origin, in its direction."""
        return self.manifold.features0(self.manifold.logmap0(x))

    def at(self, features: Tensor) -> Tensor:
        """The point with given features."""
        return self.manifold.expmap0(self.manifold.tangent0(features))

    def rotation(self) -> Tensor:
        """A seeded orthogonal matrix over the features."""
        n = self.x.shape[-1] + self.manifold.features_offset
        square = torch.randn(n, n, dtype=torch.float64, generator=self.generator())
        return torch.linalg.qr(square)[0].to(self.x.dtype)

    def turned(self, x: Tensor) -> Tensor:
        """``x`` turned about the origin by ``rotation``."""
        return self.at(self.features(x) @ self.rotation())

    def arc(self, far: Tensor) -> Tensor:
        """``sinh(√c d)/√c``: how far the ends of two rays of length ``d`` are apart for each radian between them."""
        far = far.detach().double()
        return torch.sinh(self.root_c * far) / self.root_c if self.root_c else far

    def _radius(self, *points: Tensor) -> Tensor:
        return torch.stack(torch.broadcast_tensors(*(self.manifold.dist0(p).detach().double() for p in points))).amax(0)

    def stretch(self, *points: Tensor) -> Tensor:
        """``cosh(√c ρ)`` of the farthest of ``points``: the condition of ``1 - c|x|²`` and of vectors in R^(n+1)."""
        return torch.cosh(self.root_c * self._radius(*points))

    def relative(self, *points: Tensor) -> Tensor:
        """Relative tolerance of a scalar computed at ``points``.

        Roundings of the result, and of ``1 - c|x|²`` as plain float64 gives it: its terms are rounded relative to
        one, it is itself ``sech²(√c ρ/2)``, so ``cosh(√c ρ)`` roundings are lost. That is nothing for float32 points.
        """
        return BUDGET * (self.unit + WIDE * self.stretch(*points))

    def vectors(self, *points: Tensor) -> Tensor:
        """Relative tolerance of the length of a stored tangent vector at ``points``.

        Conformal coordinates: that of a scalar. On the hyperboloid a radial vector of length ``l`` is stored as
        ``l cosh(√c ρ)`` in the space part; a rounding of it may fall across, where it counts in full, so the vector is
        off by ``l cosh(√c ρ)`` roundings.
        """
        return self.relative(*points) if self.conformal else BUDGET * self.unit * self.stretch(*points)

    @cached_property
    def anchor(self) -> float:
        """Length of the origin's own coordinates as a tangent vector: zero unless they are roundings away from it.

        It is zero in the ball, and on the hyperboloid, where they point out of the tangent space.
        """
        origin = self.manifold.origin(self.x.shape[-1], dtype=torch.float64)
        return float(self.manifold.norm(origin, self.manifold.proju(origin, origin)).detach())

    def rounding(self, *points: Tensor) -> Tensor:
        """Distance by which one relative rounding of the coordinates moves a point, per unit of rounding.

        ``λ|x| = sinh(√c ρ)/√c`` in the ball; on the hyperboloid a rounding across the radius counts in full, which is
        ``|x_s|``, the same number. In the half-space ``|p|/(√c p_n)``, which is less than ``2 cosh(√c ρ)/√c``.
        """
        radius = self._radius(*points)
        return torch.maximum(self.arc(radius), radius) + 2.0 * self.anchor * self.stretch(*points)

    def spread(self, *points: Tensor) -> Tensor:
        """Distance by which a point-valued result may be off that went through ``points``."""
        return BUDGET * (self.unit * self.rounding(*points) + torch.finfo(self.x.dtype).tiny)

    def chart(self, *points: Tensor) -> Tensor:
        """Distance by which a manifold that computes in a float64 chart of its own may move the points given to it.

        Taking a point to the ball rounds it there: ``spread`` with the rounding of float64. Distances of near pairs,
        which a relative tolerance would hold to their last digit, are off by as much. Conformal coordinates are not
        changed before they are subtracted and get nothing.
        """
        size = self.rounding(*points)
        return torch.zeros_like(size) if self.conformal else BUDGET * WIDE * size

    def swing(self, x: Tensor, far: Tensor) -> Tensor:
        """Distance by which the end of a geodesic of length ``far`` from ``x`` moves when its velocity is rounded.

        The stored velocity is off by ``vectors(x)`` relative to its length, an angle; the end moves by that angle times
        ``arc(far)``, which is not less than the change of length.
        """
        ambient = 1.0 if self.conformal else self.stretch(x)
        return BUDGET * self.unit * self.arc(far) * ambient


@st.composite
def small_samples(draw: DrawFn, manifold: AbstractManifold, reach: float = 1.0) -> Sample:
    """A ``Sample`` for costly laws: two points of two or three float64 features, apart, off the origin."""
    dim, seed = draw(st.sampled_from((2, 3))), draw(st.integers(0, 2**16))
    limit = reach * min(manifold.max_radius(torch.float64), FLAT_RADIUS)
    ways = _ways((5, 2), dim, torch.float64, seed)
    sizes = [limit * draw(st.floats(0.1, 1.0)) for _ in range(5)]
    x, y, z = (place(manifold, way, size) for way, size in zip(ways[:3], sizes[:3], strict=True))
    pairs = zip(ways[3:], sizes[3:], strict=True)
    u, v = (manifold.transp0(x, manifold.tangent0(way * (size / 2.0))) for way, size in pairs)
    x, y, z, u, v = (p.detach() for p in (x, y, z, u, v))
    return Sample(manifold, x, y, z, u, v, draw(st.floats(-1.0, 1.0)), seed)


def _batch(kind: str) -> SearchStrategy[tuple[int, ...]]:
    return st.sampled_from(SHAPES if kind != "equal" else SHAPES[:4])


@st.composite
def samples(draw: DrawFn, manifold: AbstractManifold, reach: float = 1.0) -> Sample:
    """A ``Sample`` with points up to ``reach`` times the largest radius of a drawn dtype."""
    dtype, dim = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(DIMENSIONS))
    kind = draw(st.sampled_from(PAIRS))
    shape = draw(_batch(kind))
    x = draw(points(manifold, dtype, dim, shape, reach))
    y = draw(partners(manifold, x, kind, reach))
    z = draw(points(manifold, dtype, dim, shape, reach))
    longest = reach * min(manifold.max_radius(dtype), FLAT_RADIUS)
    u, v = draw(tangents(manifold, x, longest)), draw(tangents(manifold, x, longest))
    x, y, z, u, v = (p.detach() for p in (x, y, z, u, v))
    return Sample(manifold, x, y, z, u, v, draw(st.floats(-1.0, 1.0)), draw(st.integers(0, 2**16)))
