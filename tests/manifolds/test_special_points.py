"""Values and gradients where other libraries have NaN, infinity or a dead zero."""

import pytest
import torch

from manifolds import poincare, polar

ULP = 2.0**-24


def grads(function, *tensors):
    leaves = [t.clone().requires_grad_() for t in tensors]
    result = function(*leaves)
    return torch.autograd.grad(result if result.ndim == 0 else result.sum(), leaves)


def jacobian(function, x):
    return torch.func.jacrev(function)(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponential_and_logarithm_at_the_origin_have_identity_gradients(dtype):
    zero, eye = torch.zeros(3, dtype=dtype), torch.eye(3, dtype=dtype)
    for function in (poincare.expmap0, poincare.logmap0, lambda v: poincare.expmap(zero, v), poincare.projx):
        assert torch.equal(jacobian(function, zero), eye)


def test_distance_one_rounding_from_the_boundary():
    x, y = torch.tensor([1 - ULP, 0.0]), torch.tensor([0.5, 0.0])
    (grad, _) = grads(poincare.dist, x, y)
    assert abs(float(grad[0]) / (2 / (1 - (1 - ULP) ** 2)) - 1) < 1e-6
    assert abs(float(grads(poincare.logmap0, x)[0].norm()) / 8.4e6 - 1) < 0.1
    assert float(poincare.dist(x, y)) == pytest.approx(
        2 * torch.atanh(torch.tensor(1 - ULP).double()).item() - 1.0986123, abs=1e-5
    )


@pytest.mark.parametrize("norm", [1.0, 1.01, 3.0])
def test_on_and_outside_the_boundary_everything_is_finite(norm):
    x, y = torch.tensor([norm, 0.0]), torch.tensor([0.5, 0.1])
    for function in (poincare.dist, poincare.sqdist, poincare.logmap, poincare.mobius_add, poincare.expmap):
        assert bool(torch.isfinite(function(x, y)).all())
        assert all(bool(torch.isfinite(g).all()) for g in grads(function, x, y))
    assert bool(torch.isfinite(poincare.logmap0(x)).all())
    assert float(poincare.dist(x, y)) >= float(poincare.dist(torch.tensor([0.999, 0.0]), y))


def test_long_tangent_vectors():
    v = torch.tensor([1e4, -1e4])
    assert bool(torch.isfinite(poincare.expmap0(v)).all())
    (grad,) = grads(poincare.expmap0, v)
    assert bool(torch.isfinite(grad).all())
    assert poincare.expmap0(v).norm() < 1


def test_transport_to_the_same_point():
    x, v = torch.tensor([0.7, 0.0]), torch.tensor([0.3, 0.2])
    assert torch.allclose(poincare.transp(x, x, v), v)
    assert all(bool(torch.isfinite(g).all()) for g in grads(poincare.transp, x, x, v))
    zero = torch.zeros(2)
    assert all(bool(torch.isfinite(g).all()) for g in grads(poincare.transp, zero, zero, v))


@pytest.mark.parametrize("radius", [4.0, 8.0, 11.0])
def test_radius_survives_the_round_trip_in_float32(radius):
    u = torch.nn.functional.normalize(torch.ones(64), dim=0) * (radius / 2)
    x = poincare.expmap0(u)
    assert float(poincare.dist0(x)) == pytest.approx(radius, rel=2e-3)
    assert float(poincare.dist(x, -x)) == pytest.approx(2 * radius, rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_points(dtype):
    u = (torch.nn.functional.normalize(torch.ones(64), dim=0) * 2.0).to(dtype)
    truth = 2 * 2 * float(u.float().norm())
    assert float(poincare.dist(poincare.expmap0(u), -poincare.expmap0(u))) == pytest.approx(truth, rel=1e-2)
    far = torch.randn(200, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    stored = poincare.projx(far)
    assert stored.dtype == dtype
    assert bool((stored.double().norm(dim=-1) < 1).all())
    assert torch.equal(poincare.projx(stored), stored)
    assert bool(torch.isfinite(poincare.dist(stored, -stored)).all())
    stepped = poincare.expmap(stored, far).to(dtype)
    assert bool((stepped.double().norm(dim=-1) < 1).all())


def test_polar_distance_at_special_points():
    v = torch.tensor([3.0, 4.0])
    (grad, _) = grads(polar.dist, torch.zeros(2), v)
    assert torch.allclose(grad, -2 * v / 5)
    assert all(bool((g == 0).all()) for g in grads(polar.dist, v, v))
    assert float(polar.dist(v, v)) == 0.0
    (grad, _) = grads(polar.dist, 80 * v / 5, -80 * v / 5)
    assert torch.allclose(grad, 2 * v / 5)
    u = torch.stack([torch.zeros(2), v])
    one, many = grads(polar.dist, u, v.expand(2, 2))[0], grads(lambda p: polar.pairwise_dist(p, v[None]), u)[0]
    assert torch.allclose(one, many)


def test_subnormal_numbers():
    x, y = torch.tensor([1e-41, 0.0]), torch.tensor([0.0, 3e-42])
    assert float(poincare.dist(x, y)) > 0
    for g in grads(poincare.dist, x, y):
        assert bool(torch.isfinite(g).all())
