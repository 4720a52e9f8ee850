"""Distances straight from tangent vectors at the origin, at any radius.

``dist(u, v)`` is the distance between ``expmap0(u)`` and ``expmap0(v)`` without ever forming these points, which near
the boundary hold no more digits. With ``s = √c|u|``, ``t = √c|v|`` and ``κ`` the squared chord between the directions,
the hyperbolic law of haversines is ``sinh²(√c d/2) = sinh²(s - t) + ¼ sinh 2s sinh 2t κ``; all is computed with
``e^(s+t)`` divided out. The gradient is the law of cosines in closed form, right at ``u = 0`` and zero at ``u = v``,
where automatic differentiation is not.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from manifolds import scalars
from manifolds.mappings import Tangents, Values, finish
from manifolds.pairwise import Matrix, pairwise_flat
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


def _curvature_gradient(grad: Tensor, s: Tensor, t: Tensor, kappa: Tensor, c: Tensor) -> Tensor:
    """Gradient in ``c`` of each distance: ``d(c) = F(√c u, √c v)/√c``."""
    along_s, _ = _weights(s, t, kappa)
    along_t, _ = _weights(t, s, kappa)
    each = grad * ((along_s * s + along_t * t) / c.sqrt() - _distance(s, t, kappa, c)) / (2.0 * c)
    return each.sum_to_size(c.shape) if c.ndim else each.sum()


class _Polar(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, v: Tensor, c: Tensor) -> Tensor:
        (s, hat_u), (t, hat_v) = _frame(u, c), _frame(v, c)
        return _distance(s, t, (hat_u - hat_v).square().sum(-1, keepdim=True), c)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        u, v, c = ctx.saved_tensors
        (grad,) = grads
        (s, hat_u), (t, hat_v) = _frame(u, c), _frame(v, c)
        chord = hat_v - hat_u
        kappa = chord.square().sum(-1, keepdim=True)
        need_u, need_v, need_c = ctx.needs_input_grad
        along, across = _weights(s, t, kappa)
        grad_u = grad * ((along - across * kappa / 2) * hat_u - across * chord) if need_u else None
        along, across = _weights(t, s, kappa)
        grad_v = grad * ((along - across * kappa / 2) * hat_v + across * chord) if need_v else None
        return (
            None if grad_u is None else grad_u.to(u.dtype),
            None if grad_v is None else grad_v.to(v.dtype),
            _curvature_gradient(grad, s, t, kappa, c) if need_c else None,
        )


class _PolarPairs(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, v: Tensor, c: Tensor, same: bool) -> Tensor:
        (s, hat_u), (t, hat_v) = _frame(u, c), _frame(v, c)
        return _distance(s, t.mT, _chords(hat_u, hat_v, same), c).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.same = inputs[3]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        u, v, c = ctx.saved_tensors
        grad = grads[0].to(c.dtype)
        (s, hat_u), (t, hat_v) = _frame(u, c), _frame(v, c)
        kappa = _chords(hat_u, hat_v, ctx.same)
        need_u, need_v, need_c, _ = ctx.needs_input_grad
        grad_u = _pull(grad, *_weights(s, t.mT, kappa), kappa, hat_u, hat_v) if need_u else None
        along, across = (w.mT for w in _weights(t.mT, s, kappa))
        grad_v = _pull(grad.mT, along, across, kappa.mT, hat_v, hat_u) if need_v else None
        return (
            None if grad_u is None else grad_u.sum_to_size(u.shape).to(u.dtype),
            None if grad_v is None else grad_v.sum_to_size(v.shape).to(v.dtype),
            _curvature_gradient(grad, s, t.mT, kappa, c) if need_c else None,
            None,
        )


def _chords(hat_u: Tensor, hat_v: Tensor, same: bool) -> Tensor:
    """Squared chords between directions; symmetric bit for bit within one set."""
    return pairwise_flat(hat_u, None if same else hat_v).square() / 4.0


def _pull(grad: Tensor, along: Tensor, across: Tensor, kappa: Tensor, own: Tensor, other: Tensor) -> Tensor:
    weight = grad * across
    return (grad * along + weight * (1.0 - kappa / 2)).sum(-1, keepdim=True) * own - weight @ other


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
    return finish(_Polar.apply(u, v, c), u.dtype, keepdim)  # pyright: ignore[reportArgumentType]


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
    return _PolarPairs.apply(u, v.view_as(v) if v is u else v, c, same)  # pyright: ignore[reportReturnType]
