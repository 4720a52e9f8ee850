"""Distances straight from tangent vectors at the origin, at any radius.

``dist(u, v)`` is the distance between ``expmap0(u)`` and ``expmap0(v)`` without ever forming these points, which near
the boundary hold no more digits. With ``s = √c|u|``, ``t = √c|v|`` and ``κ`` the squared chord between the directions,
the hyperbolic law of haversines is ``sinh²(√c d/2) = sinh²(s - t) + ¼ sinh 2s sinh 2t κ``; all is computed with
``e^(s+t)`` divided out. The gradient is the law of cosines in closed form, right at ``u = 0`` and zero at ``u = v``,
where automatic differentiation is not.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from manifolds import scalars
from manifolds.differentiable import differentiable
from manifolds.mappings import Tangents, Values, finish
from manifolds.pairwise import Matrix, pairwise_ratio
from manifolds.scalars import Curvature

LARGE = 30.0


def _frame(u: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """``√c|u|`` and the direction of ``u`` (zero for zero), wide."""
    u = u.to(c.dtype)
    size = scalars.root(u.square().sum(-1, keepdim=True))
    return c.sqrt() * size, u / torch.where(size > 0, size, 1.0)


def _reduced(s: Tensor, t: Tensor, kappa: Tensor) -> Tensor:
    """``q = e^-(s+t) sinh(√c d/2)``."""
    radial = -0.5 * torch.exp(-2.0 * torch.minimum(s, t)) * torch.expm1(-2.0 * (s - t).abs())
    across = torch.expm1(-4.0 * s) * torch.expm1(-4.0 * t) * kappa / 16.0
    return scalars.root(radial.square() + across)


def _distance(s: Tensor, t: Tensor, kappa: Tensor, c: Tensor) -> Tensor:
    q, m = _reduced(s, t, kappa), s + t
    far = m + torch.log(torch.where(q > 0, q, 1.0) + torch.sqrt(q.square() + torch.exp(-2.0 * m)))
    near = torch.asinh(torch.exp(m.clamp(max=LARGE)) * q)
    return torch.where(q > 0, 2.0 / c.sqrt() * torch.where(m < LARGE, near, far), 0.0)


def _weights(s: Tensor, t: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """``A`` and ``B`` of ``∇_u d = A û - B (v̂ - û + κ û/2)``."""
    q = _reduced(s, t, kappa)
    steep = 2.0 * q * torch.sqrt(q.square() + torch.exp(-2.0 * (s + t)))
    inverse = torch.where(q > 0, 1.0 / torch.where(q > 0, steep, 1.0), 0.0)
    gap = s - t
    radial = -0.5 * torch.sign(gap) * torch.exp(-4.0 * torch.minimum(s, t)) * torch.expm1(-4.0 * gap.abs())
    open_s, open_t = -torch.expm1(-4.0 * s), -torch.expm1(-4.0 * t)
    ratio = torch.where(s > 0, open_s / (2.0 * torch.where(s > 0, s, 1.0)), 2.0)
    along = 2.0 * (radial + 0.125 * (1.0 + torch.exp(-4.0 * s)) * open_t * kappa)
    return along * inverse, 0.5 * ratio * open_t * inverse


def _slope_in_c(s: Tensor, t: Tensor, kappa: Tensor, c: Tensor) -> Tensor:
    """Derivative of each distance in ``c``: ``d(c) = F(√c u, √c v)/√c``."""
    along_s, _ = _weights(s, t, kappa)
    along_t, _ = _weights(t, s, kappa)
    return ((along_s * s + along_t * t) / c.sqrt() - _distance(s, t, kappa, c)) / (2.0 * c)


def _gradients(u: Tensor, v: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of each distance in ``u``, ``v`` and ``c``, wide."""
    (s, hat_u), (t, hat_v) = _frame(u, c), _frame(v, c)
    chord = hat_v - hat_u
    kappa = chord.square().sum(-1, keepdim=True)
    along, across = _weights(s, t, kappa)
    in_u = (along - across * kappa / 2) * hat_u - across * chord
    along, across = _weights(t, s, kappa)
    in_v = (along - across * kappa / 2) * hat_v + across * chord
    return in_u, in_v, _slope_in_c(s, t, kappa, c)


def _polar_forward(u: Tensor, v: Tensor, c: Tensor) -> Tensor:
    (s, hat_u), (t, hat_v) = _frame(u, c), _frame(v, c)
    return _distance(s, t, (hat_u - hat_v).square().sum(-1, keepdim=True), c)


def _polar_pullback(need: Any, u: Tensor, v: Tensor, c: Tensor, grad: Tensor) -> Any:
    in_u, in_v, in_c = _gradients(u, v, c)
    return (
        (grad * in_u).to(u.dtype) if need[0] else None,
        (grad * in_v).to(v.dtype) if need[1] else None,
        _summed(grad * in_c, c) if need[2] else None,
    )


def _polar_pushforward(u: Tensor, v: Tensor, c: Tensor, du: Tensor, dv: Tensor, dc: Tensor) -> Tensor:
    in_u, in_v, in_c = _gradients(u, v, c)
    return (in_u * du).sum(-1, keepdim=True) + (in_v * dv).sum(-1, keepdim=True) + in_c * dc


_polar = differentiable(_polar_forward, _polar_pullback, _polar_pushforward)


