"""Means: invariances, optimality, agreement between models, implicit gradients."""

import pytest
import torch

from manifolds import Lorentz, einstein_midpoint, frechet_mean, from_klein, gyromidpoint, poincare, to_klein

MEANS = {"gyromidpoint": gyromidpoint, "frechet": frechet_mean}


def cloud(*shape, seed=0, radius=1.0, c=0.7):
    v = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return poincare.expmap0(radius * v, c)


W = torch.tensor([0.2, 1.0, 0.0, 2.5, 0.3], dtype=torch.float64)


@pytest.mark.parametrize("name", MEANS)
def test_order_and_scale_of_weights_do_not_matter(name):
    mean, x = MEANS[name], cloud(5, 3)
    wanted = mean(x, W, 0.7)
    perm = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(mean(x[perm], W[perm], 0.7), wanted, atol=1e-12)
    assert torch.allclose(mean(x, 1e6 * W, 0.7), wanted, atol=1e-12)
    assert torch.allclose(mean(x[[0, 1, 3, 4]], W[[0, 1, 3, 4]], 0.7), wanted, atol=1e-12)


@pytest.mark.parametrize("name", MEANS)
def test_isometries_move_the_mean_along(name):
    mean, x, z = MEANS[name], cloud(5, 3), cloud(3, seed=1)
    moved = mean(poincare.mobius_add(z, x, 0.7), W, 0.7)
    assert torch.allclose(moved, poincare.mobius_add(z, mean(x, W, 0.7), 0.7), atol=1e-11)


@pytest.mark.parametrize("name", MEANS)
def test_one_point_two_points_and_the_smallest_ball(name):
    mean, x = MEANS[name], cloud(6, 3)
    assert torch.allclose(mean(x[:1], c=0.7), x[0], atol=1e-13)
    middle = poincare.geodesic(0.5, x[0], x[1], 0.7)
    assert torch.allclose(mean(x[:2], c=0.7), middle, atol=1e-12)
    centre = mean(x, c=0.7)
    assert float(poincare.dist(centre, x, 0.7).max()) < float(poincare.pairwise_dist(x, c=0.7).max())


def test_einstein_midpoint_gyromidpoint_and_lorentz_centroid_are_one():
    x, c = cloud(5, 3), 0.7
    wanted = gyromidpoint(x, W, c)
    assert torch.allclose(from_klein(einstein_midpoint(to_klein(x, c), W, c), c), wanted, atol=1e-13)
    points = Lorentz(c).from_ball(x)
    total = (W[:, None] * points).sum(0)
    norm = (total[0] ** 2 - total[1:].square().sum()).sqrt() * c**0.5
    assert torch.allclose(Lorentz(c).to_ball(total / norm), wanted, atol=1e-13)
    many = cloud(100, 3, seed=3)
    chunked = gyromidpoint(torch.cat([many[:50], many[:50]]), c=c)
    assert torch.allclose(chunked, gyromidpoint(many[:50], c=c), atol=1e-12)


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


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize(("n", "dim"), [(3, 2), pytest.param(2, 3, marks=pytest.mark.slow)])
def test_derivatives_of_both_orders_in_points_weights_and_curvature(name, n, dim):
    x = cloud(n, dim).requires_grad_()
    w, c = W[[0, 1, 3, 4]][:n].clone().requires_grad_(), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MEANS[name], (x, w, c))
    assert torch.autograd.gradgradcheck(MEANS[name], (x, w, c))


def test_implicit_gradient_is_the_unrolled_gradient():
    x = cloud(4, 3).requires_grad_()
    mean = x.mean(0)
    for _ in range(60):
        mean = poincare.expmap(mean, 0.7 * poincare.logmap(mean, x, 0.7).mean(0), 0.7)
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (unrolled,) = torch.autograd.grad((mean * weight).sum(), x)
    (implicit,) = torch.autograd.grad((frechet_mean(x, c=0.7) * weight).sum(), x)
    assert torch.allclose(implicit, unrolled, atol=1e-10)


def test_means_refuse_bad_input():
    with pytest.raises(ValueError, match="one weight a point, got 3 for 5 points"):
        gyromidpoint(cloud(5, 2), torch.ones(3))
    with pytest.raises(ValueError, match="n > 0"):
        frechet_mean(torch.zeros(0, 2))
    with pytest.raises(RuntimeError, match="raise tolerance or max_steps"):
        frechet_mean(cloud(5, 3), max_steps=1, tolerance=1e-30)
