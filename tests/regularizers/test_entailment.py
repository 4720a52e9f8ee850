import math

import pytest
import torch

from manifolds import Euclidean, Lorentz, PoincareBall
from manifolds.regularizers import entailment_loss, pairwise_cone_angle
from tests.regularizers.cases import generator, placed, some_relation, thirty_steps

MANIFOLDS = [PoincareBall(0.5), PoincareBall(1.5, learnable=True), Lorentz(0.5), Euclidean()]
every_manifold = pytest.mark.parametrize("manifold", MANIFOLDS, ids=["ball", "learnable ball", "lorentz", "flat"])


def clouds(manifold, spread, apexes=12, points=9, dim=4, dtype=torch.float64):
    source = generator(1)
    return placed(manifold, [spread * torch.randn(n, dim, dtype=dtype, generator=source) for n in (apexes, points)])


@every_manifold
@pytest.mark.parametrize("spread", [1e-3, 0.5, 2.0])
def test_the_angle_matrix_is_that_of_differences(manifold, spread):
    x, y = clouds(manifold, spread)
    wanted = manifold.cone_angle(x[:, None], y)
    torch.testing.assert_close(pairwise_cone_angle(manifold, x, y), wanted, rtol=1e-13, atol=1e-14)


@every_manifold
@pytest.mark.parametrize("spread", [1e-3, 0.5, 1.5])
def test_the_angle_matrix_keeps_its_digits_for_near_and_collinear_pairs(manifold, spread):
    u = spread * torch.randn(8, 4, dtype=torch.float64, generator=generator(2))
    noise = 1e-6 * spread * torch.randn(8, 4, dtype=torch.float64, generator=generator(3))
    for v, allowed in ((u + noise, 2e-9), (1.001 * u, 1e-9), (3.0 * u, 1e-11), (0.3 * u, 1e-11), (-u, 5e-8)):
        x, y = placed(manifold, [u, v])
        got, wanted = pairwise_cone_angle(manifold, x, y), manifold.cone_angle(x[:, None], y)
        assert float((got - wanted).abs().max().detach()) < allowed
    x, y = placed(manifold, [u, u.clone()])
    assert bool((pairwise_cone_angle(manifold, x, y).diagonal() == 0).all())


