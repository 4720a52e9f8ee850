"""Weighted sums of differences: against single differences, in every regime of nearness, with their derivatives."""

import pytest
import torch

from manifolds import PoincareBall, differences, poincare
from manifolds.differences import NEAR_BELOW, weighted_differences


def points(kind, n=40, dim=24):
    """Two sets on a sphere: apart, in one cluster, or apart but for three near pairs."""
    draw = torch.Generator().manual_seed(3)
    x, y = (torch.nn.functional.normalize(torch.randn(n, dim, generator=draw), dim=-1) for _ in range(2))
    if kind == "cluster":
        x, y = x[:1] + 1e-4 * x, x[:1] + 1e-4 * y
    if kind == "near pairs":
        y[:3] = x[3:6] + 1e-6 * y[:3]
    return 0.999 * x, 0.999 * y


def near(x, y):
    gap = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    return gap < NEAR_BELOW * (x.double().square().sum(-1)[:, None] + y.double().square().sum(-1))


def weights(n=40, m=40):
    return torch.randn(n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).exp()


@pytest.mark.parametrize("kind", ["apart", "cluster", "near pairs"])
def test_sums_are_those_of_single_differences_to_a_few_roundings(kind):
    x, y = points(kind)
    w = weights()
    single = w[..., None] * (x.double()[:, None] - y.double())
    lengths = single.norm(dim=-1)
    to_x, to_y = weighted_differences(w, x, y, near(x, y))
    roundings = 8 * torch.finfo(torch.float32).eps
    assert ((to_x - single.sum(1)).norm(dim=-1) < roundings * lengths.sum(1)).all()
    assert ((to_y + single.sum(0)).norm(dim=-1) < roundings * lengths.sum(0)).all()


@pytest.mark.parametrize("kind", ["apart", "cluster", "near pairs"])
def test_gradients_of_float32_distances_are_those_in_float64(kind):
    x, y = points(kind)
    w = weights()
    found = torch.autograd.functional.vjp(poincare.pairwise_dist, (x, y), w.float())[1]
    wanted = torch.autograd.functional.vjp(poincare.pairwise_dist, (x.double(), y.double()), w)[1]
    for got, truth in zip(found, wanted, strict=True):
        assert ((got - truth).norm(dim=-1) / truth.norm(dim=-1)).max() < 1e-5


def test_few_near_pairs_and_many_take_the_two_ways(monkeypatch):
    taken = []
    wide = differences._wide_products
    monkeypatch.setattr(differences, "_wide_products", lambda *a: taken.append("wide") or wide(*a))
    for kind, way in (("apart", []), ("near pairs", []), ("cluster", ["wide"])):
        x, y = points(kind)
        taken.clear()
        weighted_differences(weights(), x, y, near(x, y))
        assert taken == way, kind


def test_derivatives_of_the_sums():
    x, y = points("near pairs", n=12)
    w, mask = weights(12, 12), near(x, y)

    def scalar(function):
        def of(w, x, y):
            to_x, to_y = function(w, x, y)
            return to_x.square().sum() + (to_y * to_y.flip(0)).sum()

        return of

    def plain(w, x, y):
        gap = w[..., None] * (x[:, None] - y)
        return gap.sum(1), -gap.sum(0)

    mixed = scalar(lambda w, x, y: weighted_differences(w, x, y, mask))
    found = torch.func.grad(mixed, argnums=(0, 1, 2))(w, x, y)
    wanted = torch.func.grad(scalar(plain), argnums=(0, 1, 2))(w, x.double(), y.double())
    for got, truth in zip(found, wanted, strict=True):
        assert (got - truth).norm() < 1e-5 * truth.norm()
    tangents = (w.sin(), x.sin(), y.cos())
    _, pushed = torch.func.jvp(mixed, (w, x, y), tangents)
    inner = sum((g * t).sum() for g, t in zip(wanted, tangents, strict=True))
    assert torch.isclose(pushed.double(), inner, rtol=1e-5)


def test_float32_second_derivatives_of_a_distance_matrix():
    x, y = (t[:6, :3].contiguous() for t in points("apart"))
    hessian = torch.autograd.functional.hessian(lambda p: PoincareBall().pairwise_dist(p, y).sum(), x)
    truth = torch.autograd.functional.hessian(lambda p: poincare.pairwise_dist(p, y.double()).sum(), x.double())
    assert (hessian - truth).norm() < 1e-4 * truth.norm()


@pytest.mark.parametrize("n", [8, 40])
def test_sums_map_over_batches(n):
    x, y = points("near pairs", n=n)
    w = torch.stack([weights(n, n), weights(n, n).flip(0)])
    mask = near(x, y)
    mapped = torch.vmap(lambda v: weighted_differences(v, x, y, mask))(w)
    for i in range(2):
        for got, wanted in zip(mapped, weighted_differences(w[i], x, y, mask), strict=True):
            assert torch.allclose(got[i], wanted, rtol=1e-5, atol=1e-6)


def test_sums_broadcast_over_leading_axes():
    x, y = points("near pairs", n=8)
    many = torch.stack([x, x.flip(0), 0.5 * x])
    w = weights(8, 8).expand(3, 8, 8)
    mask = torch.stack([near(each, y) for each in many])
    to_x, to_y = weighted_differences(w, many, y, mask)
    for i in range(3):
        alone = weighted_differences(w[i], many[i], y, mask[i])
        assert torch.allclose(to_x[i], alone[0], rtol=1e-5, atol=1e-6)
        assert torch.allclose(to_y[i], alone[1], rtol=1e-5, atol=1e-6)


def test_a_matrix_is_summed_alike_in_every_batch():
    sets = [points(kind, n=24, dim=64) for kind in ("apart", "cluster", "near pairs")]
    w = torch.stack([weights(24, 24)] * 3)
    x, y = (torch.stack(part) for part in zip(*sets, strict=True))
    mask = torch.stack([near(*each) for each in sets])
    batches = weighted_differences(w, x, y, mask), torch.vmap(weighted_differences)(w, x, y, mask)
    for i in range(3):
        alone = weighted_differences(w[i], x[i], y[i], mask[i])
        for sums in batches:
            assert all(torch.equal(batched[i], one) for batched, one in zip(sums, alone, strict=True))
