"""Forward-mode derivatives: Jacobian-vector products and Hessians agree with the reverse mode, for every function."""

import pytest
import torch

from manifolds import (
    busemann,
    cone_angle,
    frechet_mean,
    gyromidpoint,
    half_aperture,
    hyperplane_distance,
    lorentz,
    poincare,
    polar,
    to_half_space,
)


def rows(*shape, seed):
    return 0.4 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X, Y, V = (rows(2, 2, seed=s) for s in range(3))
C = torch.tensor(0.6, dtype=torch.float64)
FUNCTIONS = {
    "dist": (poincare.dist, (X, Y)),
    "sqdist": (poincare.sqdist, (X, Y)),
    "sqdist at equal points": (poincare.sqdist, (X, X.clone())),
    "expmap": (poincare.expmap, (X, V)),
    "logmap": (poincare.logmap, (X, Y)),
    "expmap0": (poincare.expmap0, (V,)),
    "logmap0": (poincare.logmap0, (X,)),
    "transp": (poincare.transp, (X, Y, V)),
    "mobius_add": (poincare.mobius_add, (X, Y)),
    "mobius_scalar_mul": (lambda x, c: poincare.mobius_scalar_mul(0.3, x, c), (X,)),
    "gyration": (poincare.gyration, (X, Y, V)),
    "inner": (lambda x, u, c: poincare.inner(x, u, u, c), (X, V)),
    "pairwise": (poincare.pairwise_dist, (X, Y)),
    "pairwise within a set": (lambda x, c: poincare.pairwise_dist(x, c=c), (X,)),
    "polar": (polar.dist, (X, Y)),
    "polar pairs": (polar.pairwise_dist, (X, Y)),
    "gyromidpoint": (lambda x, c: gyromidpoint(x, c=c), (X,)),
    "frechet_mean": (lambda x, c: frechet_mean(x, c=c), (X,)),
    "half_aperture": (half_aperture, (X,)),
    "cone_angle": (cone_angle, (X, Y)),
    "busemann": (busemann, (X, Y)),
    "hyperplane_distance": (lambda x, z, c: hyperplane_distance(x, z, z[:, 0], c), (X, V)),
    "from_ball": (lorentz.from_ball, (X,)),
    "to_half_space": (to_half_space, (X,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pushing_forward_is_the_transpose_of_pulling_back(name):
    function, arguments = FUNCTIONS[name]
    leaves = [a.clone().requires_grad_() for a in (*arguments, C)]
    assert torch.autograd.gradcheck(function, leaves, check_forward_ad=True, check_backward_ad=False, atol=1e-6)

    def total(x):
        return function(x, *arguments[1:], C).sum()

    mixed = torch.func.hessian(total)(arguments[0])
    reverse = torch.func.jacrev(torch.func.jacrev(total))(arguments[0])
    assert torch.allclose(mixed, reverse, atol=1e-12)


def test_tangents_in_a_batch_of_float32_points():
    x, y, d = X.float(), Y.float(), V.float()
    _, wide = torch.func.jvp(lambda p: poincare.pairwise_dist(p, Y), (X,), (V,))
    value, tangent = torch.func.jvp(lambda p: poincare.pairwise_dist(p, y), (x,), (d,))
    assert value.dtype == tangent.dtype == torch.float32
    assert torch.allclose(tangent.double(), wide, rtol=1e-5)
    slopes = torch.func.vmap(torch.func.jacfwd(poincare.dist))(x, y)
    assert torch.allclose(slopes, torch.func.vmap(torch.func.jacrev(poincare.dist))(x, y), rtol=1e-6)
