"""Bad input is refused in one sentence that says what to do."""

import pytest
import torch

from manifolds import Euclidean, Lorentz, PoincareBall, poincare, polar

X, Y = torch.zeros(4, 3), torch.zeros(4, 2)
BINARY = ["dist", "sqdist", "logmap", "expmap", "mobius_add", "transp0", "norm"]


@pytest.mark.parametrize("c", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "make", [PoincareBall, Lorentz, lambda c: poincare.dist(X, X, c), lambda c: polar.dist(X, X, c)]
)
def test_curvature_must_be_positive(make, c):
    with pytest.raises(ValueError, match=r"c > 0, got c=.*; for flat space use manifolds.Euclidean"):
        make(c)


def test_tensor_curvatures_are_checked():
    with pytest.raises(ValueError, match="c > 0"):
        poincare.dist(X, X, torch.tensor(-1.0))
    with pytest.raises(ValueError, match="c > 0"):
        PoincareBall(torch.tensor([[1.0], [0.0]]))
    with pytest.raises(ValueError, match=r"use c\[..., None\]"):
        poincare.dist(X, X, torch.ones(4))
    with pytest.raises(ValueError, match="last axis of one"):
        PoincareBall(torch.ones(4))
    with pytest.raises(TypeError, match="double"):
        poincare.dist(X, X, torch.tensor(1))
    with pytest.raises(TypeError, match="got str"):
        poincare.dist(X, X, "1")
    with pytest.raises(TypeError, match="got bool"):
        PoincareBall(True)
    with pytest.raises(ValueError, match="learnable=True"):
        PoincareBall(torch.tensor(1.0, requires_grad=True))
    with pytest.raises(ValueError, match="two axes of one"):
        poincare.pairwise_dist(X, X, torch.ones(4, 1))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("manifold", [PoincareBall(), Euclidean()], ids=["ball", "flat"])
def test_last_axes_must_agree(name, manifold):
    with pytest.raises(
        ValueError, match=rf"{name} needs equal last axes, got shapes \(4, .\), \(4, .\); the last axis is the vector"
    ):
        getattr(manifold, name)(X, Y)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("manifold", [PoincareBall(), Euclidean(), Lorentz()], ids=["ball", "flat", "lorentz"])
def test_integers_are_refused(name, manifold):
    if not hasattr(manifold, name):
        pytest.skip("this manifold has no such operation")
    with pytest.raises(TypeError, match=r"floating point tensors, got torch.int64; convert with .float\(\)"):
        getattr(manifold, name)(X.long(), X.long())


def test_other_types_are_named():
    with pytest.raises(TypeError, match="dist needs floating point tensors, got list"):
        poincare.dist([0.0], X)
    with pytest.raises(ValueError, match="equal last axes"):
        poincare.dist(torch.tensor(0.5), torch.tensor(0.5))
    with pytest.raises(ValueError, match="needs matrices of points"):
        poincare.pairwise_dist(torch.zeros(3), X)
    with pytest.raises(ValueError, match="finite t"):
        poincare.geodesic(float("nan"), X, X)


def test_check_looks_at_every_point():
    outside = torch.tensor([1.0, 0.2, 0.0])
    strict = PoincareBall(check=True)
    for name in ("dist", "logmap", "mobius_add", "pairwise_dist"):
        shaped = outside[None] if name == "pairwise_dist" else outside
        with pytest.raises(ValueError, match=r"√c\|x\| < 1, got 1.0198039; apply projx first"):
            getattr(strict, name)(torch.zeros_like(shaped), shaped)
    for name in ("dist0", "logmap0", "lambda_x"):
        with pytest.raises(ValueError, match="apply projx first"):
            getattr(strict, name)(outside)
    assert bool(torch.isfinite(strict.dist0(strict.projx(outside))))
    with pytest.raises(ValueError, match="not finite"):
        strict.dist0(torch.tensor([float("nan"), 0.0]))
    with pytest.raises(ValueError, match="not finite"):
        Euclidean(check=True).dist0(torch.tensor([float("inf")]))


def test_euclidean_takes_no_curvature():
    with pytest.raises(TypeError):
        Euclidean(c=1.0)
