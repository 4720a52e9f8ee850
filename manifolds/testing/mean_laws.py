# ruff: noqa: D103 - the name of a law is its statement
"""Laws of means: invariances that every mean has, and what makes the Fréchet mean one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from manifolds.testing.laws import assert_points, assert_zero, law
from manifolds.testing.samples import Sample

Mean = Callable[..., Tensor]
REACH = 0.3
# The iteration stops at steps of 1e-9 and ends with two Newton steps, whose error is the square of that.
SETTLED = 1e-12


def _means(s: Sample) -> list[Mean]:
    """The means that the manifold has; the iterative one where the sample is float64."""
    names = ("midpoint", "frechet_mean") if s.x.dtype == torch.float64 else ("midpoint",)
    return [getattr(s.manifold, name) for name in names if hasattr(s.manifold, name)]


def _set(s: Sample) -> tuple[Tensor, Tensor]:
    """Sets of five points and their weights, one of them zero."""
    w = s.manifold.geodesic(0.3, s.x, s.z)
    weights = s.noise(*s.x.shape[:-1], 5).abs() + 0.05
    weights[..., 2] = 0.0
    return torch.stack([s.x, s.y, s.z, w, s.manifold.geodesic(0.8, s.y, s.z)], dim=-2).detach(), weights


def _slack(s: Sample) -> Tensor:
    """How far a settled mean may be from the true one: the stop of the iteration, and its float64 roundings."""
    return s.length * (SETTLED + s.relative(s.x, s.y, s.z) * s.stretch(s.x, s.y, s.z))


@law("means", reach=REACH, needs=("midpoint",))
def order_and_scale_of_weights_do_not_matter(s: Sample) -> None:
    points, weights = _set(s)
    order = torch.tensor([3, 0, 4, 1, 2])
    for mean in _means(s):
        wanted = mean(points, weights)
        assert_points(s, mean(points[..., order, :], weights[..., order]), wanted, s.x, s.y, s.z)
        assert_points(s, mean(points, weights * 1e6), wanted, s.x, s.y, s.z)
        kept = [0, 1, 3, 4]
        assert_points(s, mean(points[..., kept, :], weights[..., kept]), wanted, s.x, s.y, s.z)


@law("means", reach=REACH, needs=("midpoint",))
def equal_weights_are_no_weights(s: Sample) -> None:
    points, weights = _set(s)
    for mean in _means(s):
        assert_points(s, mean(points, torch.ones_like(weights)), mean(points), s.x, s.y, s.z)


@law("means", reach=0.2, needs=("midpoint",))
def isometries_move_the_mean_along(s: Sample) -> None:
    m: Any = s.manifold
    points, weights = _set(s)
    for mean in _means(s):
        centre = mean(points, weights)
        slack = 8 * s.spread(s.x, s.y, s.z) + _slack(s)
        assert_points(s, mean(s.turned(points), weights), s.turned(centre), s.x, s.y, s.z, slack=slack)
        if hasattr(m, "mobius_add"):
            moved, image = m.mobius_add(s.z[..., None, :], points), m.mobius_add(s.z, centre)
            through = moved[..., 0, :], moved[..., 1, :]
            assert_points(s, mean(moved, weights), image, *through, slack=slack + 8 * s.spread(*through))


@law("means", reach=REACH, needs=("midpoint",))
def a_mean_of_one_point_is_the_point_and_of_two_the_middle(s: Sample) -> None:
    middle = s.manifold.geodesic(0.5, s.x, s.y)
    for mean in _means(s):
        assert_points(s, mean(s.x[..., None, :]), s.x)
        slack = s.swing(s.x, s.manifold.dist(s.x, s.y))
        assert_points(s, mean(torch.stack([s.x, s.y], dim=-2)), middle, s.x, s.y, slack=slack)
        assert_points(s, mean(torch.stack([s.x, s.x, s.x], dim=-2)), s.x, s.x)


@law("means", reach=REACH, needs=("midpoint",))
def every_ball_that_holds_the_points_holds_their_mean(s: Sample) -> None:
    """Balls are convex. Centres: the origin, the points, middles between them, and points beyond."""
    m = s.manifold
    points, weights = _set(s)
    origin = m.origin(*s.x.shape, dtype=s.x.dtype)
    centres = [origin, s.x, s.z, m.geodesic(0.5, s.x, s.y), m.geodesic(0.5, s.y, s.z), m.geodesic(-0.3, s.x, s.z)]
    for mean in _means(s):
        got = mean(points, weights)
        for centre in centres:
            radius = m.dist(centre[..., None, :], points).double().amax(-1)
            slack = s.relative(s.x, s.y, s.z) * radius + s.spread(s.x, s.y, s.z)
            assert bool((m.dist(centre, got).double() <= radius + slack).all())


@law("means", small=True, reach=REACH, needs=("frechet_mean",))
def weighted_logarithms_at_the_frechet_mean_cancel(s: Sample) -> None:
    m: Any = s.manifold
    points, weights = _set(s)
    centre = m.frechet_mean(points, weights)
    logs = m.logmap(centre[..., None, :].expand_as(points), points)
    pull = (weights[..., None] * logs).sum(-2) / weights.sum(-1, keepdim=True)
    assert_zero(m.norm(centre, pull), 4 * _slack(s))


@law("means", small=True, reach=0.2, needs=("frechet_mean",))
def frechet_mean_cannot_be_improved(s: Sample) -> None:
    m: Any = s.manifold
    points, weights = _set(s)
    centre = m.frechet_mean(points, weights)

    def objective(p: Tensor) -> Tensor:
        return (weights * m.sqdist(p[..., None, :], points)).sum(-1)

    for step in s.noise(8, *s.features(centre).shape):
        nearby = m.expmap(centre, m.transp0(centre, m.tangent0(1e-3 * s.length * step)))
        assert bool((objective(nearby) >= objective(centre)).all())


@law("means", small=True, examples=2, reach=0.05, needs=("frechet_mean",))
def implicit_gradient_is_the_unrolled_gradient(s: Sample) -> None:
    """In points and weights. Steps of ``1/κ`` contract by ``1 - 1/κ``, ``κ`` a bound of ``√c`` times any distance."""
    m: Any = s.manifold
    points, weights = (p.requires_grad_() for p in _set(s))
    far = max(1.0, 2.0 * s.root_c * float(m.dist0(points).detach().max()))
    centre = m.midpoint(points, weights)
    share = weights / weights.sum(-1, keepdim=True)
    for _ in range(int(20 * far)):
        base = centre[..., None, :].expand_as(points)
        centre = m.expmap(centre, (share[..., None] * m.logmap(base, points)).sum(-2) / far)
    way = s.noise(*centre.shape)
    pairs = [torch.autograd.grad((p * way).sum(), (points, weights)) for p in (centre, m.frechet_mean(points, weights))]
    for unrolled, implicit in zip(*pairs, strict=True):
        assert_zero(implicit - unrolled, 1e-7 * float(unrolled.abs().max()))


@law("means", small=True, examples=2, reach=0.08, needs=("frechet_mean",))
def means_are_twice_differentiable(s: Sample) -> None:
    points, weights = (p[0, [0, 1, 3]].clone() for p in _set(s))
    size = float(points.abs().max())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        for mean in _means(s):
            leaves = (points / size).requires_grad_(), weights.requires_grad_()

            def scaled(p: Tensor, w: Tensor, mean: Mean = mean) -> Tensor:
                return mean(size * p, w) / size

            assert torch.autograd.gradcheck(scaled, leaves, atol=1e-5, rtol=1e-3, fast_mode=True)
            assert torch.autograd.gradgradcheck(scaled, leaves, atol=1e-4, rtol=1e-3, fast_mode=True)
