"""Means: what the law suite's sets of five points do not reach: many points, many axes, the boundary, the curvature."""

import pytest
import torch

from manifolds import frechet_mean, gyromidpoint, poincare

MEANS = {"gyromidpoint": gyromidpoint, "frechet": frechet_mean}


def cloud(*shape, seed=0, radius=1.0, c=0.7):
    v = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return poincare.expmap0(radius * v, c)


W = torch.tensor([0.2, 1.0, 2.5], dtype=torch.float64)


def test_sets_too_large_for_pairs_have_the_same_midpoint():
    half = cloud(50, 3, seed=3)
    assert torch.allclose(gyromidpoint(torch.cat([half, half]), c=0.7), gyromidpoint(half, c=0.7), atol=1e-12)


@pytest.mark.parametrize("name", MEANS)
def test_derivatives_in_the_curvature(name):
    x, c = cloud(3, 2), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: MEANS[name](x, W, k), c)
    assert torch.autograd.gradgradcheck(lambda k: MEANS[name](x, W, k), c)


def test_midpoint_close_to_the_boundary_keeps_its_digits():
    x = poincare.expmap0(torch.tensor([[13.0, 1e-6], [13.0, -1e-6]], dtype=torch.float64))
    wanted = poincare.dist0(poincare.geodesic(0.5, x[0], x[1]))
    assert float(poincare.dist0(gyromidpoint(x))) == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize(("n", "dim", "radius"), [(4, 16, 1.0), (40, 3, 1.5), (5, 2, 5.0), (1, 3, 1.0)])
def test_frechet_mean_is_stationary_and_cannot_be_improved(n, dim, radius):
    x = cloud(2, n, dim, radius=radius, c=1.0) if radius < 2 else cloud(2, n, dim, radius=radius, c=1.0) * 0.999
    mean = frechet_mean(x)
    pull = poincare.logmap(mean[:, None], x).mean(1)
    assert float(poincare.norm(mean, pull).max()) < 1e-9
    value = poincare.sqdist(mean[:, None], x).mean(1)
    for seed in range(20):
        v = 1e-3 * torch.randn(mean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        nearby = poincare.expmap(mean, v * (1 - mean.square().sum(-1, keepdim=True)))
        assert bool((poincare.sqdist(nearby[:, None], x).mean(1) >= value).all())


def test_means_refuse_bad_input():
    with pytest.raises(ValueError, match="one weight a point, got 3 for 5 points"):
        gyromidpoint(cloud(5, 2), torch.ones(3))
    with pytest.raises(ValueError, match="n > 0"):
        frechet_mean(torch.zeros(0, 2))
    with pytest.raises(RuntimeError, match="raise tolerance or max_steps"):
        frechet_mean(cloud(5, 3), max_steps=1, tolerance=1e-30)
