"""The flat limit c -> 0, and the scaling that connects all curvatures."""

import pytest
import torch

from manifolds import Euclidean, PoincareBall, busemann, gyromidpoint, hyperplane_distance, poincare, polar

FLAT = Euclidean()


def rows(*shape, seed):
    return 0.5 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X, Y, V = (rows(5, 3, seed=s) for s in range(3))
M = rows(2, 3, seed=3)
OPERATIONS = {
    "dist": (X, Y),
    "sqdist": (X, Y),
    "dist0": (X,),
    "expmap": (X, V),
    "logmap": (X, Y),
    "expmap0": (V,),
    "logmap0": (Y,),
    "transp": (X, Y, V),
    "transp0": (Y, V),
    "transp0back": (X, V),
    "inner": (X, V, Y),
    "norm": (X, V),
    "egrad2rgrad": (X, V),
    "lambda_x": (X,),
    "pairwise_dist": (X, Y),
    "projx": (X,),
    "mobius_add": (X, Y),
    "mobius_sub": (X, Y),
    "mobius_matvec": (M, X),
    "gyration": (X, Y, V),
}


def value_and_gradients(operation, arguments):
    leaves = [a.clone().requires_grad_() for a in arguments]
    result = operation(*leaves)
    weight = torch.linspace(0.5, 1.5, result.numel(), dtype=torch.float64).reshape(result.shape)
    if not result.requires_grad:
        return [result]
    grads = torch.autograd.grad((result * weight).sum(), leaves, allow_unused=True, materialize_grads=True)
    return [result.detach(), *grads]


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients_tend_to_the_flat_ones_linearly_in_c(name):
    arguments = OPERATIONS[name]
    flat = value_and_gradients(getattr(FLAT, name), arguments)
    for c in (1e-3, 1e-6, 1e-12):
        curved = value_and_gradients(getattr(PoincareBall(c), name), arguments)
        for got, wanted in zip(curved, flat, strict=False):
            assert float((got - wanted).abs().max()) <= 40 * c + 1e-13


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in ("projx",)])
def test_derivative_in_c_is_continuous_down_to_zero(name):
    operation, arguments = getattr(poincare, name), OPERATIONS[name]

    def slope(value):
        c = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(operation(*arguments, c=c).sum(), c)[0]

    small, tiny, limit = slope(1e-4), slope(1e-7), slope(1e-14)
    assert bool(torch.isfinite(limit))
    assert abs(float(tiny - limit)) <= 1e-5 * (1 + abs(float(limit)))
    assert abs(float(small - limit)) <= 1e-2 * (1 + abs(float(limit)))


def test_other_functions_tend_to_the_flat_ones():
    c, z, r = 1e-10, rows(4, 3, seed=5), rows(4, seed=6)
    assert torch.allclose(polar.dist(X, Y, c), FLAT.dist(X, Y), rtol=1e-8)
    assert torch.allclose(gyromidpoint(X, c=c), X.mean(0), atol=1e-9)
    unit = z / z.norm(dim=-1, keepdim=True)
    assert torch.allclose(hyperplane_distance(X, z, r, c), 2 * (X @ unit.mT - r), atol=1e-8)
    assert torch.allclose(busemann(unit[:1], X, c), -2 * (X @ unit[0]), atol=1e-4)


@pytest.mark.parametrize("factor", [1e-3, 0.5, 20.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_scaling_space_by_s_is_scaling_c_by_one_over_s_squared(name, factor):
    operation = getattr(poincare, name)
    arguments = OPERATIONS[name]
    scaled = [a if a is M else a * factor for a in arguments]
    power = {"inner": 2, "sqdist": 2, "lambda_x": 0}.get(name, 1)
    got = operation(*scaled, c=0.3 / factor**2)
    assert torch.allclose(got, operation(*arguments, c=0.3) * factor**power, rtol=1e-12, atol=1e-15 * factor)


def test_projection_commutes_with_scaling_bit_for_bit():
    far = 10 * X
    assert torch.equal(poincare.projx(far * 4.0, c=1.0 / 16), poincare.projx(far) * 4.0)


def test_flat_space_has_no_hidden_projection():
    x = torch.tensor([1e20, -1e20])
    assert FLAT.projx(x) is x
    assert torch.equal(FLAT.expmap0(x), x)
