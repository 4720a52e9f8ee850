"""Derivatives that the law suite does not take: in the curvature, of functions that are no methods, at odd places."""

import pytest
import torch

from manifolds import (
    busemann,
    cone_angle,
    einstein_midpoint,
    from_half_space,
    from_klein,
    half_aperture,
    hyperplane_distance,
    lorentz,
    poincare,
    polar,
    to_half_space,
    to_klein,
)

F64 = {"dtype": torch.float64}


def rows(*shape, seed):
    return 0.4 * torch.randn(*shape, **F64, generator=torch.Generator().manual_seed(seed))


X, Y, U, V = (rows(2, 2, seed=s) for s in range(4))
M, T, R = rows(3, 2, seed=6), torch.tensor([[0.3], [0.8]], **F64), rows(3, seed=7)
PLACES = {
    "expmap of zero": (poincare.expmap, (X, torch.zeros_like(X))),
    "expmap0 of zero": (poincare.expmap0, (torch.zeros_like(X),)),
    "logmap0 of zero": (poincare.logmap0, (torch.zeros_like(X),)),
    "geodesic in its time": (poincare.geodesic, (T, X, Y)),
    "projx from outside": (poincare.projx, (10 * X,)),
    "mobius_add of opposites": (poincare.mobius_add, (X, -X)),
    "mobius_scalar_mul by zero": (poincare.mobius_scalar_mul, (torch.tensor(0.0, **F64), X)),
    "polar": (polar.dist, (X, Y)),
    "polar pairs": (polar.pairwise_dist, (X, Y)),
    "to_klein": (to_klein, (X,)),
    "from_klein": (from_klein, (X,)),
    "to_half_space": (to_half_space, (X,)),
    "from_half_space": (from_half_space, (X.abs() + 0.2,)),
    "einstein_midpoint": (einstein_midpoint, (X, torch.tensor([0.4, 1.3], **F64))),
    "from_ball": (lorentz.from_ball, (X,)),
    "to_ball": (lorentz.to_ball, (rows(2, 3, seed=8),)),
    "tangent_from_ball": (lorentz.tangent_from_ball, (X, U)),
    "tangent_to_ball": (lorentz.tangent_to_ball, (rows(2, 3, seed=8), rows(2, 3, seed=9))),
}
OPERATIONS = {
    "dist": (X, Y),
    "sqdist": (X, Y),
    "dist0": (X,),
    "expmap": (X, V),
    "logmap": (X, Y),
    "expmap0": (V,),
    "logmap0": (X,),
    "transp": (X, Y, V),
    "transp0": (X, V),
    "transp0back": (X, V),
    "inner": (X, U, V),
    "norm": (X, V),
    "egrad2rgrad": (X, V),
    "lambda_x": (X,),
    "mobius_add": (X, Y),
    "mobius_sub": (X, Y),
    "mobius_matvec": (M, X),
    "gyration": (X, Y, V),
    "pairwise_dist": (X, Y),
}
IN_CURVATURE = {
    **{name: (getattr(poincare, name), arguments) for name, arguments in OPERATIONS.items()},
    "half_aperture": (half_aperture, (X,)),
    "cone_angle": (cone_angle, (X, Y)),
    "busemann": (busemann, (X, Y)),
    "hyperplane_distance": (hyperplane_distance, (X, M, R)),
}


@pytest.mark.parametrize("name", PLACES)
def test_first_and_second_derivatives_in_every_argument_and_the_curvature(name):
    operation, arguments = PLACES[name]
    leaves = [a.detach().clone().requires_grad_() for a in (*arguments, torch.tensor(0.6, **F64))]
    assert torch.autograd.gradcheck(operation, leaves, atol=1e-6)
    assert torch.autograd.gradgradcheck(operation, leaves, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("name", IN_CURVATURE)
def test_first_and_second_derivatives_in_the_curvature(name):
    operation, arguments = IN_CURVATURE[name]
    c = torch.tensor(0.6, **F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: operation(*arguments, c=k), c, atol=1e-6)
    assert torch.autograd.gradgradcheck(lambda k: operation(*arguments, c=k), c, atol=1e-5, fast_mode=True)
