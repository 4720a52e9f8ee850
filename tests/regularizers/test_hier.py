import itertools

import pytest
import torch

from manifolds import Euclidean, PoincareBall
from manifolds.regularizers import NodeSet, Triplets, ancestor_loss, hier_term, mine_triplets

MANIFOLDS = [PoincareBall(0.1), PoincareBall(1.0), Euclidean()]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_similarity(n, seed):
    s = torch.rand(n, n, generator=generator(seed))
    return s + s.T


def slow_pools(similarity, neighbours):
    """Positives and negatives of each node by loops over the definition."""
    n = len(similarity)
    k = min(neighbours, n // 2)
    near = [set(sorted(range(n), key=lambda j, i=i: -float(similarity[i, j]))[:k]) for i in range(n)]
    positive = [{j for j in near[i] if i in near[j] and j != i} for i in range(n)]
    negative = [set(range(n)) - positive[i] - {i} for i in range(n)]
    return positive, negative


@pytest.mark.parametrize(("n", "neighbours"), [(12, 3), (20, 20), (9, 4), (30, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_triplets_come_from_reciprocal_neighbours(n, neighbours, seed):
    similarity = random_similarity(n, seed)
    positive, negative = slow_pools(similarity, neighbours)
    triplets = mine_triplets(similarity, neighbours, per_anchor=200, generator=generator(seed))
    kept = {i for i in range(n) if len(positive[i]) >= 2 and negative[i]}
    assert set(triplets.anchor.tolist()) == kept
    assert triplets.anchors_kept == len(kept)
    for i in kept:
        mine = triplets.anchor == i
        assert set(triplets.positive[mine].tolist()) == positive[i]
        assert set(triplets.negative[mine].tolist()) <= negative[i]
        assert i not in triplets.negative[mine].tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_too_few_nodes_give_no_triplets_and_a_loss_with_a_graph(n):
    triplets = mine_triplets(random_similarity(n, 0), generator=generator())
    distances = torch.rand(n, 4, generator=generator(), requires_grad=True)
    term = ancestor_loss(distances, triplets, generator=generator())
    assert term.triplets == 0
    assert term.loss == 0
    term.loss.backward()
    assert distances.grad is not None


def slow_loss(distances, triplets, margin):
    """The loss by a loop, for choices without doubt (a tiny temperature)."""
    total, wasted = 0.0, 0
    rows = zip(triplets.anchor.tolist(), triplets.positive.tolist(), triplets.negative.tolist(), strict=True)
    for i, j, k in rows:
        candidates = range(distances.shape[1])
        pair = min(candidates, key=lambda c: max(distances[i, c], distances[j, c]))
        triple = min(candidates, key=lambda c: max(distances[i, c], distances[j, c], distances[k, c]))
        if pair == triple:
            wasted += 1
            continue
        hinges = [
            distances[i, pair] - distances[i, triple] + margin,
            distances[j, pair] - distances[j, triple] + margin,
            distances[k, triple] - distances[k, pair] + margin,
        ]
        total += sum(max(float(hinge), 0.0) for hinge in hinges)
    return total / len(triplets.anchor), wasted / len(triplets.anchor)


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_that_of_the_slow_loop_when_no_choice_is_in_doubt(seed):
    distances = torch.rand(10, 6, generator=generator(seed)) * 4
    triplets = mine_triplets(random_similarity(10, seed), 5, per_anchor=10, generator=generator(seed))
    term = ancestor_loss(distances, triplets, tau=1e-4, margin=0.3, generator=generator(seed))
    expected, wasted = slow_loss(distances, triplets, 0.3)
    assert expected > 0
    assert float(term.loss) == pytest.approx(expected, rel=1e-5)
    assert float(term.wasted) == pytest.approx(wasted, abs=1e-6)


def two_level_tree(manifold):
    """Two groups of three leaves, an ancestor near each group and one for both at the origin."""
    groups = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    spread = torch.tensor([[0.02, 0.0], [0.0, 0.02], [0.0, -0.02]])
    leaves = manifold.expmap0((groups[:, None] + spread).flatten(0, 1))
    ancestors = manifold.expmap0(torch.cat([groups * 0.9, torch.zeros(1, 2)]))
    return leaves, ancestors


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=str)
def test_on_a_tree_the_right_ancestors_give_zero_loss(manifold):
    leaves, ancestors = two_level_tree(manifold)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    term = hier_term(manifold, NodeSet(leaves, labels), ancestors, neighbours=3, tau=1e-3, generator=generator())
    assert term.anchors_kept == 1.0
    assert float(term.wasted) == 0.0
    assert int(term.candidates_used) == 3
    assert float(term.loss) == 0.0
    swapped = ancestors[[2, 2, 0]] * 0.5
    assert float(hier_term(manifold, NodeSet(leaves, labels), swapped, tau=1e-3, generator=generator()).loss) > 0.0


def test_labels_bind_nodes_that_distance_would_part():
    ball = PoincareBall(0.5)
    points = ball.expmap0(torch.randn(12, 4, generator=generator(3)))
    labels = torch.arange(12) % 3
    ancestors = ball.expmap0(torch.randn(5, 4, generator=generator(4)) * 0.3)
    similarity = torch.exp(-ball.pairwise_dist(points, points)) + (labels[:, None] == labels[None, :]).float()
    expected = mine_triplets(similarity, 4, 7, generator(5))
    term = hier_term(ball, NodeSet(points, labels), ancestors, neighbours=4, per_anchor=7, generator=generator(5))
    assert term.triplets == len(expected.anchor)
    same = labels[expected.anchor] == labels[expected.positive]
    assert bool(same.all())


def test_negative_labels_match_nothing():
    ball = PoincareBall(0.5)
    points = ball.expmap0(torch.randn(10, 4, generator=generator(1)))
    ancestors = points[:4] * 0.5
    none = hier_term(ball, NodeSet(points), ancestors, neighbours=4, generator=generator(2))
    unknown = hier_term(ball, NodeSet(points, torch.full((10,), -1)), ancestors, neighbours=4, generator=generator(2))
    assert torch.equal(none.loss, unknown.loss)


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=str)
def test_gradients_reach_nodes_and_candidates_and_are_finite_at_equal_points(manifold):
    tangent = torch.randn(8, 3, generator=generator(7))
    tangent[1] = tangent[0]
    tangent.requires_grad_()
    candidates = torch.randn(4, 3, generator=generator(8), requires_grad=True)
    term = hier_term(
        manifold, NodeSet(manifold.expmap0(tangent)), manifold.expmap0(candidates), neighbours=4, generator=generator()
    )
    term.loss.backward()
    for gradient in (tangent.grad, candidates.grad):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0


def test_equal_generators_give_equal_terms():
    ball = PoincareBall()
    points, ancestors = (ball.expmap0(torch.randn(n, 3, generator=generator(n)) * 0.4) for n in (12, 5))
    runs = [hier_term(ball, NodeSet(points), ancestors, neighbours=4, generator=generator(1)).loss for _ in range(2)]
    assert torch.equal(*runs)


def test_a_step_down_the_gradient_lowers_the_loss():
    ball = PoincareBall(0.1)
    tangent = torch.randn(16, 4, generator=generator(1))
    candidates = (torch.randn(6, 4, generator=generator(2)) * 0.5).requires_grad_()
    triplets = mine_triplets(torch.exp(-torch.cdist(tangent, tangent)), 6, 20, generator(3))
    losses = []
    for _ in range(30):
        distances = ball.pairwise_dist(ball.expmap0(tangent), ball.expmap0(candidates))
        loss = ancestor_loss(distances, triplets, generator=generator(4)).loss
        losses.append(float(loss.detach()))
        (gradient,) = torch.autograd.grad(loss, candidates)
        candidates = (candidates - 0.5 * gradient).detach().requires_grad_()
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_single_candidate_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        hier_term(Euclidean(), NodeSet(torch.zeros(4, 2)), torch.zeros(1, 2))


def test_permuting_candidates_changes_nothing_but_names():
    distances = torch.rand(6, 4, generator=generator(1)) * 3
    rows = torch.tensor(list(itertools.permutations(range(6), 3)))
    triplets = Triplets(rows[:, 0], rows[:, 1], rows[:, 2], 6)
    plain = ancestor_loss(distances, triplets, tau=1e-5, generator=generator(2))
    permuted = ancestor_loss(distances[:, [2, 0, 3, 1]], triplets, tau=1e-5, generator=generator(3))
    torch.testing.assert_close(plain.loss, permuted.loss)


def test_gradients_repeat_bit_for_bit_with_several_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        distances = torch.rand(200, 16, generator=generator(1), requires_grad=True)
        triplets = mine_triplets(random_similarity(200, 2), 40, 50, generator(3))
        assert len(triplets.anchor) * 16 > 2**15
        found = []
        for _ in range(8):
            term = ancestor_loss(distances, triplets, generator=generator(4))
            found.append(torch.autograd.grad(term.loss, distances)[0])
        assert all(torch.equal(found[0], again) for again in found[1:])
    finally:
        torch.set_num_threads(threads)
