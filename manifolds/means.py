"""Means of points of the ball: the gyromidpoint, Einstein's midpoint in Klein coordinates, the Fréchet mean."""

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds import scalars
from manifolds.differentiable import maps_over_batches
from manifolds.mappings import Points, expmap, logmap, margin, sqdist, storage_dtype, within
from manifolds.pairwise import pairwise_ratio
from manifolds.scalars import Curvature, square

Weights = Float[Tensor, "*batch n"]
PAIRS_UP_TO = 64
HALVINGS = 30
SETTLED = 1e-4


def _prepare(x: Tensor, weights: Tensor | None, c: Curvature, name: str) -> tuple[Tensor, Tensor, Curvature]:
    """Points in the wide dtype, weights (*, n, 1) that sum to one, curvature."""
    (x,) = scalars.as_vectors(x, names=name)
    return *normalized(x, weights, name), scalars.as_curvature(c, x, name)


def normalized(x: Tensor, weights: Tensor | None, name: str) -> tuple[Tensor, Tensor]:
    """Points in the wide dtype and weights (*, n, 1) that sum to one.

    Raises:
        ValueError: no points, or the number of weights differs.
    """
    x = x.to(scalars.wide_dtype(x))
    if x.ndim < 2 or x.shape[-2] == 0:
        raise ValueError(f"{name} needs points of shape (*, n, dim) with n > 0, got {tuple(x.shape)}")
    if weights is None:
        return x, torch.full_like(x[..., :1], 1.0 / x.shape[-2])
    if weights.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name} needs one weight a point, got {weights.shape[-1]} for {x.shape[-2]} points")
    w = weights.to(x.dtype)[..., None].expand(*torch.broadcast_shapes(weights.shape, x.shape[:-1]), 1)
    total = w.sum(-2, keepdim=True)
    return x, w / torch.where(total > 0, total, 1.0)


def _result(m: Tensor, x: Tensor, c: Curvature) -> Tensor:
    """``m`` inside the limit for the dtype of ``x``, float32 or wider."""
    of_result = c.squeeze(-1) if isinstance(c, Tensor) and c.ndim else c
    return within(m, of_result, storage_dtype(x)).to(torch.promote_types(x.dtype, torch.float32))


def _gyromidpoint(x: Tensor, w: Tensor, c: Curvature) -> Tensor:
    """Gyromidpoint from normalized weights, in the wide dtype."""
    a = margin(x, c)
    pull = w / a
    top = pull.amax(-2, keepdim=True)
    top = torch.where(top > 0, top, 1.0).detach()
    pull = pull / top
    total = (pull * (1.0 - a / 2)).sum(-2, keepdim=True)
    total = torch.where(total > 0, total, 1.0)
    t = (pull * x).sum(-2, keepdim=True) / total
    if x.shape[-2] <= PAIRS_UP_TO:
        ratio = pairwise_ratio(x, None, c)
        left = w @ w.mT * (0.25 + 0.5 * c * ratio)
        rest = left.sum((-2, -1), keepdim=True) / (top * total).square()
    else:
        rest = margin(t, c)
    return (t / (1.0 + rest.sqrt())).squeeze(-2)


def gyromidpoint(x: Points, weights: Weights | None = None, c: Curvature = 1.0) -> Points:
    """Weighted gyromidpoint: the Lorentz centroid, seen in the ball (Ungar 2008; HNN++, eq. 4).

    Args:
        x: points, shape (*, n, dim).
        weights: not negative, shape (*, n); equal where left out. Their scale does not matter.
        c: curvature, 0-dim or ending in two axes of one.

    Returns:
        One point for each set, shape (*, dim).

    Raises:
        ValueError: no points, or the number of weights differs.

    Numerics:
        Computed in float64. Up to 64 points the distance of the mean from the boundary comes from a sum of positive
        terms over pairs; beyond that from ``1 - c|t|²``.

    Example:
        >>> gyromidpoint(torch.tensor([[0.5, 0.0], [-0.5, 0.0]]))
        tensor([0., 0.])
    """
    wide, w, c = _prepare(x, weights, c, "gyromidpoint")
    return _result(_gyromidpoint(wide, w, c), x, c)


def einstein_midpoint(k: Points, weights: Weights | None = None, c: Curvature = 1.0) -> Points:
    """Einstein midpoint ``Σ w γ k / Σ w γ`` of points in Klein coordinates, ``γ = (1 - c|k|²)^(-1/2)``.

    Args:
        k: points in Klein coordinates, shape (*, n, dim); see ``to_klein``.
        weights: not negative, shape (*, n); equal where left out.
        c: curvature, 0-dim or ending in two axes of one.

    Returns:
        Points in Klein coordinates, shape (*, dim). ``from_klein`` of it is the ``gyromidpoint`` of the ball's points.

    Example:
        >>> einstein_midpoint(torch.tensor([[0.5, 0.0], [-0.5, 0.0]]))
        tensor([0., 0.])
    """
    wide, w, c = _prepare(k, weights, c, "einstein_midpoint")
    pull = w * margin(wide, c).rsqrt()
    total = pull.sum(-2)
    mean = (pull * wide).sum(-2) / torch.where(total > 0, total, 1.0)
    return mean.to(torch.promote_types(k.dtype, torch.float32))