def _summed(each: Tensor, c: Tensor) -> Tensor:
    """Derivatives of single distances as that of their curvature."""
    return each.sum_to_size(c.shape) if c.ndim else each.sum()


def _chords(hat_u: Tensor, hat_v: Tensor, same: bool) -> Tensor:
    """Squared chords between directions; symmetric bit for bit within one set."""
    return pairwise_ratio(hat_u, None if same else hat_v, 0.0)


def _pairs(same: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Distances of all pairs; within one set where ``same``. The gradient in ``u`` is ``Σ P û - W v̂`` over a row."""

    def weights(u: Tensor, v: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        """Directions, then matrices: ``P`` and ``W`` of ``u`` and of ``v``, slope in ``c``."""
        (s, hat_u), (t, hat_v) = _frame(u, c), _frame(v, c)
        kappa = _chords(hat_u, hat_v, same)
        along_u, across_u = _weights(s, t.mT, kappa)
        along_v, across_v = _weights(t.mT, s, kappa)
        lean = 1.0 - kappa / 2
        in_c = _slope_in_c(s, t.mT, kappa, c)
        return hat_u, hat_v, along_u + across_u * lean, across_u, along_v + across_v * lean, across_v, in_c

    def forward(u: Tensor, v: Tensor, c: Tensor) -> Tensor:
        (s, hat_u), (t, hat_v) = _frame(u, c), _frame(v, c)
        return _distance(s, t.mT, _chords(hat_u, hat_v, same), c).to(u.dtype)

    def pullback(need: Any, u: Tensor, v: Tensor, c: Tensor, grad: Tensor) -> Any:
        grad = grad.to(c.dtype)
        hat_u, hat_v, p_u, w_u, p_v, w_v, in_c = weights(u, v, c)
        in_u = (grad * p_u).sum(-1, keepdim=True) * hat_u - (grad * w_u) @ hat_v
        in_v = (grad * p_v).mT.sum(-1, keepdim=True) * hat_v - (grad * w_v).mT @ hat_u
        return (
            in_u.sum_to_size(u.shape).to(u.dtype) if need[0] else None,
            in_v.sum_to_size(v.shape).to(v.dtype) if need[1] else None,
            _summed(grad * in_c, c) if need[2] else None,
        )

    def pushforward(u: Tensor, v: Tensor, c: Tensor, du: Tensor, dv: Tensor, dc: Tensor) -> Tensor:
        hat_u, hat_v, p_u, w_u, p_v, w_v, in_c = weights(u, v, c)
        du, dv = du.to(c.dtype), dv.to(c.dtype)
        from_u = p_u * (hat_u * du).sum(-1, keepdim=True) - w_u * (du @ hat_v.mT)
        from_v = p_v * (hat_v * dv).sum(-1, keepdim=True).mT - w_v * (hat_u @ dv.mT)
        return (from_u + from_v + in_c * dc).to(u.dtype)

    return differentiable(forward, pullback, pushforward)


_PAIRS = {same: _pairs(same) for same in (False, True)}


def _curvature_tensor(c: Curvature, like: Tensor, name: str) -> Tensor:
    c = scalars.as_curvature(c, like, name)
    if isinstance(c, Tensor):
        return c.to(like.device)
    return torch.full((), c, dtype=scalars.wide_dtype(like), device=like.device)


def dist(u: Tangents, v: Tangents, c: Curvature = 1.0, keepdim: bool = False) -> Values:
    """Distance between ``expmap0(u)`` and ``expmap0(v)``, without a limit on the radius.

    Args:
        u: tangent vectors at the origin, shape (*, dim).
        v: tangent vectors that broadcast against ``u``.
        c: curvature.
        keepdim: keep the last axis, of length one.

    Returns:
        Distances, shape (*), float32 or wider; gradient 0 where ``u = v``.

    Example:
        >>> dist(torch.tensor([60.0, 0.0]), torch.tensor([-60.0, 0.0]))
        tensor(240.)
    """
    u, v = scalars.as_vectors(u, v, names="polar.dist")
    c = _curvature_tensor(c, u, "polar.dist")
    u, v = torch.broadcast_tensors(u, v.view_as(v) if v is u else v)
    if c.ndim:
        batch = torch.broadcast_shapes(u.shape[:-1], c.shape[:-1])
        u, v = u.expand(*batch, u.shape[-1]), v.expand(*batch, v.shape[-1])
    return finish(_polar(u, v, c), u.dtype, keepdim)


def pairwise_dist(u: Tangents, v: Tangents | None = None, c: Curvature = 1.0) -> Matrix:
    """``dist`` for all pairs of rows of ``u`` (*, n, dim) and ``v`` (*, m, dim), shape (*, n, m).

    Example:
        >>> pairwise_dist(torch.eye(2))
        tensor([[0.0000, 3.3419],
                [3.3419, 0.0000]])
    """
    same = v is None or v is u
    u, v = scalars.as_vectors(u, u if v is None else v, names="polar.pairwise_dist")
    if u.ndim < 2 or v.ndim < 2:
        raise ValueError(f"polar.pairwise_dist needs matrices, got {tuple(u.shape)} and {tuple(v.shape)}; use u[None]")
    c = _curvature_tensor(c, u, "polar.pairwise_dist")
    if c.ndim and c.shape[-2:] != (1, 1):
        raise ValueError(f"polar.pairwise_dist needs c 0-dim or ending in two axes of one, got {tuple(c.shape)}")
    return _PAIRS[same](u, v.view_as(v) if v is u else v, c)
