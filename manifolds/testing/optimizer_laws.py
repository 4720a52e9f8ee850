# ruff: noqa: D103 - the name of a law is its statement
"""Laws of random points, of the wrapped normal's density and of Riemannian optimizers (where geoopt is installed)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from manifolds.distributions import WrappedNormal
from manifolds.testing.laws import assert_points, assert_zero, installed, law
from manifolds.testing.samples import Sample

GROUP = "distributions and optimizers"
GEOOPT = installed("geoopt")
BINS = 60
DRAWS = 4096


@law(GROUP, examples=6)
def random_points_are_reproducible_and_lie_where_they_should(s: Sample) -> None:
    m, shape = s.manifold, (64, s.x.shape[-1])
    radius = min(m.max_radius(torch.float64), 3.0) * 0.5
    draws = [m.random_uniform(*shape, radius=radius, dtype=torch.float64, generator=s.generator()) for _ in range(2)]
    assert torch.equal(*draws)
    assert bool((m.dist0(draws[0]) <= radius * (1 + 1e-9)).all())
    std, n = 0.1 * radius, s.x.shape[-1] + m.features_offset
    cloud = m.random_normal(DRAWS, s.x.shape[-1], std=std, dtype=torch.float64, generator=s.generator()).detach()
    spread = float(m.dist0(cloud).detach().square().mean()) / n
    assert abs(spread / std**2 - 1.0) < 6.0 * (2.0 / (DRAWS * n)) ** 0.5
    assert m.check_point(cloud[:4].to(s.x.dtype)) is None


@law(GROUP, small=True, examples=3, reach=0.05)
def radius_of_uniform_points_is_uniform(s: Sample) -> None:
    """By Kolmogorov's distance, ``√n D`` under 2.2 with a chance of one in ten thousand."""
    m, far = s.manifold, 2.0 * s.length
    x = m.random_uniform(DRAWS, s.x.shape[-1], radius=far, dtype=torch.float64, generator=s.generator())
    rank = m.dist0(x).detach().sort().values / far
    wanted = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    assert_zero(rank - wanted, 2.2 / DRAWS**0.5)


def _plane(s: Sample, far: float) -> tuple[Tensor, Tensor]:
    """A polar grid about the origin of the two-dimensional manifold, and the area of its cells.

    Radii grow with the square of an even grid: what is integrated then starts flat, as the midpoint rule likes it.
    """
    even = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    r, angle = far * even.square(), 2 * torch.pi * even
    way = torch.stack([angle.cos(), angle.sin()], -1)
    area = s.arc(r) * (2.0 * far * even / BINS) * (2 * torch.pi / BINS)
    return s.at(r[:, None, None] / 2.0 * way), area[:, None].expand(BINS, BINS)


def _normal(s: Sample) -> WrappedNormal:
    """A normal in two dimensions, off the origin, of unequal deviations in units of ``1/√c``."""
    generator, length = s.generator(), s.length
    mean = s.at(0.3 * length * torch.randn(2, dtype=torch.float64, generator=generator)).detach()
    return WrappedNormal(
        s.manifold, mean, length * (0.4 + 0.4 * torch.rand(2, dtype=torch.float64, generator=generator))
    )


@law(GROUP, small=True, examples=3)
def density_of_the_wrapped_normal_integrates_to_one(s: Sample) -> None:
    """By the midpoint rule, out to six deviations beyond the mean."""
    normal = _normal(s)
    far = float(s.manifold.dist0(normal.mean).detach()) + 6.0 * float(normal.std.max())
    points, area = _plane(s, far)
    total = float((normal.log_prob(points).exp() * area).detach().sum())
    assert abs(total - 1.0) < 1e-6, f"the density integrates to {total:.6f}"


@law(GROUP, small=True, examples=3)
def samples_of_the_wrapped_normal_have_its_moments(s: Sample) -> None:
    """Six standard errors."""
    m, normal = s.manifold, _normal(s)
    x = normal.sample((DRAWS,), s.generator())
    mean = normal.mean.expand_as(x)
    u = 2.0 * m.features0(m.transp0back(mean, m.logmap(mean, x))).detach() / normal.std
    assert_zero(u.mean(0), 6.0 / DRAWS**0.5)
    assert_zero(u.T @ u / DRAWS - torch.eye(2, dtype=torch.float64), 6.0 * (2.0 / DRAWS) ** 0.5)


