import math

import pytest
import torch

from manifolds import Euclidean, Lorentz, PoincareBall
from manifolds.regularizers import radius_order, radius_targets
from tests.regularizers.cases import generator, placed, some_relation, thirty_steps

MANIFOLDS = [PoincareBall(0.5), Lorentz(0.5), Euclidean()]
every_manifold = pytest.mark.parametrize("manifold", MANIFOLDS, ids=["ball", "lorentz", "flat"])


def at_radii(manifold, *radii):
    """Points in different directions at given distances from the origin."""
    ways = torch.nn.functional.normalize(torch.randn(len(radii), 3, dtype=torch.float64, generator=generator(1)), dim=1)
    return placed(manifold, [ways * torch.tensor(radii, dtype=torch.float64)[:, None] / 2])[0]


@every_manifold
def test_values_are_those_computed_by_hand_from_the_radii(manifold):
    parents, children = at_radii(manifold, 1.0, 2.0), at_radii(manifold, 1.5, 2.05)
    term = radius_order(manifold, parents, children, margin=0.1)
    assert float(term.loss) == pytest.approx(0.05 / 2)
    assert (int(term.pairs), float(term.in_order)) == (2, 1.0)
    assert float(term.gap) == pytest.approx((0.5 + 0.05) / 2)
    every = torch.ones(2, 2, dtype=torch.bool)
    term = radius_order(manifold, parents, children, every, margin=0.1)
    assert float(term.loss) == pytest.approx((0.6 + 0.05) / 4)
    assert (int(term.pairs), float(term.in_order)) == (4, 0.75)
    found = radius_targets(manifold, children, torch.tensor([1, 0]), torch.tensor([2.0, 1.0]))
    assert float(found.loss) == pytest.approx((0.5**2 + 0.05**2) / 2)
    assert float(found.error) == pytest.approx((0.5 + 0.05) / 2)


def test_a_ball_of_curvature_one_has_the_radius_of_its_definition():
    points = torch.tensor([[0.0, 0.5]], dtype=torch.float64)
    wanted = (math.log(3.0) - 2.0) ** 2
    assert float(
        radius_targets(PoincareBall(1.0), points, torch.tensor([0]), torch.tensor([2.0])).loss
    ) == pytest.approx(wanted)


@every_manifold
def test_aligned_pairs_are_the_diagonal_of_a_relation(manifold):
    parents, children = placed(manifold, torch.randn(2, 6, 3, generator=generator(2)))
    aligned = radius_order(manifold, parents, children)
    related = radius_order(manifold, parents, children, torch.eye(6, dtype=torch.bool))
    assert aligned.loss > 0
    torch.testing.assert_close(vars(related), vars(aligned))


@every_manifold
def test_the_order_of_points_changes_nothing(manifold):
    parents, children = placed(manifold, torch.randn(2, 6, 3, dtype=torch.float64, generator=generator(3)))
    rows, columns = (torch.randperm(6, generator=generator(i)) for i in range(2))
    relation, levels, radii = some_relation(parents, children), torch.arange(6) % 3, torch.tensor([0.3, 1.0, 2.0])
    plain = radius_order(manifold, parents, children, relation)
    mixed = radius_order(manifold, parents[rows], children[columns], relation[rows][:, columns])
    torch.testing.assert_close(vars(mixed), vars(plain))
    plain = radius_targets(manifold, parents, levels, radii)
    mixed = radius_targets(manifold, parents[rows], levels[rows], radii)
    torch.testing.assert_close(vars(mixed), vars(plain))


def test_unknown_levels_count_for_nothing():
    ball = PoincareBall(0.5)
    points, radii = at_radii(ball, 1.0, 2.0, 3.0).requires_grad_(), torch.tensor([1.5])
    known = radius_targets(ball, points[:2], torch.tensor([0, 0]), radii)
    term = radius_targets(ball, points, torch.tensor([0, 0, -1]), radii)
    torch.testing.assert_close(vars(term), vars(known))
    term.loss.backward()
    assert bool((points.grad[2] == 0).all())
    assert bool((points.grad[:2].norm(dim=1) > 0).all())


def test_radii_may_be_learnt():
    radii = torch.tensor([1.0, 3.0], requires_grad=True)
    points = at_radii(PoincareBall(0.5), 1.5, 2.0)
    radius_targets(PoincareBall(0.5), points, torch.tensor([0, 1]), radii).loss.backward()
    torch.testing.assert_close(radii.grad, torch.tensor([-0.5, 1.0]))


@every_manifold
def test_steps_put_the_levels_of_a_tree_in_order_and_at_their_radii(manifold):
    """A root, two children, four leaves, all started in the wrong order."""
    levels = torch.tensor([0, 1, 1, 2, 2, 2, 2])
    relation = levels[:, None] + 1 == levels
    start = torch.nn.functional.normalize(torch.randn(7, 3, generator=generator(4)), dim=1) * (
        1.2 - 0.3 * levels[:, None]
    )

    def order(features):
        (points,) = placed(manifold, [features])
        return radius_order(manifold, points, points, relation, margin=0.2)

    def targets(features):
        return radius_targets(manifold, *placed(manifold, [features]), levels, torch.tensor([0.5, 1.5, 2.5]))

    assert float(order(start).in_order) == 0.0
    moved = start.clone()
    losses = thirty_steps(lambda features: order(features).loss, [moved])
    assert losses[0] > 0.5
    assert losses[-1] == 0.0
    assert float(order(moved).in_order) == 1.0
    losses = thirty_steps(lambda features: targets(features).loss, [start])
    assert losses[-1] < 0.02 * losses[0]


def test_bad_input_is_refused():
    flat, points = Euclidean(), torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"got 3 and 2; pass relation as a boolean matrix of shape \(3, 2\)"):
        radius_order(flat, points, points[:2])
    with pytest.raises(ValueError, match=r"relation needs shape \(3, 2\) for 3 parents and 2 children, got \(2, 3\)"):
        radius_order(flat, points, points[:2], torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"boolean, got torch\.float32; pass relation > 0"):
        radius_order(flat, points, points, torch.ones(3, 3))
    for levels, radii in ((torch.zeros(2), torch.zeros(1)), (torch.zeros(3), torch.zeros(()))):
        with pytest.raises(ValueError, match="one level a point and one radius a level, got levels"):
            radius_targets(flat, points, levels.long(), radii)