def _bend(w: Tensor) -> Tensor:
    """``(κ coth κ - 1)/κ²`` for ``w = κ²``, 1/3 at zero."""
    small = w < scalars.SERIES_BELOW
    near, k = torch.where(small, w, 0.0), torch.where(small, 1.0, w).sqrt()
    coefficients = [1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555, -1382 / 638512875]
    return torch.where(small, scalars.polynomial(near, coefficients), (k / torch.tanh(k) - 1.0) / k.square())


def _newton(m: Tensor, x: Tensor, w: Tensor, c: Curvature) -> Tensor:
    """Newton step ``H⁻¹ Σ w log_m x`` for the mean, as a tangent vector at ``m`` (*, 1, dim).

    The Hessian of half the squared distance is 1 along the geodesic and ``κ coth κ`` across it, ``κ = √c d``. Where
    there are fewer points than axes the system is solved in the span of the logarithms.
    """
    logs = logmap(m, x, c)
    pull = (w * logs).sum(-2, keepdim=True)
    lam = 4.0 / margin(m, c).square()
    angle = c * lam * square(logs)
    bend = w * c * lam * _bend(angle)
    across = (w + bend * square(logs)).sum(-2, keepdim=True)
    if x.shape[-2] < x.shape[-1]:
        gram = logs @ logs.mT
        system = across * torch.eye(x.shape[-2], dtype=x.dtype, device=x.device) - gram * bend.mT
        lean = torch.linalg.solve(system, logs @ pull.mT)
        return (pull + (bend * lean).mT @ logs) / across
    hessian = across * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device) - (bend * logs).mT @ logs
    return torch.linalg.solve(hessian, pull.mT).mT


@torch.library.custom_op("manifolds::frechet_point", mutates_args=())
def _frechet_point(x: Tensor, w: Tensor, c: Tensor, tolerance: float, max_steps: int) -> Tensor:
    """Newton's method with step halving from the gyromidpoint; the objective is convex along geodesics.

    Steps shorter than ``SETTLED`` are in the quadratic regime, where the objective no longer resolves them.
    """

    def objective(m: Tensor) -> Tensor:
        return (w * sqdist(m, x, c, keepdim=True)).sum(-2, keepdim=True)

    m = _gyromidpoint(x, w, c)[..., None, :]
    value, longest = objective(m), 0.0
    for _ in range(max_steps if m.numel() else 0):
        step = _newton(m, x, w, c)
        size = 2.0 * (c * square(step)).sqrt() / margin(m, c)
        longest = float(size.max())
        factor = torch.ones_like(value)
        trial, lower = m, value
        for _ in range(HALVINGS):
            trial = expmap(m, factor * step, c)
            lower = objective(trial)
            worse = (lower > value) & (size > SETTLED)
            if not bool(worse.any()):
                break
            factor = torch.where(worse, factor / 2, factor)
        m, value = trial, lower
        if longest <= tolerance:
            return m
    if m.numel():
        raise RuntimeError(
            f"frechet_mean asked for steps under {tolerance}, got {longest:.3g} after {max_steps} steps; "
            "raise tolerance or max_steps, or pull the points off the boundary"
        )
    return m


@_frechet_point.register_fake
def _(x: Tensor, w: Tensor, c: Tensor, tolerance: float, max_steps: int) -> Tensor:
    batch = torch.broadcast_shapes(x.shape[:-2], w.shape[:-2], c.shape[:-2])
    return x.new_empty((*batch, 1, x.shape[-1]))


maps_over_batches(_frechet_point, axes=2)


def frechet_mean(
    x: Points,
    weights: Weights | None = None,
    c: Curvature = 1.0,
    tolerance: float = 1e-9,
    max_steps: int = 100,
) -> Points:
    """The point with the least weighted sum of squared distances.

    Starts at the gyromidpoint and takes Newton steps in float64. Gradients are implicit: the iteration is not recorded,
    and two Newton steps from the solution carry the derivatives of first and second order.

    Args:
        x: points, shape (*, n, dim).
        weights: not negative, shape (*, n); equal where left out.
        c: curvature, 0-dim or ending in two axes of one.
        tolerance: longest step, in geodesic distance times ``√c``, at which the iteration may stop.
        max_steps: most steps taken.

    Returns:
        One point for each set, shape (*, dim).

    Raises:
        RuntimeError: the iteration did not settle in ``max_steps``.

    Example:
        >>> frechet_mean(torch.tensor([[0.5, 0.0], [-0.5, 0.0]])).abs().max() < 1e-6
        tensor(True)
    """
    wide, w, c = _prepare(x, weights, c, "frechet_mean")
    constant = torch.as_tensor(c, dtype=wide.dtype, device=wide.device)
    m = _frechet_point(wide.detach(), w.detach(), constant.detach(), tolerance, max_steps)
    for _ in range(2):
        m = expmap(m, _newton(m, wide, w, c), c)
    return _result(m.squeeze(-2), x, c)
