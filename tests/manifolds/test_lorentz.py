"""The textbook's formulas of the hyperboloid, ambient vectors, float32; the law suite says the rest."""

import pytest
import torch

from manifolds import Lorentz, ToBall, lorentz, poincare

C = 0.7
HYPERBOLOID = Lorentz(C)


def tangent(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X, Y = (poincare.expmap0(tangent(6, 3, seed=s), C) for s in (0, 1))
U, V = (tangent(6, 3, seed=s) * (1 - C * X.square().sum(-1, keepdim=True)) / 2 for s in (2, 3))
P, Q = lorentz.from_ball(X, C), lorentz.from_ball(Y, C)
LU, LV = lorentz.tangent_from_ball(X, U, C), lorentz.tangent_from_ball(X, V, C)


def product(x, y):
    return (x[..., 1:] * y[..., 1:]).sum(-1) - x[..., 0] * y[..., 0]


def test_tangents_are_orthogonal_to_points_and_follow_the_differential():
    assert torch.allclose(product(P, P), torch.full((6,), -1 / C, dtype=torch.float64))
    assert torch.allclose(product(P, LU), torch.zeros(6, dtype=torch.float64), atol=1e-11)
    assert torch.allclose(lorentz.tangent_to_ball(P, LU, C), U, atol=1e-12)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: lorentz.from_ball(x, C)))(X)
    assert torch.allclose((jacobian @ U[..., None]).squeeze(-1), LU, atol=1e-10)


def test_scalars_are_those_of_the_lorentz_product():
    assert torch.allclose(HYPERBOLOID.dist(P, Q), torch.acosh(-C * product(P, Q)) / C**0.5, atol=1e-10)
    assert torch.allclose(HYPERBOLOID.inner(P, LU, LV), product(LU, LV), atol=1e-10)
    assert torch.allclose(HYPERBOLOID.norm(P, LU), product(LU, LU).sqrt(), atol=1e-10)


def test_maps_are_those_of_the_textbook():
    norm = product(LU, LU).sqrt()[:, None] * C**0.5
    wanted = torch.cosh(norm) * P + torch.sinh(norm) / norm * LU
    assert torch.allclose(HYPERBOLOID.expmap(P, LU), wanted, rtol=1e-9)
    inner = C * product(P, Q)[:, None]
    log = torch.acosh(-inner) / (inner.square() - 1).sqrt() * (Q + inner * P)
    assert torch.allclose(HYPERBOLOID.logmap(P, Q), log, atol=1e-9)
    carried = LU + C * product(Q, LU)[:, None] / (1 - inner) * (P + Q)
    assert torch.allclose(HYPERBOLOID.transp(P, Q, LU), carried, atol=1e-8)


def test_projection_and_riemannian_gradient():
    ambient = tangent(6, 4, seed=5)
    inside = HYPERBOLOID.proju(P, ambient)
    assert torch.allclose(product(P, inside), torch.zeros(6, dtype=torch.float64), atol=1e-10)
    wanted = ambient + C * product(P, ambient)[:, None] * P
    assert torch.allclose(inside, wanted, atol=1e-9)
    p = P.clone().requires_grad_()
    (grad,) = torch.autograd.grad(HYPERBOLOID.dist(p, Q).sum(), p)
    step = HYPERBOLOID.egrad2rgrad(P, grad)
    assert torch.allclose(step, -HYPERBOLOID.logmap(P, Q) / HYPERBOLOID.dist(P, Q, keepdim=True), atol=1e-9)


def test_float32_distances_of_near_points():
    u = torch.nn.functional.normalize(tangent(50, 8, seed=6), dim=-1).float() * 3.0
    x = HYPERBOLOID.expmap0(HYPERBOLOID.tangent0(u))
    near = HYPERBOLOID.projx(x * (1 + 1e-6))
    wanted = HYPERBOLOID.dist(x.double(), near.double())
    assert torch.allclose(HYPERBOLOID.dist(x, near).double(), wanted, rtol=2e-7, atol=0)


def test_features_enter_through_to_ball():
    u = torch.tensor([[0.3, 0.4], [30.0, 40.0]])
    points = ToBall(HYPERBOLOID, clip_radius=2.3)(u)
    assert points.shape == (2, 3)
    assert torch.allclose(HYPERBOLOID.dist0(points), torch.tensor([1.0, 4.6]), rtol=1e-6)


def test_bad_points_are_named():
    off = torch.tensor([1.0, 1.0])
    with pytest.raises(ValueError, match="apply projx first"):
        Lorentz(check=True).dist0(off)
    assert Lorentz(check=True).dist0(Lorentz().projx(off)) > 0
    with pytest.raises(ValueError, match="a time and a space coordinate"):
        Lorentz().dist0(torch.ones(1))
