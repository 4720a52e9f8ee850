"""The wrapped normal distribution: a Gaussian in a tangent space, carried to the manifold along geodesics."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds import scalars
from manifolds.base import AbstractManifold
from manifolds.mappings import Points, Values


def log_sinh_ratio(w: Tensor) -> Tensor:
    """``log(sinh(√w)/√w)``: no overflow for large ``w``, a series and its derivatives for small.

    Example:
        >>> log_sinh_ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
        tensor([0.0000, 0.1614], dtype=torch.float64)
    """
    small = w < scalars.SERIES_BELOW
    near, s = torch.where(small, w, 0.0), torch.where(small, 1.0, w).sqrt()
    coefficients = [0.0, 1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250]
    far = s + torch.log(-torch.expm1(-2.0 * s)) - torch.log(2.0 * s)
    return torch.where(small, scalars.polynomial(near, coefficients), far)


class WrappedNormal:
    """Wrapped normal on any of our manifolds (Nagano et al., ICML 2019; Mathieu et al., NeurIPS 2019).

    A vector ``u ~ N(0, diag(std²))`` in an orthonormal frame of the tangent space at the origin is transported to
    ``mean`` and followed along its geodesic. Densities are with respect to the Riemannian volume.

    Args:
        manifold: where the points live; its curvature is read at every call.
        mean: points, shape (*, dim).
        std: standard deviations in geodesic distance, broadcasting against the features (*, dim of the manifold).

    Raises:
        ValueError: a fixed ``std`` is not positive.

    Example:
        >>> from manifolds import PoincareBall
        >>> normal = WrappedNormal(PoincareBall(), torch.zeros(2), 0.5)
        >>> normal.sample((3,), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 2])
    """

    def __init__(self, manifold: AbstractManifold, mean: Points, std: float | Float[Tensor, "*batch dim"]) -> None:
        if isinstance(std, int | float) and not 0 < std < math.inf:
            raise ValueError(f"WrappedNormal needs a finite std > 0, got {std}")
        self.manifold = manifold
        self.mean = mean
        features = mean.shape[-1] + manifold.features_offset
        self.std = torch.as_tensor(std, dtype=mean.dtype, device=mean.device).expand(*mean.shape[:-1], features)

    def rsample(self, sample_shape: tuple[int, ...] = (), generator: torch.Generator | None = None) -> Points:
        """Points of shape (*sample_shape, *batch, dim), differentiable in ``mean``, ``std`` and the curvature."""
        shape = (*sample_shape, *self.std.shape)
        noise = torch.randn(shape, dtype=self.std.dtype, device=self.std.device, generator=generator)
        mean = self.mean.expand(*sample_shape, *self.mean.shape)
        v = self.manifold.tangent0(noise * self.std / 2.0)
        return self.manifold.expmap(mean, self.manifold.transp0(mean, v))

    def sample(self, sample_shape: tuple[int, ...] = (), generator: torch.Generator | None = None) -> Points:
        """``rsample`` without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def log_prob(self, z: Points) -> Values:
        """Log density at ``z``, shape (*sample_shape, *batch).

        ``log N(u; 0, std²) - (n - 1) log(sinh(√c r)/(√c r))`` with ``u`` the logarithm of ``z`` carried back to the
        origin, ``r = |u|`` its distance from the mean and ``n`` the dimension of the manifold.
        """
        mean = self.mean.expand(torch.broadcast_shapes(self.mean.shape, z.shape))
        v = self.manifold.transp0back(mean, self.manifold.logmap(mean, z))
        u = 2.0 * self.manifold.features0(v)
        normal = -0.5 * (u / self.std).square() - self.std.log() - 0.5 * math.log(2.0 * math.pi)
        stretch = log_sinh_ratio(self.manifold.curvature * scalars.square(u)).squeeze(-1).to(u.dtype)
        return normal.sum(-1) - (u.shape[-1] - 1) * stretch
