import itertools

import pytest
import torch

from manifolds import Euclidean, Lorentz, PoincareBall
from manifolds.regularizers import (
    GeneratorDraws,
    NodeSet,
    RecordedDraws,
    RecordingDraws,
    Triplets,
    ancestor_loss,
    hier_term,
    mine_triplets,
)
from manifolds.regularizers.ancestors import chosen_gaps
from manifolds.regularizers.hier import _nearness

MANIFOLDS = [PoincareBall(0.1), PoincareBall(1.0), Euclidean()]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(seed=0):
    return GeneratorDraws(generator(seed))


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
    triplets = mine_triplets(similarity, neighbours, per_anchor=200, draws=draws(seed))
    kept = {i for i in range(n) if len(positive[i]) >= 2 and negative[i]}
    assert set(triplets.anchor[triplets.valid].tolist()) == kept
    assert triplets.anchors_kept == len(kept)
    for i in kept:
        mine = triplets.anchor == i
        assert int(mine.sum()) == 200
        assert set(triplets.positive[mine].tolist()) == positive[i]
        assert set(triplets.negative[mine].tolist()) <= negative[i]
        assert i not in triplets.negative[mine].tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_too_few_nodes_give_no_triplets_and_a_loss_with_a_graph(n):
    triplets = mine_triplets(random_similarity(n, 0), draws=draws())
    distances = torch.rand(n, 4, generator=generator(), requires_grad=True)
    term = ancestor_loss(distances, triplets, draws=draws())
    assert term.triplets == 0
    assert term.loss == 0
    term.loss.backward()
    assert distances.grad is not None


def slow_loss(distances, triplets, margin):
    """The loss by a loop, for choices without doubt (a tiny temperature)."""
    total, wasted = 0.0, 0
    indices = (triplets.anchor, triplets.positive, triplets.negative)
    rows = list(zip(*(index[triplets.valid].tolist() for index in indices), strict=True))
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
    return total / len(rows), wasted / len(rows)


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_that_of_the_slow_loop_when_no_choice_is_in_doubt(seed):
    distances = torch.rand(10, 6, generator=generator(seed)) * 4
    triplets = mine_triplets(random_similarity(10, seed), 5, per_anchor=10, draws=draws(seed))
    term = ancestor_loss(distances, triplets, tau=1e-4, margin=0.3, draws=draws(seed))
    expected, wasted = slow_loss(distances, triplets, 0.3)
    assert expected > 0
    assert float(term.loss) == pytest.approx(expected, rel=1e-5)
    assert float(term.wasted) == pytest.approx(wasted, abs=1e-6)


def plain_loss(distances, triplets, tau, margin, source):
    """The loss by automatic differentiation of one-hot choices, in dense products over all candidates."""

    def choice(cost):
        gumbel = -torch.log(-torch.log(source.rand(*cost.shape).clamp(min=1e-300, max=1 - 1e-7).to(cost.dtype)))
        soft = torch.softmax(-cost / tau + gumbel, dim=1)
        hard = torch.nn.functional.one_hot(soft.argmax(1), cost.shape[1])
        return hard - soft.detach() + soft, hard

    d_i, d_j, d_k = (distances[index] for index in (triplets.anchor, triplets.positive, triplets.negative))
    cost = torch.maximum(d_i, d_j)
    (pair, hard_pair), (triple, hard_triple) = choice(cost), choice(torch.maximum(cost, d_k))
    gap = triple - pair
    signs = ((d_i, -1), (d_j, -1), (d_k, 1))
    hinges = torch.stack([torch.relu(margin + sign * (d * gap).sum(1)) for d, sign in signs])
    useful = triplets.valid & (hard_pair != hard_triple).any(1)
    return (hinges * useful).sum() / triplets.valid.sum()


