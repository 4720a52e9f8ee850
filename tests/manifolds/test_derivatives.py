"""First and second derivatives of every operation in every argument, the curvature included, in float64."""

import math

import pytest
import torch

from manifolds import Lorentz, einstein_midpoint, from_klein, hyperplane_distance, lorentz, poincare, polar, to_klein

F64 = {"dtype": torch.float64}


def rows(*shape, seed):
    return 0.4 * torch.randn(*shape, **F64, generator=torch.Generator().manual_seed(seed))


X, Y, Z, U, V = (rows(2, 2, seed=s) for s in range(5))
M, R, T = rows(3, 2, seed=6), torch.tensor(0.7, **F64), torch.tensor([[0.3], [0.8]], **F64)
OPERATIONS = {
    "dist": (poincare.dist, (X, Y)),
    "sqdist": (poincare.sqdist, (X, Y)),
    "sqdist at equal points": (poincare.sqdist, (X, X.clone())),
    "dist0": (poincare.dist0, (X,)),
    "expmap": (poincare.expmap, (X, V)),
    "expmap of zero": (poincare.expmap, (X, torch.zeros_like(X))),
    "logmap": (poincare.logmap, (X, Y)),
    "logmap at equal points": (poincare.logmap, (X, X.clone())),
    "expmap0": (poincare.expmap0, (V,)),
    "expmap0 of zero": (poincare.expmap0, (torch.zeros_like(X),)),
    "logmap0": (poincare.logmap0, (X,)),
    "logmap0 of zero": (poincare.logmap0, (torch.zeros_like(X),)),
    "transp": (poincare.transp, (X, Y, V)),
    "transp at equal points": (poincare.transp, (X, X.clone(), V)),
    "transp0": (poincare.transp0, (X, V)),
    "transp0back": (poincare.transp0back, (X, V)),
    "inner": (poincare.inner, (X, U, V)),
    "norm": (poincare.norm, (X, V)),
    "egrad2rgrad": (poincare.egrad2rgrad, (X, V)),
    "lambda_x": (poincare.lambda_x, (X,)),
    "geodesic": (poincare.geodesic, (T, X, Y)),
    "projx": (poincare.projx, (X,)),
    "projx from outside": (poincare.projx, (10 * X,)),
    "mobius_add": (poincare.mobius_add, (X, Y)),
    "mobius_add of opposites": (poincare.mobius_add, (X, -X)),
    "mobius_sub": (poincare.mobius_sub, (X, Y)),
    "mobius_scalar_mul": (poincare.mobius_scalar_mul, (R, X)),
    "mobius_scalar_mul by zero": (poincare.mobius_scalar_mul, (torch.tensor(0.0, **F64), X)),
    "mobius_matvec": (poincare.mobius_matvec, (M, X)),
    "gyration": (poincare.gyration, (X, Y, V)),
    "pairwise_dist": (poincare.pairwise_dist, (X, Y)),
    "polar": (polar.dist, (X, Y)),
    "polar pairs": (polar.pairwise_dist, (X, Y)),
    "to_klein": (to_klein, (X,)),
    "from_klein": (from_klein, (X,)),
    "einstein_midpoint": (einstein_midpoint, (X, torch.tensor([0.4, 1.3], **F64))),
    "hyperplane_distance": (hyperplane_distance, (X, M, rows(3, seed=7))),
    "to_ball": (lorentz.to_ball, (rows(2, 3, seed=8),)),
    "tangent_to_ball": (lorentz.tangent_to_ball, (rows(2, 3, seed=8), rows(2, 3, seed=9))),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_first_and_second_derivatives(name):
    operation, arguments = OPERATIONS[name]
    leaves = [a.detach().clone().requires_grad_() for a in (*arguments, torch.tensor(0.6, **F64))]
    assert torch.autograd.gradcheck(operation, leaves, atol=1e-6)
    assert torch.autograd.gradgradcheck(operation, leaves, atol=1e-5)


def test_lorentz_operations_are_twice_differentiable():
    hyperboloid = Lorentz(0.6)
    p, q = (hyperboloid.expmap0(hyperboloid.tangent0(v)).requires_grad_() for v in (X, Y))
    w = hyperboloid.tangent0(V).requires_grad_()
    for operation, arguments in (
        (hyperboloid.transp, (p, q, w)),
        (hyperboloid.pairwise_dist, (p, q)),
        (hyperboloid.inner, (p, w)),
        (hyperboloid.expmap0, (w,)),
        (hyperboloid.logmap0, (p,)),
    ):
        assert torch.autograd.gradcheck(operation, arguments)
        assert torch.autograd.gradgradcheck(operation, arguments)


def test_gyrations_have_determinant_one():
    matrix = torch.func.vmap(torch.func.jacrev(poincare.gyration, argnums=2))(X, Y, V)
    assert torch.allclose(torch.linalg.det(matrix), torch.ones(2, **F64), atol=1e-13)


def test_conformal_factor_of_a_sum():
    c, total = 0.6, poincare.mobius_add(X, Y, 0.6)
    a, b = (1 - c * p.square().sum(-1) for p in (X, Y))
    rest = a * b / (a * b + c * (X + Y).square().sum(-1))
    assert torch.allclose(poincare.lambda_x(total, c), 2 / rest, atol=1e-12)
    assert bool((poincare.lambda_x(X, c) >= 2).all())


@pytest.mark.parametrize("c", [0.3, 1.0, 5.0])
def test_transport_around_a_triangle_turns_by_c_times_its_area(c):
    x, y, z = (p[0] / c**0.5 for p in (X, Y, Z))
    v = U[0]
    around = v
    for start, end in ((x, y), (y, z), (z, x)):
        around = poincare.transp(start, end, around, c)
    turn = torch.atan2(v[0] * around[1] - v[1] * around[0], (v * around).sum()).abs()
    angles = []
    for p, q, r in ((x, y, z), (y, z, x), (z, x, y)):
        first, second = poincare.logmap(p, q, c), poincare.logmap(p, r, c)
        angles.append(torch.acos((first * second).sum() / (first.norm() * second.norm())))
    assert float(turn) == pytest.approx(math.pi - float(sum(angles)), abs=1e-12)


def test_projection_keeps_the_direction():
    far = 30 * rows(50, 4, seed=11)
    kept = poincare.projx(far)
    assert torch.allclose(kept / kept.norm(dim=-1, keepdim=True), far / far.norm(dim=-1, keepdim=True), atol=1e-15)
    assert bool((kept.norm(dim=-1) <= 1 - torch.finfo(torch.float64).eps ** 0.75).all())
