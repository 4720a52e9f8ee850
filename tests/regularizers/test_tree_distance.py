import math

import pytest
import torch

from manifolds import Euclidean, Lorentz, PoincareBall
from manifolds.regularizers import tree_distance_loss, tree_distances
from tests.regularizers.cases import generator, placed, some_tree, thirty_steps

MANIFOLDS = [PoincareBall(0.5), Lorentz(0.5), Euclidean()]
every_manifold = pytest.mark.parametrize("manifold", MANIFOLDS, ids=["ball", "lorentz", "flat"])
both_modes = pytest.mark.parametrize("mode", ["relative", "absolute"])


def random_tree(n, seed, depth=None):
    """Parents of a random tree with its nodes in random order."""
    source = generator(seed)
    parents = [-1] + [int(torch.randint(max(0, i - (depth or i)), i, (), generator=source)) for i in range(1, n)]
    name = torch.randperm(n, generator=source)
    renamed = torch.empty(n, dtype=torch.int64)
    for node, parent in enumerate(parents):
        renamed[name[node]] = -1 if parent < 0 else name[parent]
    return renamed


def slow_tree_distances(parents):
    """Edges over the lowest common ancestor, by walking up from every pair."""
    ways = []
    for node in range(len(parents)):
        way = [node]
        while parents[way[-1]] >= 0:
            way.append(int(parents[way[-1]]))
        ways.append(way)
    return torch.tensor([[min(a.index(n) + b.index(n) for n in a if n in b) for b in ways] for a in ways])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "depth"), [(1, None), (2, None), (40, None), (40, 1), (40, 3)])
def test_path_lengths_are_those_of_walking_up(n, depth, seed):
    parents = random_tree(n, seed, depth)
    found = tree_distances(parents)
    assert found.dtype == torch.int64
    assert torch.equal(found, slow_tree_distances(parents))