@pytest.fixture(params=range(3))
def tied(request):
    """Distances of which some are equal, more triplets than one block, and a loss by either formulation."""
    distances = (torch.rand(90, 6, dtype=torch.float64, generator=generator(request.param)) * 8).round() / 4
    triplets = mine_triplets(random_similarity(90, 1), 30, 50, draws(request.param))
    assert len(triplets.anchor) > 4096

    def ours(d):
        return ancestor_loss(d, triplets, tau=0.4, margin=0.3, draws=draws(2)).loss

    return distances, ours, lambda d: plain_loss(d, triplets, 0.4, 0.3, draws(2))


def test_the_loss_and_its_gradient_are_those_of_differentiating_one_hot_choices(tied):
    distances, ours, plain = tied
    (got, loss), (wanted, expected) = (torch.func.grad_and_value(term)(distances) for term in (ours, plain))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(got, wanted)
    leaf = distances.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(ours(leaf), leaf)[0], wanted)
    assert wanted.abs().sum() > 0


def test_second_and_forward_derivatives_are_those_of_differentiating_one_hot_choices(tied):
    distances, ours, plain = tied
    direction = torch.randn(distances.shape, dtype=torch.float64, generator=generator(5))
    for derivative in (lambda term: term, torch.func.grad):
        tangents = [torch.func.jvp(derivative(term), (distances,), (direction,))[1] for term in (ours, plain)]
        torch.testing.assert_close(*tangents)
    curves = []
    for term in (ours, plain):
        leaf = distances.clone().requires_grad_()
        (slope,) = torch.autograd.grad(term(leaf), leaf, create_graph=True)
        curves.append(torch.autograd.grad((slope * direction).sum(), leaf)[0])
    torch.testing.assert_close(*curves)
    assert curves[1].abs().sum() > 0


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
    term = hier_term(manifold, NodeSet(leaves, labels), ancestors, neighbours=3, tau=1e-3, draws=draws())
    assert term.anchors_kept == 1.0
    assert float(term.wasted) == 0.0
    assert int(term.candidates_used) == 3
    assert float(term.loss) == 0.0
    swapped = ancestors[[2, 2, 0]] * 0.5
    assert float(hier_term(manifold, NodeSet(leaves, labels), swapped, tau=1e-3, draws=draws()).loss) > 0.0


def test_labels_bind_nodes_that_distance_would_part():
    ball = PoincareBall(0.5)
    points = ball.expmap0(torch.randn(12, 4, generator=generator(3)))
    labels = torch.arange(12) % 3
    ancestors = ball.expmap0(torch.randn(5, 4, generator=generator(4)) * 0.3)
    similarity = torch.exp(-ball.pairwise_dist(points, points)) + (labels[:, None] == labels[None, :]).float()
    expected = mine_triplets(similarity, 4, 7, draws(5))
    term = hier_term(ball, NodeSet(points, labels), ancestors, neighbours=4, per_anchor=7, draws=draws(5))
    assert term.triplets == expected.valid.sum() > 0
    same = (labels[expected.anchor] == labels[expected.positive])[expected.valid]
    assert bool(same.all())


