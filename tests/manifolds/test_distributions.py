"""The wrapped normal across models, its flat limit, its curvature, and the function it is made of."""

import math

import pytest
import torch

from manifolds import Euclidean, Lorentz, PoincareBall, WrappedNormal
from manifolds.distributions import log_sinh_ratio

C = 0.7


def test_density_is_the_same_in_all_models_and_flat_in_the_limit():
    mean, z = torch.tensor([0.2, 0.1]).double(), torch.tensor([[0.5, -0.3], [0.0, 0.0]]).double()
    ball, hyperboloid = PoincareBall(C), Lorentz(C)
    wanted = WrappedNormal(ball, mean, 0.6).log_prob(z)
    got = WrappedNormal(hyperboloid, hyperboloid.from_ball(mean), 0.6).log_prob(hyperboloid.from_ball(z))
    assert torch.allclose(got, wanted, atol=1e-11)
    flat = WrappedNormal(Euclidean(), mean, 0.6).log_prob(z)
    assert torch.allclose(WrappedNormal(PoincareBall(1e-10), mean, 0.6).log_prob(z), flat, atol=1e-8)
    assert torch.allclose(flat, torch.distributions.Normal(2 * mean, 0.6).log_prob(2 * z).sum(-1))


def test_samples_and_densities_follow_mean_deviation_and_curvature():
    mean = torch.tensor([[0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    std = torch.tensor([[0.3, 0.8]], dtype=torch.float64, requires_grad=True)
    ball = PoincareBall(C, learnable=True)

    def sample(m, s):
        return WrappedNormal(ball, m, s).rsample((2,), torch.Generator().manual_seed(1))

    assert torch.autograd.gradcheck(sample, (mean, std))
    z = torch.tensor([[0.1, -0.4]], dtype=torch.float64)
    (grad,) = torch.autograd.grad(WrappedNormal(ball, mean, std).log_prob(z).sum(), ball.parameters())
    assert bool(grad.abs() > 0)


def test_logarithm_of_sinh_ratio():
    w = torch.tensor([0.0, 1e-12, 1e-3, 0.0099, 0.01, 1.0, 1e6], dtype=torch.float64, requires_grad=True)
    s = w.detach().sqrt()[2:6]
    assert torch.allclose(log_sinh_ratio(w).detach()[2:6], torch.log(torch.sinh(s) / s), rtol=1e-9)
    assert log_sinh_ratio(w)[-1].item() == pytest.approx(1000 - math.log(2000))
    (grad,) = torch.autograd.grad(log_sinh_ratio(w).sum(), w)
    assert grad[0].item() == pytest.approx(1 / 6)
    assert bool(torch.isfinite(grad).all())


def test_bad_standard_deviation():
    with pytest.raises(ValueError, match=r"std > 0, got -1\.0"):
        WrappedNormal(PoincareBall(), torch.zeros(2), -1.0)
