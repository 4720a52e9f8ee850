"""Distance matrices: agreement with single distances, exactness, memory, derivatives of both orders."""

import pytest
import torch

from manifolds import Euclidean, PoincareBall, pairwise, poincare, polar
from tests.largest import Largest


def cloud(n, dim=6, seed=0, dtype=torch.float64, radius=0.6):
    x = torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (x / (1 + x.norm(dim=-1, keepdim=True)) * radius).to(dtype)


MATRICES = {
    "ball": (lambda x, y: poincare.pairwise_dist(x, y, 0.7), lambda x, y: poincare.dist(x, y, 0.7)),
    "flat": (Euclidean().pairwise_dist, Euclidean().dist),
    "polar": (lambda x, y: polar.pairwise_dist(x, y, 0.7), lambda x, y: polar.dist(x, y, 0.7)),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("batches", [((), ()), ((3,), ()), ((2, 1), (4,))])
def test_entries_and_gradients_are_those_of_single_distances(name, batches):
    matrix, single = MATRICES[name]
    x = cloud(5 * max(1, torch.Size(batches[0]).numel())).reshape(*batches[0], 5, 6).requires_grad_()
    y = cloud(4 * max(1, torch.Size(batches[1]).numel()), seed=1).reshape(*batches[1], 4, 6).requires_grad_()
    got, wanted = matrix(x, y), single(x[..., :, None, :], y[..., None, :, :])
    assert torch.allclose(got, wanted, rtol=1e-13)
    weight = torch.linspace(-1, 1, got.numel(), dtype=torch.float64).reshape(got.shape)
    for a, b in zip(*(torch.autograd.grad((m * weight).sum(), (x, y)) for m in (got, wanted)), strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", MATRICES)
def test_derivatives_of_both_orders(name):
    matrix, _ = MATRICES[name]
    x, y = cloud(3, 2).requires_grad_(), cloud(4, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(matrix, (x, y))
    assert torch.autograd.gradgradcheck(matrix, (x, y))


@pytest.mark.parametrize("name", ["polar", "ball"])
def test_second_derivatives_of_collinear_pairs(name):
    matrix, single = MATRICES[name]
    x = cloud(3, 2)
    y = x * torch.tensor([[0.5], [1.7], [-0.8]], dtype=torch.float64)

    def along(function):
        return torch.func.hessian(lambda p: function(p, y))(x)

    got = along(lambda p, q: matrix(p, q).diagonal().sum())
    assert torch.allclose(got, along(lambda p, q: single(p, q).sum()), atol=1e-10)


def test_derivatives_in_the_curvature():
    x, y = cloud(3, 2), cloud(4, 2, seed=1)
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    for matrix in (poincare.pairwise_dist, polar.pairwise_dist):
        assert torch.autograd.gradcheck(lambda k, matrix=matrix: matrix(x, y, k), (c,))
        assert torch.autograd.gradgradcheck(lambda k, matrix=matrix: matrix(x, y, k), (c,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_set_with_itself_is_symmetric_with_zero_diagonal(dtype):
    x = cloud(40, dtype=dtype)
    x = torch.cat([x, x[:7]])
    for matrix in (poincare.pairwise_dist(x), poincare.pairwise_dist(x, x), polar.pairwise_dist(x)):
        assert torch.equal(matrix, matrix.mT)
        assert bool((matrix.diagonal() == 0).all())
        assert bool((matrix[:7, 40:].diagonal() == 0).all())


def test_gradient_through_a_zero_diagonal_is_finite():
    x = cloud(6, dtype=torch.float32).requires_grad_()
    (grad,) = torch.autograd.grad(poincare.pairwise_dist(x).sum(), x)
    (twice,) = torch.autograd.grad(sum(poincare.dist(x[i], x).sum() for i in range(6)), x)
    assert torch.allclose(grad, twice, rtol=1e-5)


def test_blocks_of_rows_give_the_same_matrix(monkeypatch):
    x, y = cloud(33, dtype=torch.float32).requires_grad_(), cloud(17, seed=1, dtype=torch.float32).requires_grad_()
    whole = poincare.pairwise_dist(x, y)
    grads = torch.autograd.grad(whole.sum(), (x, y))
    monkeypatch.setattr(pairwise, "SMALLEST_BLOCK", 5)
    monkeypatch.setattr(pairwise, "CPU_BUDGET_BYTES", 1)
    parts = poincare.pairwise_dist(x, y)
    assert torch.allclose(parts, whole, rtol=1e-6)
    for a, b in zip(torch.autograd.grad(parts.sum(), (x, y)), grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_many_near_pairs_take_the_exact_pass():
    x = (cloud(1) + 1e-7 * cloud(50, seed=2)).float()
    got, exact = poincare.pairwise_dist(x, x.clone()), poincare.dist(x.double()[:, None], x.double())
    assert torch.allclose(got.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shapes", [((0, 3), (4, 3)), ((4, 3), (0, 3)), ((2, 0, 3), (2, 5, 3))])
def test_empty_sets(shapes):
    x, y = (torch.zeros(s, requires_grad=True) for s in shapes)
    matrix = poincare.pairwise_dist(x, y)
    assert matrix.shape == (*shapes[0][:-1], shapes[1][-2])
    matrix.sum().backward()


def test_vmap_and_jacrev():
    x, y = cloud(6).reshape(2, 3, 6), cloud(4, seed=1)
    assert torch.allclose(
        torch.func.vmap(poincare.pairwise_dist, in_dims=(0, None))(x, y), poincare.pairwise_dist(x, y)
    )
    c = torch.tensor([0.3, 0.9], dtype=torch.float64)
    got = torch.func.vmap(lambda k: poincare.pairwise_dist(x[0], y, k))(c)
    assert torch.allclose(got[1], poincare.pairwise_dist(x[0], y, 0.9))
    assert torch.func.jacrev(lambda p: poincare.pairwise_dist(p, y))(x[0]).shape == (3, 4, 3, 6)


def test_no_tensor_of_three_axes_is_made():
    """Peak of live tensor memory, watched through the dispatcher, stays near that of the matrix."""
    x, y = cloud(64, 128, dtype=torch.float32).requires_grad_(), cloud(96, 128, seed=1, dtype=torch.float32)
    with Largest() as largest:
        poincare.pairwise_dist(x, y).sum().backward()
    assert largest.size <= 8 * 96 * 128


def test_the_method_and_the_function_agree():
    x, y = cloud(3), cloud(4, seed=1)
    assert torch.equal(PoincareBall(0.7).pairwise_dist(x, y), poincare.pairwise_dist(x, y, 0.7))
