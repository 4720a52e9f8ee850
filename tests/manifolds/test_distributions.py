"""The wrapped normal: density integrates to one, samples follow it, both differentiable."""

import math

import pytest
import torch

from manifolds import Euclidean, Lorentz, PoincareBall, WrappedNormal, poincare
from manifolds.distributions import log_sinh_ratio

C = 0.7


def gauge(radius, bins):
    """Polar grid about the origin of the disc with its Riemannian area element."""
    r = (torch.arange(bins, dtype=torch.float64) + 0.5) * (radius / bins)
    angle = (torch.arange(bins, dtype=torch.float64) + 0.5) * (2 * math.pi / bins)
    way = torch.stack([angle.cos(), angle.sin()], -1)
    points = poincare.expmap0(r[:, None, None] / 2 * way, C)
    area = torch.sinh(C**0.5 * r) / C**0.5 * (radius / bins) * (2 * math.pi / bins)
    return points, area[:, None].expand(bins, bins)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0, 0.0), (0.5, 0.5)), ((0.3, -0.2), (0.4, 0.9)), ((0.0, 0.7), (0.3, 0.3))]
)
def test_density_integrates_to_one(mean, std):
    normal = WrappedNormal(PoincareBall(C), torch.tensor(mean, dtype=torch.float64), torch.tensor(std).double())
    points, area = gauge(12.0, 400)
    assert float((normal.log_prob(points).exp() * area).sum()) == pytest.approx(1.0, abs=2e-3)


def test_density_is_the_same_in_all_models_and_flat_in_the_limit():
    mean, z = torch.tensor([0.2, 0.1]).double(), torch.tensor([[0.5, -0.3], [0.0, 0.0]]).double()
    ball, hyperboloid = PoincareBall(C), Lorentz(C)
    wanted = WrappedNormal(ball, mean, 0.6).log_prob(z)
    got = WrappedNormal(hyperboloid, hyperboloid.from_ball(mean), 0.6).log_prob(hyperboloid.from_ball(z))
    assert torch.allclose(got, wanted, atol=1e-11)
    flat = WrappedNormal(Euclidean(), mean, 0.6).log_prob(z)
    assert torch.allclose(WrappedNormal(PoincareBall(1e-10), mean, 0.6).log_prob(z), flat, atol=1e-8)
    assert torch.allclose(flat, torch.distributions.Normal(2 * mean, 0.6).log_prob(2 * z).sum(-1))


def test_moments_of_samples():
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.tensor([0.3, 0.2]).double(), torch.tensor([0.3, 0.8]).double()
    ball = PoincareBall(C)
    x = WrappedNormal(ball, mean, std).sample((20000,), generator)
    assert x.shape == (20000, 2)
    back = 2 * ball.transp0back(mean.expand_as(x), ball.logmap(mean.expand_as(x), x))
    assert torch.allclose(back.std(0), std, rtol=0.03)
    assert float(back.mean(0).abs().max()) < 0.02
    assert float(ball.dist(mean, x).square().mean()) == pytest.approx(float(std.square().sum()), rel=0.03)


def test_samples_and_densities_are_differentiable():
    mean = torch.tensor([[0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    std = torch.tensor([[0.3, 0.8]], dtype=torch.float64, requires_grad=True)
    z = torch.tensor([[0.1, -0.4]], dtype=torch.float64, requires_grad=True)
    ball = PoincareBall(C, learnable=True)

    def density(m, s, p):
        return WrappedNormal(ball, m, s).log_prob(p)

    def sample(m, s):
        return WrappedNormal(ball, m, s).rsample((2,), torch.Generator().manual_seed(1))

    assert torch.autograd.gradcheck(density, (mean, std, z))
    assert torch.autograd.gradgradcheck(density, (mean, std, z))
    assert torch.autograd.gradcheck(sample, (mean, std))
    (grad,) = torch.autograd.grad(density(mean, std, z).sum(), ball.parameters())
    assert bool(grad.abs() > 0)


def test_logarithm_of_sinh_ratio():
    w = torch.tensor([0.0, 1e-12, 1e-3, 0.0099, 0.01, 1.0, 1e6], dtype=torch.float64, requires_grad=True)
    s = w.detach().sqrt()[2:6]
    assert torch.allclose(log_sinh_ratio(w).detach()[2:6], torch.log(torch.sinh(s) / s), rtol=1e-9)
    assert log_sinh_ratio(w)[-1].item() == pytest.approx(1000 - math.log(2000))
    (grad,) = torch.autograd.grad(log_sinh_ratio(w).sum(), w)
    assert grad[0].item() == pytest.approx(1 / 6)
    assert bool(torch.isfinite(grad).all())


def test_random_points_of_a_manifold():
    for manifold in (PoincareBall(C), Lorentz(C), Euclidean()):
        generator = torch.Generator().manual_seed(0)
        x = manifold.random_uniform(20000, 3, radius=4.0, generator=generator, dtype=torch.float64)
        radius = manifold.dist0(x).sort().values
        wanted = torch.linspace(0, 4, 20000, dtype=torch.float64)
        assert float((radius - wanted).abs().max()) < 0.06
        mean = manifold.random_normal(1, 3, generator=generator, dtype=torch.float64)
        y = manifold.random_normal(4000, 3, mean=mean, std=0.3, generator=generator, dtype=torch.float64)
        dimension = 3 + manifold.features_offset
        assert float(manifold.dist(mean, y).square().mean()) == pytest.approx(0.09 * dimension, rel=0.07)


def test_bad_standard_deviation():
    with pytest.raises(ValueError, match=r"std > 0, got -1\.0"):
        WrappedNormal(PoincareBall(), torch.zeros(2), -1.0)