@pytest.mark.parametrize("manifold", [*MANIFOLDS, Lorentz(0.7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearness_falls_with_the_distance_as_the_law_of_cosines_says(manifold, dtype):
    tangents = torch.randn(60, 5, dtype=dtype, generator=generator(6)) * 0.7
    points = manifold.expmap0(manifold.tangent0(tangents))
    found, distance = _nearness(manifold, points), manifold.pairwise_dist(points).double()
    c = float(manifold.curvature)
    wanted = distance.square() / 4 if c == 0 else (c**0.5 * distance / 2).sinh().square() / c
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found.double(), -wanted, rtol=tolerance, atol=tolerance * float(wanted.max()))
    assert found.dtype == dtype
    assert bool((found <= 0).all())


@pytest.mark.parametrize("manifold", [PoincareBall(0.1), Lorentz(0.1), Euclidean()], ids=["ball", "lorentz", "flat"])
def test_nearness_keeps_its_digits_under_autocast(manifold):
    points = manifold.expmap0(manifold.tangent0(torch.randn(40, 32, generator=generator())))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = _nearness(manifold, points)
    assert torch.equal(cast, _nearness(manifold, points))


def test_negative_labels_match_nothing():
    ball = PoincareBall(0.5)
    points = ball.expmap0(torch.randn(10, 4, generator=generator(1)))
    ancestors = points[:4] * 0.5
    none = hier_term(ball, NodeSet(points), ancestors, neighbours=4, draws=draws(2))
    unknown = hier_term(ball, NodeSet(points, torch.full((10,), -1)), ancestors, neighbours=4, draws=draws(2))
    assert torch.equal(none.loss, unknown.loss)


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=str)
def test_gradients_reach_nodes_and_candidates_and_are_finite_at_equal_points(manifold):
    tangent = torch.randn(8, 3, generator=generator(7))
    tangent[1] = tangent[0]
    tangent.requires_grad_()
    candidates = torch.randn(4, 3, generator=generator(8), requires_grad=True)
    term = hier_term(
        manifold, NodeSet(manifold.expmap0(tangent)), manifold.expmap0(candidates), neighbours=4, draws=draws()
    )
    term.loss.backward()
    for gradient in (tangent.grad, candidates.grad):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0


def test_equal_generators_give_equal_terms():
    ball = PoincareBall()
    points, ancestors = (ball.expmap0(torch.randn(n, 3, generator=generator(n)) * 0.4) for n in (12, 5))
    runs = [hier_term(ball, NodeSet(points), ancestors, neighbours=4, draws=draws(1)).loss for _ in range(2)]
    assert torch.equal(*runs)


def test_a_step_down_the_gradient_lowers_the_loss():
    ball = PoincareBall(0.1)
    tangent = torch.randn(16, 4, generator=generator(1))
    candidates = (torch.randn(6, 4, generator=generator(2)) * 0.5).requires_grad_()
    triplets = mine_triplets(torch.exp(-torch.cdist(tangent, tangent)), 6, 20, draws(3))
    losses = []
    for _ in range(30):
        distances = ball.pairwise_dist(ball.expmap0(tangent), ball.expmap0(candidates))
        loss = ancestor_loss(distances, triplets, draws=draws(4)).loss
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
    triplets = Triplets(*rows.T, torch.ones(len(rows), dtype=torch.bool), torch.tensor(6))
    plain = ancestor_loss(distances, triplets, tau=1e-5, draws=draws(2))
    permuted = ancestor_loss(distances[:, [2, 0, 3, 1]], triplets, tau=1e-5, draws=draws(3))
    torch.testing.assert_close(plain.loss, permuted.loss)


def test_gradients_repeat_bit_for_bit_with_several_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        distances = torch.rand(200, 16, generator=generator(1), requires_grad=True)
        triplets = mine_triplets(random_similarity(200, 2), 40, 50, draws(3))
        assert len(triplets.anchor) * 16 > 2**15
        found = []
        for _ in range(8):
            term = ancestor_loss(distances, triplets, draws=draws(4))
            found.append(torch.autograd.grad(term.loss, distances)[0])
        assert all(torch.equal(found[0], again) for again in found[1:])
    finally:
        torch.set_num_threads(threads)


def test_each_member_of_a_pool_is_drawn_equally_often():
    similarity = random_similarity(12, 3)
    positive, negative = slow_pools(similarity, 6)
    triplets = mine_triplets(similarity, 6, per_anchor=40_000, draws=draws(1))
    for i in set(triplets.anchor[triplets.valid].tolist()):
        mine = triplets.anchor == i
        for drawn, pool in ((triplets.positive[mine], positive[i]), (triplets.negative[mine], negative[i])):
            count = torch.bincount(drawn, minlength=12)[sorted(pool)]
            assert count.sum() == 40_000
            assert (count / 40_000 - 1 / len(pool)).abs().max() < 5 * (1 / len(pool) / 40_000) ** 0.5


def test_triples_that_are_not_valid_give_neither_loss_nor_gradient():
    distances = (torch.rand(8, 5, generator=generator(1)) * 3).requires_grad_()
    rows = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 0]])
    noise = [torch.rand(3, 5, generator=generator(2)) for _ in range(2)]
    masked = Triplets(*rows.T, torch.tensor([True, True, False]), torch.tensor(2))
    alone = Triplets(*rows[:2].T, torch.tensor([True, True]), torch.tensor(2))
    with_third = ancestor_loss(distances, masked, margin=5.0, draws=RecordedDraws(noise))
    without = ancestor_loss(distances, alone, margin=5.0, draws=RecordedDraws([n[:2] for n in noise]))
    assert without.loss > 0
    torch.testing.assert_close(with_third.loss, without.loss)
    assert with_third.triplets == without.triplets == 2
    torch.testing.assert_close(with_third.active, without.active)
    gradients = [torch.autograd.grad(term.loss, distances)[0] for term in (with_third, without)]
    torch.testing.assert_close(*gradients)
    assert gradients[0][6:].abs().sum() == 0


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=str)
def test_many_hierarchies_at_once_are_those_one_by_one(manifold):
    tangents, candidates = torch.randn(3, 14, 4, generator=generator(1)), torch.randn(3, 5, 4, generator=generator(2))
    labels = torch.arange(14) % 4

    def term(tangent, candidate, *numbers):
        nodes = NodeSet(manifold.expmap0(tangent), labels)
        return hier_term(manifold, nodes, manifold.expmap0(candidate), neighbours=5, draws=RecordedDraws(numbers)).loss

    recordings = []
    for i in range(3):
        recordings.append(RecordingDraws(draws(i)))
        nodes = NodeSet(manifold.expmap0(tangents[i]), labels)
        hier_term(manifold, nodes, manifold.expmap0(candidates[i]), neighbours=5, draws=recordings[-1])
    numbers = [torch.stack(same) for same in zip(*(recording.numbers for recording in recordings), strict=True)]
    gradient = torch.func.grad_and_value(term, argnums=(0, 1))
    batched, values = torch.func.vmap(gradient)(tangents, candidates, *numbers)
    for i in range(3):
        alone, value = gradient(tangents[i], candidates[i], *(n[i] for n in numbers))
        torch.testing.assert_close(values[i], value)
        assert value > 0
        for together, single in zip(batched, alone, strict=True):
            torch.testing.assert_close(together[i], single, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("triplets", [40, 1500, 5000])
def test_gradients_of_a_batch_of_problems_are_those_of_each_to_the_bit(triplets):
    draw = generator(7)
    closeness = torch.randn(4, 30, 6, generator=draw)
    nodes = [torch.randint(30, (4, triplets), generator=draw) for _ in range(3)]
    noises = [torch.randn(4, triplets, 6, generator=draw) for _ in range(2)]

    def gradient(closeness, *rest):
        return torch.func.vjp(lambda c: chosen_gaps(c, *rest)[0].cos(), closeness)[1](torch.ones(3, triplets))[0]

    batched = torch.vmap(gradient)(closeness, *nodes, *noises)
    leaf = closeness.clone().requires_grad_()
    torch.vmap(lambda c, *rest: chosen_gaps(c, *rest)[0].cos())(leaf, *nodes, *noises).sum().backward()
    for i in range(4):
        alone = closeness[i].clone().requires_grad_()
        chosen_gaps(alone, *(each[i] for each in (*nodes, *noises)))[0].cos().sum().backward()
        assert torch.equal(leaf.grad[i], alone.grad)
        torch.testing.assert_close(batched[i], alone.grad)


def test_similarities_of_a_batch_are_those_of_each_to_the_bit():
    ball = PoincareBall(0.5)
    points = ball.expmap0(torch.randn(3, 74, 256, generator=generator(8)))
    batched = torch.vmap(lambda p: _nearness(ball, p))(points)
    assert all(torch.equal(batched[i], _nearness(ball, points[i])) for i in range(3))


def test_recorded_numbers_are_given_once_and_only_in_the_shape_that_was_recorded():
    recorded = RecordedDraws([torch.zeros(2, 3)])
    with pytest.raises(ValueError, match=r"\(2,\).*\(2, 3\)"):
        recorded.rand(2)
    with pytest.raises(ValueError, match="none left"):
        recorded.rand(2, 3)
