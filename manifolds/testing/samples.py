"""Hypothesis strategies: points by hyperbolic radius, pairs in every awkward position, tangents, curvatures, shapes.

Hypothesis draws the numbers that matter (dimension, dtype, radii, how the pair lies) and shrinks them; directions come
from a seed. Everything is finite and, with ``derandomize``, the same on every run.
"""

import math
from dataclasses import dataclass

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
BUDGET = 64.0


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

    Tolerances are ``BUDGET`` roundings times the condition of the quantity, never plain constants: a scalar computed
    from given points has condition one, a point that was rounded is off by ``sinh(√c ρ)/√c`` roundings in distance.
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
    def root_c(self) -> float:
        """``√c``."""
        return float(self.manifold.curvature.detach().max()) ** 0.5

    def _radius(self, *points: Tensor) -> Tensor:
        return torch.stack(torch.broadcast_tensors(*(self.manifold.dist0(p).detach().double() for p in points))).amax(0)

    def relative(self, *points: Tensor) -> Tensor:
        """Relative tolerance of a scalar computed at ``points``."""
        wide = torch.finfo(torch.float64).eps
        return BUDGET * (self.unit + wide * torch.cosh(self.root_c * self._radius(*points)))

    def vectors(self, *points: Tensor) -> Tensor:
        """Relative tolerance of the length of a stored tangent vector at ``points``.

        In ambient coordinates such as those of the hyperboloid the length is a difference of squares, ``cosh(√c ρ)``
        times as sensitive.
        """
        if self.manifold.features_offset == 0:
            return self.relative(*points)
        return BUDGET * self.unit * torch.cosh(self.root_c * self._radius(*points))

    def spread(self, *points: Tensor) -> Tensor:
        """Distance by which a point-valued result may be off that went through ``points``."""
        radius = self._radius(*points)
        size = torch.sinh(self.root_c * radius) / self.root_c if self.root_c else radius
        return BUDGET * (self.unit * torch.maximum(size, radius) + torch.finfo(self.x.dtype).tiny)

    def chart(self, *points: Tensor) -> Tensor:
        """Distance by which a manifold that computes in a float64 chart of its own may move the points given to it."""
        radius = self._radius(*points)
        if self.manifold.features_offset == 0:
            return torch.zeros_like(radius)
        size = torch.sinh(self.root_c * radius) / self.root_c if self.root_c else radius
        return BUDGET * torch.finfo(torch.float64).eps * size

    def swing(self, x: Tensor, far: Tensor) -> Tensor:
        """Distance by which the end of a geodesic of length ``far`` from ``x`` moves when its velocity is rounded."""
        far, radius = far.detach().double(), self._radius(x)
        lever = torch.sinh(self.root_c * far) / self.root_c if self.root_c else far
        ambient = torch.cosh(self.root_c * radius) if self.manifold.features_offset else 1.0
        return BUDGET * self.unit * lever * ambient


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
