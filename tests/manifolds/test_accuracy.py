"""Every figure of accuracy that the package claims, against 80 digits."""

import mpmath as mp
import pytest
import torch

from manifolds import oracle, poincare, polar

NORMS = (1e-6, 0.1, 0.9, 0.996, 0.999, 1 - 1e-5, 1 - 1e-7)
COUNT, DIM = 6, 32


def directions(seed, count=COUNT, dim=DIM):
    x = torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=-1, keepdim=True)


def shell(norm, c, seed):
    return (directions(seed) * (norm / c**0.5)).float()


def worst(got, *arguments, formula):
    vectors = [[oracle.vector(row) for row in a] for a in arguments]
    return max(oracle.relative(g, formula(*row)) for g, row in zip(got, zip(*vectors, strict=True), strict=True))


@pytest.mark.parametrize("c", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("norm", NORMS)
def test_float32_scalars_and_tangents_at_any_norm(norm, c):
    x, y = shell(norm, c, 0), shell(norm, c, 1)
    v = (directions(2) * 0.3 * (1 - norm**2) / c**0.5).float()
    exact = mp.mpf(c)
    assert worst(poincare.dist(x, y, c), x, y, formula=lambda a, b: oracle.dist(a, b, exact)) < 2e-7
    assert worst(poincare.logmap(x, y, c), x, y, formula=lambda a, b: oracle.logmap(a, b, exact)) < 5e-7
    assert worst(poincare.transp(x, y, v, c), x, y, v, formula=lambda a, b, t: oracle.transp(a, b, t, exact)) < 5e-7
    assert worst(poincare.gyration(x, y, v, c), x, y, v, formula=lambda a, b, t: oracle.gyration(a, b, t, exact)) < 5e-7
    zero = [mp.mpf(0)] * DIM
    assert worst(poincare.logmap0(x, c), x, formula=lambda a: oracle.logmap(zero, a, exact)) < 2e-7
    assert worst(poincare.dist0(x, c), x, formula=lambda a: oracle.dist(zero, a, exact)) < 2e-7


@pytest.mark.parametrize("h", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("norm", [0.1, 0.9, 0.996, 0.999])
def test_float32_distance_of_near_pairs(norm, h):
    x = shell(norm, 1.0, 3)
    v = directions(4) * h * (1 - x.double().square().sum(-1, keepdim=True)) / 2
    y = poincare.expmap(x.double(), v).float()
    one = mp.mpf(1)
    assert worst(poincare.dist(x, y), x, y, formula=lambda a, b: oracle.dist(a, b, one)) < 2e-7
    assert worst(poincare.logmap(x, y), x, y, formula=lambda a, b: oracle.logmap(a, b, one)) < 5e-7


@pytest.mark.parametrize("norm", [1e-6, 0.9, 0.996, 1 - 1e-5])
def test_float32_gradient_of_the_distance(norm):
    x, y = shell(norm, 1.0, 5)[:2].requires_grad_(), shell(norm, 1.0, 6)[:2]
    (grad,) = torch.autograd.grad(poincare.dist(x, y).sum(), x)

    def truth(a, b):
        return oracle.gradient(lambda p, q: oracle.dist(p, q, mp.mpf(1)), (a, b), 0)

    assert worst(grad, x, y, formula=truth) < 3e-7


@pytest.mark.parametrize("c", [1e-6, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("radius", [1e-3, 0.5, 0.9])
def test_gradient_in_the_curvature(c, radius):
    x, y = ((directions(s, 1)[0] * radius / max(1.0, c**0.5)).float() for s in (7, 8))
    curvature = torch.tensor(c, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(poincare.dist(x, y, curvature), curvature)
    a, b = oracle.vector(x), oracle.vector(y)
    with mp.workdps(60):
        wanted = mp.diff(lambda k: oracle.dist(a, b, k), mp.mpf(c), h=mp.mpf(10) ** -30)
    assert oracle.relative(grad.reshape(1), wanted) < 1e-6
    (grad,) = torch.autograd.grad(poincare.pairwise_dist(x[None], y[None], curvature).sum(), curvature)
    assert oracle.relative(grad.reshape(1), wanted) < 1e-5


@pytest.mark.parametrize("norm", [0.5, 0.9, 0.996])
def test_points_are_as_good_as_their_storage(norm):
    """Hyperbolic error of point-valued results against that of the exact point rounded to float32."""
    x, y, one = shell(norm, 1.0, 9), shell(0.9 * norm, 1.0, 10), mp.mpf(1)
    v = (directions(11) * 0.4 * (1 - norm**2)).float()
    for got, formula, argument in (
        (poincare.mobius_add(x, y), oracle.mobius_add, y),
        (poincare.expmap(x, v), oracle.expmap, v),
    ):
        for g, a, b in zip(got, x, argument, strict=True):
            exact = formula(oracle.vector(a), oracle.vector(b), one)
            reach = float(oracle.conformal(exact, one))
            assert float(oracle.dist(oracle.vector(g), exact, one)) < 3e-7 * reach


@pytest.mark.parametrize("radius", [1e-3, 6.0, 24.0, 60.0])
def test_polar_distance_and_gradient_at_any_radius(radius):
    u, v = ((directions(s, 3, 8) * radius / 2).float() for s in (12, 13))
    u.requires_grad_()
    distance = polar.dist(u, v)
    (grad,) = torch.autograd.grad(distance.sum(), u)

    def truth(a, b):
        with mp.workdps(200):
            s, t = oracle.length(a), oracle.length(b)
            cosine = oracle.dot(a, b) / (s * t)
            return mp.acosh(mp.cosh(2 * s) * mp.cosh(2 * t) - mp.sinh(2 * s) * mp.sinh(2 * t) * cosine)

    def slope(a, b):
        with mp.workdps(200):
            return oracle.gradient(truth, (a, b), 0)

    assert worst(distance, u, v, formula=truth) < 3e-7
    assert worst(grad, u, v, formula=slope) < 3e-7


def test_pairwise_matrix_with_near_pairs_and_clusters():
    base = directions(14, 24, 48)
    spread = torch.randn(24, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(15))
    x = torch.cat([base * 0.9, base * 0.996, base[:1] * 0.9 + 1e-4 * spread / 7]).float()
    y = torch.cat([x[:40] + 1e-4 * torch.cat([spread, spread])[:40].float() / 7, x[40:]])
    got, exact = poincare.pairwise_dist(x, y), poincare.dist(x.double()[:, None], y.double())
    assert float(((got.double() - exact).abs() / exact.clamp(min=1e-300)).max()) < 2e-6


@pytest.mark.parametrize("c", [1e-6, 0.3, 1.0])
@pytest.mark.parametrize(("gap", "bound"), [(1e-1, 2e-15), (1e-5, 2e-15), (1e-9, 2e-14), (2.5e-12, 1e-11)])
def test_float64_keeps_its_digits_up_to_the_boundary(gap, bound, c):
    """Plain float64 has an error of about ``1e-16/gap`` in ``1 - c|x|²``."""
    scale, exact = (1 - gap) / c**0.5, mp.mpf(c)
    x, y, v = directions(16) * scale, directions(17) * scale, directions(18) * gap * scale
    near = poincare.expmap(x, 0.1 * v, c)

    def dist(a, b):
        return oracle.dist(a, b, exact)

    assert worst(poincare.dist(x, y, c), x, y, formula=dist) < bound
    assert worst(poincare.dist(x, near, c), x, near, formula=dist) < bound
    assert worst(poincare.pairwise_dist(x, y, c).diagonal(), x, y, formula=dist) < bound
    assert worst(poincare.logmap(x, y, c), x, y, formula=lambda a, b: oracle.logmap(a, b, exact)) < bound
    assert worst(poincare.transp(x, y, v, c), x, y, v, formula=lambda a, b, t: oracle.transp(a, b, t, exact)) < bound
