"""Layers: from features into a manifold, from points to logits, from points to points."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifolds import scalars
from manifolds.base import AbstractManifold
from manifolds.differentiable import differentiable
from manifolds.euclidean import Euclidean
from manifolds.hyperplanes import plane_distance
from manifolds.mappings import Points, inside
from manifolds.poincare import PoincareBall
from manifolds.scalars import sinh_ratio, square

_with_gradient_times = differentiable(
    lambda x, factor: x.clone(),
    lambda _need, x, factor, grad: (factor * grad, None),
    lambda x, factor, tangent, _: factor * tangent,
)
"""The points themselves, whose gradients are multiplied by a factor a point."""


class ToBall(nn.Module):
    """Features into a manifold: multiply by a scale, clip the length, follow the exponential map at the origin.

    ``v = s u``, then ``v min(1, r/|v|)`` (Guo et al., CVPR 2022, eq. 10), then ``expmap0``. A clipped vector ends at
    distance ``2r`` from the origin. With ``Euclidean`` the map is the scaling and the clip alone, which makes it the
    flat twin of the same module on the ball.

    Args:
        manifold: where the features go; a submodule, so a learnable curvature is found by optimizers.
        clip_radius: ``r``, the longest tangent vector; None leaves lengths alone.
        scale: ``s > 0``.
        learn_scale: whether ``log s`` is a parameter.
        riemannian: multiply gradients that come back to the points by ``(1 - c|x|²)²/4``, as HIER (arXiv 2212.14258)
            does; the points stay as they are.

    Raises:
        ValueError: ``clip_radius`` or ``scale`` is not positive, or ``riemannian`` is asked on
            a manifold without such a factor.

    Example:
        >>> from manifolds import PoincareBall
        >>> to_ball = ToBall(PoincareBall(c=0.1), clip_radius=2.3)
        >>> round(to_ball.manifold.dist0(to_ball(torch.tensor([30.0, 40.0]))).item(), 5)
        4.6
    """

    log_scale: Tensor

    def __init__(
        self,
        manifold: AbstractManifold,
        clip_radius: float | None = 2.3,
        scale: float = 1.0,
        learn_scale: bool = False,
        riemannian: bool = False,
    ) -> None:
        super().__init__()
        if riemannian and not isinstance(manifold, PoincareBall | Euclidean):
            raise ValueError(f"ToBall scales gradients in the ball and in flat space, got {type(manifold).__name__}")
        if clip_radius is not None and not clip_radius > 0:
            raise ValueError(f"ToBall needs clip_radius > 0, got {clip_radius}; pass None for no clipping")
        if not 0 < scale < math.inf:
            raise ValueError(f"ToBall needs a finite scale > 0, got {scale}")
        self.manifold = manifold
        self.clip_radius = clip_radius
        self.riemannian = riemannian
        log_scale = torch.tensor(math.log(scale))
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The factor ``s``."""
        return self.log_scale.exp()

    def forward(self, features: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch dim"]:
        """Points of the manifold, float32 or wider, one for each row of ``features``."""
        (u,) = scalars.as_vectors(features, names="ToBall")
        factor = self.scale.to(scalars.wide_dtype(u))
        weight = factor.expand(*u.shape[:-1], 1)
        if self.clip_radius is not None:
            length_square = scalars.square(u)
            beyond = factor.square() * length_square > self.clip_radius**2
            length = torch.where(beyond, length_square, 1.0).sqrt()
            weight = torch.where(beyond, self.clip_radius / length, weight)
        x = self.manifold.expmap0(self.manifold.tangent0(scalars.scale(weight, u)))
        if not self.riemannian:
            return x
        with torch.no_grad():
            factor = self.manifold.egrad2rgrad(x, torch.ones_like(x))[..., :1]
        return _with_gradient_times(x, factor)

    def extra_repr(self) -> str:
        """Scale, clip radius and what becomes of gradients."""
        return f"scale={self.scale.item():.4g}, clip_radius={self.clip_radius}, riemannian={self.riemannian}"


class HyperplaneLogits(nn.Module):
    """Multinomial logistic regression by distances to hyperplanes: ``2|z_k| d(x, H_k)`` (HNN++, Shimizu 2021, eq. 6).

    Args:
        manifold: ``PoincareBall``, or ``Euclidean`` for its limit ``4(⟨z, x⟩ - r|z|)``.
        in_features: dimension of the points.
        classes: number of planes.

    Example:
        >>> HyperplaneLogits(PoincareBall(), 2, 5)(torch.zeros(3, 2)).shape
        torch.Size([3, 5])
    """

    def __init__(self, manifold: PoincareBall | Euclidean, in_features: int, classes: int) -> None:
        super().__init__()
        self.manifold = manifold
        self.z = nn.Parameter(torch.randn(classes, in_features) * in_features**-0.5)
        self.r = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Points) -> Float[Tensor, "*batch classes"]:
        """Logits, shape (*, classes), float32 or wider."""
        return self.wide(x).to(torch.promote_types(x.dtype, torch.float32))

    def wide(self, x: Points) -> Float[Tensor, "*batch classes"]:
        """The logits in float64."""
        x, z = scalars.as_vectors(x, self.z, names=type(self).__name__)
        size = torch.linalg.vector_norm(z, dim=-1).to(scalars.wide_dtype(x))
        return 2.0 * size * plane_distance(x, z, self.r, self.manifold.curvature)


class PoincareLinear(nn.Module):
    """Fully connected layer of the ball: output coordinate ``k`` is at distance ``v_k(x)`` from its axis plane.

    ``v`` are the logits of ``HyperplaneLogits``, ``w_k = sinh(√c v_k)/√c``, ``y = w/(1 + √(1 + c|w|²))`` (HNN++, eq.
    7). With ``Euclidean`` it is the affine map that this tends to.

    Args:
        manifold: ``PoincareBall`` or ``Euclidean``.
        in_features: dimension of the points that come in.
        out_features: dimension of the points that go out.

    Example:
        >>> PoincareLinear(PoincareBall(), 4, 2)(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """

    def __init__(self, manifold: PoincareBall | Euclidean, in_features: int, out_features: int) -> None:
        super().__init__()
        self.manifold = manifold
        self.planes = HyperplaneLogits(manifold, in_features, out_features)
        nn.init.normal_(self.planes.z, std=(2.0 * in_features * out_features) ** -0.5)

    def forward(self, x: Points) -> Points:
        """Points, shape (*, out_features), float32 or wider, inside the limit of ``projx``."""
        c = self.manifold.curvature
        v = self.planes.wide(x)
        w = v * sinh_ratio(c * v.square())
        shrink = 1.0 / (1.0 + (1.0 + c * square(w)).sqrt())
        dtype = torch.promote_types(x.dtype, torch.float32)
        return scalars.scale(inside(shrink, c * square(w) * shrink.square(), dtype), w).to(dtype)