@every_manifold
def test_an_apex_at_the_origin_or_at_the_point_has_angle_and_gradient_zero(manifold):
    features = torch.tensor([[0.0, 0.0], [0.4, 0.3]], dtype=torch.float64)
    leaves = [features.clone().requires_grad_() for _ in range(2)]
    x, y = placed(manifold, leaves)
    angles = pairwise_cone_angle(manifold, x, y)
    torch.testing.assert_close(angles, torch.tensor([[0.0, 0.0], [torch.pi, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(angles, manifold.cone_angle(x[:, None], y))
    assert all(bool((g == 0).all()) for g in torch.autograd.grad(angles.sum(), leaves))


@every_manifold
def test_single_precision_angles_are_rounded_once(manifold):
    x, y = clouds(manifold, 0.8, dtype=torch.float32)
    got = pairwise_cone_angle(manifold, x, y)
    wanted = pairwise_cone_angle(manifold, x.double(), y.double())
    assert got.dtype == torch.float32
    assert torch.equal(got, wanted.float())


@every_manifold
def test_gradients_of_the_angle_matrix_are_those_of_differences(manifold):
    leaves = [0.6 * torch.randn(n, 3, dtype=torch.float64, generator=generator(n)) for n in (5, 4)]
    leaves = [u.requires_grad_() for u in leaves]
    unknowns = [*leaves, *(p for p in manifold.parameters() if p.requires_grad)]
    weight = torch.randn(5, 4, dtype=torch.float64, generator=generator(6))
    x, y = placed(manifold, leaves)
    pair = (pairwise_cone_angle(manifold, x, y), manifold.cone_angle(x[:, None], y))
    got, wanted = (torch.autograd.grad((a * weight).sum(), unknowns, retain_graph=True) for a in pair)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


def test_angles_and_apertures_of_a_plane_are_those_computed_by_hand():
    """In the plane, the cone at distance 1 with K = sin 30° is 30° wide on either side of the ray."""
    parents = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    children = torch.tensor([[2.0, 0.0], [1.0, 3.0], [2.0, 1.0]], dtype=torch.float64)
    degrees = pairwise_cone_angle(Euclidean(), parents, children).rad2deg()
    wanted = [[0, 90, 45], [180 - math.degrees(math.atan(2)), math.degrees(math.atan(0.5)), 90]]
    torch.testing.assert_close(degrees, torch.tensor(wanted, dtype=torch.float64))
    relation = torch.tensor([[True, False, True], [False, True, False]])
    term = entailment_loss(Euclidean(), parents, children, relation, k=0.5, margin=math.radians(65))
    assert float(term.loss) == pytest.approx(math.radians(15) / 3 + math.radians(5 + 5) / 3)
    assert (int(term.pairs), float(term.inside)) == (3, pytest.approx(2 / 3))
    assert float(term.active_negatives) == pytest.approx(2 / 3)
    term = entailment_loss(Euclidean(), parents, children, relation, k=0.5)
    assert float(term.loss) == pytest.approx(math.radians(15) / 3)
    assert float(term.active_negatives) == 0.0


@every_manifold
def test_aligned_pairs_are_the_diagonal_of_a_relation(manifold):
    parents, children = clouds(manifold, 0.6, 6, 6)
    aligned = entailment_loss(manifold, parents, children, k=0.2)
    related = entailment_loss(manifold, parents, children, torch.eye(6, dtype=torch.bool), k=0.2)
    assert aligned.loss > 0
    torch.testing.assert_close(vars(related), vars(aligned))
    torch.testing.assert_close(aligned.loss, manifold.cone_violation(parents, children, k=0.2).mean())


@every_manifold
def test_the_order_of_points_changes_nothing(manifold):
    parents, children = clouds(manifold, 0.6, 6, 5)
    rows, columns = torch.randperm(6, generator=generator(1)), torch.randperm(5, generator=generator(2))
    relation = some_relation(parents, children)
    plain = entailment_loss(manifold, parents, children, relation, margin=0.2)
    mixed = entailment_loss(manifold, parents[rows], children[columns], relation[rows][:, columns], margin=0.2)
    torch.testing.assert_close(vars(mixed), vars(plain))


@pytest.mark.parametrize("kind", [PoincareBall, Lorentz])
def test_small_curvature_with_cones_of_one_width_in_length_is_flat(kind):
    """``K = k √c`` keeps the width in units of length."""
    c, k = 1e-10, 0.2
    found = []
    for manifold, own in ((kind(c), k * c**0.5), (Euclidean(), k)):
        leaves = [u.requires_grad_() for u in clouds(Euclidean(), 0.6, 6, 5)]
        points = placed(manifold, leaves)
        loss = entailment_loss(manifold, *points, some_relation(*points), k=own, margin=0.3).loss
        found.append((loss.detach(), *torch.autograd.grad(loss, leaves)))
    assert found[1][0] > 0
    torch.testing.assert_close(*found, atol=1e-8, rtol=1e-8)


def test_a_child_deep_inside_the_cone_of_another_is_pushed_out():
    """The energy of the paper, zero inside the cone, would leave it there."""
    ball = PoincareBall(1.0)
    child = torch.tensor([[0.8, 0.001]], requires_grad=True)
    term = entailment_loss(ball, torch.tensor([[0.3, 0.0]]), child, torch.zeros(1, 1) > 0, margin=0.1)
    (gradient,) = torch.autograd.grad(term.loss, child)
    assert float(term.active_negatives) == 1.0
    assert float(gradient[0, 1]) < -0.1


@every_manifold
def test_steps_put_a_tree_into_its_cones(manifold):
    """Two children of a root at the origin with two leaves each; the leaves start between the branches."""
    relation = torch.tensor([[True, True, False, False], [False, False, True, True]])
    parents = torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]])
    leaves = 0.3 * torch.randn(4, 3, generator=generator(5)) + torch.tensor([0.0, 0.8, 0.0])

    def term(inner, outer):
        points = placed(manifold, [inner, outer])
        return entailment_loss(manifold, *points, relation, k=0.3, margin=0.2)

    before = term(parents, leaves)
    losses = thirty_steps(lambda inner, outer: term(inner, outer).loss, [parents, leaves])
    assert float(before.inside) < 0.5
    assert losses[0] > 0.3
    assert losses[-1] == 0.0


def test_bad_input_is_refused():
    ball, points = PoincareBall(), torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"margin=0.1 needs a relation"):
        entailment_loss(ball, points, points, margin=0.1)
    with pytest.raises(ValueError, match="as many parents as children, got 3 and 2"):
        entailment_loss(ball, points, points[:2])
    with pytest.raises(TypeError, match=r"boolean, got torch\.int64"):
        entailment_loss(ball, points, points, torch.ones(3, 3).long())
    with pytest.raises(ValueError, match="k > 0, got k=0"):
        entailment_loss(ball, points, points, k=0.0)
    with pytest.raises(ValueError, match="pairwise_cone_angle needs equal last axes"):
        pairwise_cone_angle(ball, points, torch.zeros(3, 4))