@law(GROUP, small=True, examples=2)
def wrapped_normal_is_differentiable(s: Sample) -> None:
    normal = _normal(s)
    z = s.at(0.4 * s.length * s.noise(3, 2)).detach()

    def density(mean: Tensor, std: Tensor, p: Tensor) -> Tensor:
        return WrappedNormal(s.manifold, mean * s.length, std * s.length).log_prob(p * s.length)

    leaves = [(a / s.length).detach().requires_grad_() for a in (normal.mean, normal.std, z)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        assert torch.autograd.gradcheck(density, leaves, atol=1e-5, rtol=1e-3, fast_mode=True)
        assert torch.autograd.gradgradcheck(density, leaves, atol=1e-5, rtol=1e-3, fast_mode=True)


def _descend(s: Sample, step: Callable[..., Any], start: Tensor, target: Tensor, steps: int) -> list[Tensor]:
    """Where an optimizer takes ``start`` on half the squared distance to ``target``, step by step."""
    from manifolds.optim import manifold_parameter

    p, target = manifold_parameter(start, s.manifold), target.detach()
    optimizer, path = step([p]), [torch.Tensor.detach(p).as_subclass(Tensor).clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        (s.manifold.sqdist(p, target) / 2.0).sum().backward()
        optimizer.step()
        path.append(torch.Tensor.detach(p).as_subclass(Tensor).clone())
    return path


def _optimizers(s: Sample) -> list[Callable[..., Any]]:
    """Steps that fit the distances of the sample: gradients are as long as they, Adam's steps as the rate.

    Without momentum: geoopt 0.5.1 starts the buffer with the Euclidean gradient, which is huge near the boundary.
    """
    from manifolds.optim import riemannian_adam, riemannian_sgd

    rate = 0.05 * float(s.manifold.dist(s.x, s.y).detach().min())
    return [lambda p: riemannian_sgd(p, lr=0.1), lambda p: riemannian_adam(p, lr=rate)]


@law(GROUP, small=True, examples=4, reach=0.2, when=GEOOPT)
def a_gradient_step_follows_the_geodesic(s: Sample) -> None:
    """Descent on ``d²/2`` at rate ``t`` lands on ``geodesic(t)``, the exponential of the scaled gradient."""
    from manifolds.optim import riemannian_sgd

    m = s.manifold
    for rate in (0.25, 1.0):
        end = _descend(s, lambda p, rate=rate: riemannian_sgd(p, lr=rate), s.x, s.y, 1)[1]
        x = s.x.clone().requires_grad_()
        (grad,) = torch.autograd.grad((m.sqdist(x, s.y) / 2.0).sum(), x)
        slack = s.swing(s.x, m.dist(s.x, s.y)) * s.stretch(s.x, s.y)
        assert_points(s, end, m.expmap(s.x, -rate * m.egrad2rgrad(s.x, grad)), s.x, s.y, slack=slack)
        assert_points(s, end, m.geodesic(rate, s.x, s.y), s.x, s.y, slack=slack)


@law(GROUP, small=True, examples=2, reach=0.2, when=GEOOPT)
def optimizers_stay_on_the_manifold_and_descend(s: Sample) -> None:
    for step in _optimizers(s):
        path = _descend(s, step, s.x, s.y, 12)
        assert all(s.manifold.check_point(p) is None for p in path)
        assert all(torch.equal(s.manifold.projx(p), p) for p in path)
        first, last = (s.manifold.dist(p, s.y) for p in (path[0], path[-1]))
        assert bool((last < first - 0.2 * first.min()).all())


@law(GROUP, small=True, examples=2, reach=0.1, when=GEOOPT)
def optimizers_turn_with_the_data(s: Sample) -> None:
    for step in _optimizers(s):
        plain, turned = (_descend(s, step, *pair, 5)[-1] for pair in ((s.x, s.y), (s.turned(s.x), s.turned(s.y))))
        slack = 64 * s.spread(s.x, s.y) * s.stretch(s.x, s.y)
        assert_points(s, s.turned(plain), turned, s.x, s.y, slack=slack)
        lengths = s.manifold.dist(plain, s.x)
        assert bool((lengths > 0).all())
