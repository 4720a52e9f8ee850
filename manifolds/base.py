"""What a manifold of this package is: a module with these operations, each tied to a law that ``testing`` checks."""

import math
from abc import ABC, abstractmethod
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifolds import scalars
from manifolds.curvature import Curvature
from manifolds.mappings import Points, Tangents, Values, radius_limit
from manifolds.pairwise import Matrix


class AbstractManifold(nn.Module, ABC):
    """A Riemannian manifold with a distinguished origin; the last axis of a tensor is the point or vector.

    The metric convention is that of the Poincaré ball everywhere: at the origin a tangent vector ``v`` of Euclidean
    length ``|v|`` reaches distance ``2|v|``, so that a manifold can be exchanged for another without new scales.
    Names follow geoopt, and the object is accepted where geoopt expects a manifold.
    """

    name: str = "manifold"
    ndim: int = 1
    reversible: bool = False
    features_offset: int = 0

    @property
    @abstractmethod
    def curvature(self) -> Tensor:
        """``c``, a float64 tensor: the sectional curvature is ``-c``. Zero means flat."""

    @abstractmethod
    def origin(self, *size: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Points:
        """The origin in the given shape. Law: ``dist0(origin) = 0``."""

    @abstractmethod
    def tangent0(self, features: Float[Tensor, "*batch features"]) -> Tangents:
        """Features of R^n as tangent vectors at the origin. Law: ``dist0(expmap0(tangent0(u))) = 2|u|``."""

    def features0(self, v: Tangents) -> Float[Tensor, "*batch features"]:
        """Inverse of ``tangent0``."""
        return v

    @abstractmethod
    def projx(self, x: Points) -> Points:
        """Nearest point that can be stored. Law: idempotent bit for bit, identity on points inside."""

    @abstractmethod
    def proju(self, x: Points, v: Tangents) -> Tangents:
        """Projection of an ambient vector to the tangent space at ``x``. Law: idempotent."""

    @abstractmethod
    def dist(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """Geodesic distance. Laws: zero exactly at equal points, symmetric, triangle inequality."""

    @abstractmethod
    def sqdist(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """Squared distance, smooth. Law: gradient of half of it in ``x`` is ``-logmap(x, y)`` in the metric."""

    @abstractmethod
    def dist0(self, x: Points, *, keepdim: bool = False) -> Values:
        """Distance from the origin. Law: ``dist(origin, x)``."""

    @abstractmethod
    def pairwise_dist(self, x: Points, y: Points | None = None) -> Matrix:
        """Distance matrix. Laws: entry (i, j) is ``dist(x[i], y[j])``; symmetric with zero diagonal for ``x`` alone."""

    @abstractmethod
    def expmap(self, x: Points, v: Tangents) -> Points:
        """Exponential map. Law: the end is at distance ``norm(x, v)`` from ``x``."""

    @abstractmethod
    def logmap(self, x: Points, y: Points) -> Tangents:
        """Logarithmic map. Law: inverse of ``expmap``."""

    @abstractmethod
    def expmap0(self, v: Tangents) -> Points:
        """Exponential map at the origin. Law: ``expmap(origin, v)``."""

    @abstractmethod
    def logmap0(self, y: Points) -> Tangents:
        """Logarithmic map at the origin. Law: inverse of ``expmap0``."""

    @abstractmethod
    def transp(self, x: Points, y: Points, v: Tangents) -> Tangents:
        """Parallel transport along the geodesic. Law: keeps inner products; back again is the identity."""

    @abstractmethod
    def transp0(self, y: Points, v: Tangents) -> Tangents:
        """Parallel transport from the origin. Law: ``transp(origin, y, v)``."""

    @abstractmethod
    def transp0back(self, x: Points, v: Tangents) -> Tangents:
        """Parallel transport to the origin. Law: inverse of ``transp0``."""

    @abstractmethod
    def inner(self, x: Points, u: Tangents, v: Tangents | None = None, *, keepdim: bool = False) -> Values:
        """Riemannian inner product. Law: ``inner(x, u, u) = norm(x, u)²``."""

    @abstractmethod
    def norm(self, x: Points, v: Tangents, *, keepdim: bool = False) -> Values:
        """Riemannian length. Law: ``norm(x, logmap(x, y)) = dist(x, y)``."""

    @abstractmethod
    def egrad2rgrad(self, x: Points, u: Tangents) -> Tangents:
        """Riemannian gradient from a Euclidean one. Law: the gradient of ``dist`` has length one."""

    @abstractmethod
    def geodesic(self, t: float | Tensor, x: Points, y: Points) -> Points:
        """Point at time ``t`` between ``x`` and ``y``. Law: its distance from ``x`` is ``t dist(x, y)``."""

    def max_radius(self, dtype: torch.dtype) -> float:
        """Distance from the origin up to which points are kept in ``dtype``; infinite in flat space."""
        c = float(self.curvature.detach().max())
        return 2.0 * math.atanh(radius_limit(dtype)) / c**0.5 if c > 0 else math.inf

    def random_normal(
        self,
        *size: int,
        mean: Points | None = None,
        std: float = 1.0,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
    ) -> Points:
        """Wrapped normal: a Gaussian in the tangent space of ``mean`` carried along geodesics.

        Args:
            *size: shape of the result; the last number is the number of coordinates.
            mean: points that broadcast to ``size``; the origin where left out.
            std: standard deviation in units of geodesic distance.
            dtype: dtype of the result.
            device: device of the result.
            generator: source of randomness.
        """
        like = self.origin(*size, dtype=dtype, device=device)
        noise = torch.randn(self._feature_size(size), dtype=like.dtype, device=like.device, generator=generator)
        v = self.tangent0(noise * (std / 2.0))
        if mean is None:
            return self.expmap0(v)
        mean = mean.expand(size)
        return self.expmap(mean, self.transp0(mean, v))

    def random_uniform(
        self,
        *size: int,
        radius: float = 3.0,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
    ) -> Points:
        """Points whose distance from the origin is uniform in ``[0, radius]`` and whose direction is uniform."""
        like = self.origin(*size, dtype=dtype, device=device)
        options = {"dtype": like.dtype, "device": like.device, "generator": generator}
        way = torch.nn.functional.normalize(torch.randn(self._feature_size(size), **options), dim=-1)
        return self.expmap0(self.tangent0(way * torch.rand((*size[:-1], 1), **options) * (radius / 2.0)))

    def _feature_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the features from which points of shape ``size`` are made."""
        return size

    # What geoopt's parameters and optimizers call.

    def retr(self, x: Points, u: Tangents) -> Points:
        """Retraction: the exponential map itself."""
        return self.expmap(x, u)

    def retr_transp(self, x: Points, u: Tangents, v: Tangents) -> tuple[Points, Tangents]:
        """Step along ``u`` and carry ``v`` with it."""
        y = self.retr(x, u)
        return y, self.transp(x, y, v)

    expmap_transp = retr_transp

    def component_inner(self, x: Points, u: Tangents, v: Tangents | None = None) -> Tensor:
        """``inner`` with the last axis kept, as adaptive optimizers want it."""
        return self.inner(x, u, v, keepdim=True)

    def dist2(self, x: Points, y: Points, *, keepdim: bool = False) -> Values:
        """``sqdist`` under geoopt's name."""
        return self.sqdist(x, y, keepdim=keepdim)

    def check_point(self, x: Tensor) -> str | None:
        """The reason why ``x`` cannot hold points of this manifold, or None."""
        try:
            scalars.as_vectors(x, names=type(self).__name__)
        except (TypeError, ValueError) as error:
            return str(error)
        return None if bool(torch.isfinite(x).all()) else f"{type(self).__name__} got a point that is not finite"

    def assert_check_point(self, x: Tensor) -> None:
        """Raise ``ValueError`` where ``check_point`` finds a reason."""
        reason = self.check_point(x)
        if reason is not None:
            raise ValueError(reason)


class AbstractHyperbolic(AbstractManifold):
    """A manifold of constant sectional curvature ``-c`` that carries its ``c``.

    Args:
        c: a positive float, or a tensor that broadcasts against points with a last axis of one.
        learnable: whether ``c`` follows gradients (see ``curvature.Curvature`` for how it is stored).
        check: look at every point that comes in and raise where one is not on the manifold; costs a read of the values.

    Raises:
        TypeError: ``c`` is not a number; an operation gets integers.
        ValueError: ``c <= 0``; last axes differ; with ``check=True``, a point is not on the manifold.
    """

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

    def with_curvature(self, c: float | Float[Tensor, "*batch"]) -> Self:
        """The same kind of manifold at another curvature. Law: scaling space by ``s`` takes ``c`` to ``c/s²``."""
        return type(self)(c, self.curvature_module.log_scale is not None, self.check)

    def _seen(self, *points: Tensor) -> None:
        """Check points where that was asked for."""
        if self.check:
            for x in points:
                self.assert_check_point(x)