def test_path_lengths_of_a_small_tree_are_those_counted_by_hand():
    wanted = [[0, 1, 1, 2, 2], [1, 0, 2, 1, 1], [1, 2, 0, 3, 3], [2, 1, 3, 0, 2], [2, 1, 3, 2, 0]]
    for dtype in (torch.int64, torch.int32, torch.int8):
        assert tree_distances(torch.tensor([-1, 0, 0, 1, 1], dtype=dtype)).tolist() == wanted


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ([0, 0], "one root .* got 0 at nodes"),
        ([], "one root .* got 0 at nodes"),
        ([-1, 0, -1], r"one root .* got 2 at nodes \[0, 2\]"),
        ([-1, 3, 0], "parents among the nodes 0 to 2, got 3 for node 1"),
        ([-1, -2, 0], "parents among the nodes 0 to 2, got -2 for node 1"),
        ([-1, 1], "a cycle: node 1 never reaches the root 0"),
        ([-1, 0, 3, 4, 2], "a cycle: node 2 never reaches the root 0"),
        ([[-1, 0]], r"a vector of parents, got shape \(1, 2\)"),
    ],
)
def test_what_is_no_tree_is_refused(parents, message):
    with pytest.raises(ValueError, match=message):
        tree_distances(torch.tensor(parents, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"integer parents, got torch\.float32; convert with \.long\(\)"):
        tree_distances(torch.tensor(parents, dtype=torch.float32))


@both_modes
@every_manifold
@pytest.mark.parametrize("unit", [0.01, 1.0, 3.0])
def test_a_root_between_two_children_fits_exactly_at_any_scale(manifold, mode, unit):
    way = torch.tensor([[0.0, 0.0], [0.6, 0.8], [-0.6, -0.8]], dtype=torch.float64)
    term = tree_distance_loss(
        manifold, *placed(manifold, [way * unit / 2]), tree_distances(torch.tensor([-1, 0, 0])), mode=mode
    )
    assert float(term.loss) == pytest.approx(0.0, abs=1e-14)
    assert float(term.relative_error) == pytest.approx(0.0, abs=1e-7)
    assert float(term.scale) == pytest.approx(unit)


def test_the_stress_of_a_star_of_three_is_that_of_the_law_of_cosines():
    """Leaves 120° apart at radius r: their distance is 2 asinh(sinh(r) sin 60°) for c = 1, and 2r sin 60° in flat."""
    angles = torch.arange(3, dtype=torch.float64) * (2 * math.pi / 3)
    star = torch.cat([torch.zeros(1, 2, dtype=torch.float64), torch.stack([angles.cos(), angles.sin()], 1)])
    tree = tree_distances(torch.tensor([-1, 0, 0, 0]))
    stresses = []
    for r in (0.5, 2.0, 5.0):
        apart = math.asinh(math.sinh(r) * math.sin(math.pi / 3))  # for one edge of the two between leaves
        for mode, far in (("relative", 1), ("absolute", 4)):
            scale = (r * r + far * apart**2) / (r + far * apart)
            wanted = ((r / scale - 1) ** 2 + far * (apart / scale - 1) ** 2) / (1 + far)
            term = tree_distance_loss(PoincareBall(1.0), *placed(PoincareBall(1.0), [star * r / 2]), tree, mode=mode)
            assert float(term.loss) == pytest.approx(wanted, rel=1e-9)
            assert float(term.stress) == pytest.approx(wanted**0.5, rel=1e-9)
            assert float(term.scale) == pytest.approx(scale)
        stresses.append(float(term.stress))
    assert stresses == sorted(stresses, reverse=True)
    flat = tree_distance_loss(Euclidean(), star, tree)
    assert stresses[-1] < 0.2 * float(flat.stress)
    assert float(flat.relative_error) == pytest.approx(
        (abs(1 / float(flat.scale) * 2 - 1) + abs(3**0.5 / float(flat.scale) - 1)) / 2
    )


@both_modes
@every_manifold
def test_the_fitted_scale_has_the_least_stress_and_the_gradient_of_the_least(manifold, mode):
    features = (0.6 * torch.randn(7, 3, dtype=torch.float64, generator=generator(1))).requires_grad_()
    (points,) = placed(manifold, [features])
    fitted = tree_distance_loss(manifold, points, some_tree(points), mode=mode)
    given = fitted.scale.clone().requires_grad_()
    same = tree_distance_loss(manifold, points, some_tree(points), scale=given, mode=mode)
    torch.testing.assert_close(vars(same), vars(fitted))
    at_scale, at_points = torch.autograd.grad(same.loss, (given, features), retain_graph=True)
    assert float(at_scale) == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(torch.autograd.grad(fitted.loss, features)[0], at_points)
    for factor in (0.9, 1.1):
        other = tree_distance_loss(manifold, points, some_tree(points), scale=float(given.detach()) * factor, mode=mode)
        assert float(other.loss.detach()) > float(fitted.loss.detach())


@both_modes
def test_a_fitted_stress_does_not_see_scale(mode):
    points = torch.randn(7, 3, dtype=torch.float64, generator=generator(2))
    small, large = (tree_distance_loss(Euclidean(), s * points, some_tree(points), mode=mode) for s in (0.01, 100.0))
    torch.testing.assert_close(small.loss, large.loss)
    torch.testing.assert_close(small.scale * 1e4, large.scale)


def test_a_given_scale_can_be_learnt():
    points = torch.randn(7, 3, dtype=torch.float64, generator=generator(3))
    fitted = tree_distance_loss(Euclidean(), points, some_tree(points))
    log_scale = torch.zeros((), dtype=torch.float64)
    losses = []
    for rate in (0.1, 0.02):
        losses += thirty_steps(
            lambda s: tree_distance_loss(Euclidean(), points, some_tree(points), scale=s.exp()).loss, [log_scale], rate
        )
    assert losses[-1] < 1.02 * float(fitted.loss) < losses[0]
    assert float(log_scale.detach().exp()) == pytest.approx(float(fitted.scale), rel=0.1)


@both_modes
def test_unknown_pairs_count_for_nothing(mode):
    ball = PoincareBall(0.5)
    (points,) = placed(ball, [torch.randn(6, 3, generator=generator(4))])
    tree = some_tree(points)
    wider = torch.full((6, 6), -1)
    wider[:4, :4] = tree[:4, :4]
    alone, padded = (
        tree_distance_loss(ball, points[:4], tree[:4, :4], mode=mode),
        tree_distance_loss(ball, points, wider, mode=mode),
    )
    assert alone.loss > 0
    torch.testing.assert_close(vars(padded), vars(alone))


def test_points_of_one_node_count_where_errors_are_absolute():
    places = torch.tensor([[0.0], [0.1], [1.0]], requires_grad=True)
    node = torch.tensor([0, 0, 1])
    tree = tree_distances(torch.tensor([-1, 0]))[node][:, node]
    relative = tree_distance_loss(Euclidean(), places, tree, scale=2.0)
    absolute = tree_distance_loss(Euclidean(), places, tree, scale=2.0, mode="absolute")
    assert float(relative.loss.detach()) == pytest.approx(0.1**2 / 2, rel=1e-5)
    assert float(absolute.loss.detach()) == pytest.approx(0.1**2, rel=1e-5)


@every_manifold
def test_the_order_of_points_changes_nothing(manifold):
    (points,) = placed(manifold, [torch.randn(9, 3, dtype=torch.float64, generator=generator(5))])
    tree, rows = some_tree(points), torch.randperm(9, generator=generator(6))
    for mode in ("relative", "absolute"):
        plain = tree_distance_loss(manifold, points, tree, mode=mode)
        mixed = tree_distance_loss(manifold, points[rows], tree[rows][:, rows], mode=mode)
        torch.testing.assert_close(vars(mixed), vars(plain))


@every_manifold
def test_steps_find_a_root_between_its_children(manifold):
    start = torch.tensor([[0.3, 0.4], [0.5, -0.1], [-0.5, 0.0]], dtype=torch.float64)
    tree = tree_distances(torch.tensor([-1, 0, 0]))
    losses = []
    for rate in (0.05, 0.01):
        losses += thirty_steps(lambda u: tree_distance_loss(manifold, *placed(manifold, [u]), tree).loss, [start], rate)
    assert losses[0] > 0.02
    assert losses[-1] < 1e-3 * losses[0]


def test_a_binary_tree_fits_the_ball_better_than_the_plane():
    found = []
    for manifold in (PoincareBall(1.0), Euclidean()):
        features = torch.randn(15, 2, dtype=torch.float64, generator=generator(7))
        for _ in range(5):
            losses = thirty_steps(
                lambda u, m=manifold: tree_distance_loss(m, *placed(m, [u]), some_tree(u)).loss, [features]
            )
            features = features.detach()
        found.append(losses[-1])
    assert found[0] < 0.5 * found[1]


def test_bad_input_is_refused():
    flat, points, tree = Euclidean(), torch.zeros(3, 2), torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"a \(3, 3\) matrix for 3 points, got \(2, 2\)"):
        tree_distance_loss(flat, points, tree[:2, :2])
    with pytest.raises(ValueError, match="mode 'relative' or 'absolute', got 'sammon'"):
        tree_distance_loss(flat, points, tree, mode="sammon")
    with pytest.raises(ValueError, match=r"scale > 0, got -1\.0; leave it out"):
        tree_distance_loss(flat, points, tree, scale=-1.0)
