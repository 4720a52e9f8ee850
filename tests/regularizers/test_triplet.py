import itertools

import pytest
import torch

from manifolds import Euclidean, Lorentz, PoincareBall
from manifolds.regularizers import RecordedDraws, attribute_triplets, triplet_loss
from tests.regularizers.cases import generator, placed, thirty_steps

MANIFOLDS = [PoincareBall(0.5), Lorentz(0.5), Euclidean()]
every_manifold = pytest.mark.parametrize("manifold", MANIFOLDS, ids=["ball", "lorentz", "flat"])


def line(*places):
    return torch.tensor([[place, 0.0] for place in places])


def test_hinges_of_an_image_are_those_computed_by_hand():
    """Distances are twice the differences. The attribute at 3 is nearest to both, image and category."""
    images, categories, attributes = line(0.0), line(5.0, 2.5), line(3.0, 1.0, -9.0)
    term = attribute_triplets(Euclidean(), images, torch.tensor([0]), categories, attributes, margin=0.5)
    assert float(term.loss) == pytest.approx((6 - 2 + 0.5) + (4 - 1 + 0.5))
    assert float(term.gap) == pytest.approx(((2 - 6) + (1 - 4)) / 2)
    assert (float(term.active), int(term.attributes_used)) == (1.0, 1)
    drawn = RecordedDraws([torch.tensor([[0.0, 0.9, 0.1]]), torch.tensor([[0.0, 0.5]])])
    term = attribute_triplets(
        Euclidean(), images, torch.tensor([0]), categories, attributes, margin=0.5, negatives="drawn", draws=drawn
    )
    assert float(term.loss) == pytest.approx(4 - 1 + 0.5)
    assert float(term.active) == 0.5


def test_hardest_triplets_are_those_computed_by_hand():
    points, labels = line(0.0, 1.0, 3.0, 4.5), torch.tensor([0, 0, 0, 1])
    term = triplet_loss(Euclidean(), points, labels, margin=1.0)
    assert int(term.anchors) == 3
    hinges = [6 - 9 + 1, 4 - 7 + 1, 6 - 3 + 1]
    assert float(term.loss) == pytest.approx(sum(max(0, h) for h in hinges) / 3)
    assert float(term.active) == pytest.approx(1 / 3)
    assert float(term.gap) == pytest.approx((3 + 3 - 3) / 3)


def test_unknown_labels_count_for_nothing():
    ball = PoincareBall(0.5)
    images, categories, attributes, strangers = placed(ball, torch.randn(4, 5, 3, generator=generator(1)))
    labels, unknown = torch.tensor([0, 1, 2, 0, 1]), torch.full((5,), -1)
    both, all_labels = torch.cat([images, strangers]), torch.cat([labels, unknown])
    for alone, together in (
        (
            attribute_triplets(ball, images, labels, categories, attributes),
            attribute_triplets(ball, both, all_labels, categories, attributes),
        ),
        (triplet_loss(ball, images, labels), triplet_loss(ball, both, all_labels)),
    ):
        assert alone.loss > 0
        torch.testing.assert_close(vars(together), vars(alone), rtol=1e-6, atol=1e-7)
    nothing = triplet_loss(ball, strangers.requires_grad_(), unknown)
    nothing.loss.backward()
    assert nothing.loss == nothing.anchors == nothing.active == 0
    assert bool((strangers.grad == 0).all())


@every_manifold
def test_the_order_of_points_changes_nothing(manifold):
    sets = placed(manifold, torch.randn(3, 7, 3, dtype=torch.float64, generator=generator(2)))
    images, categories, attributes = sets
    labels = torch.arange(7) % 3
    rows, columns, third = (torch.randperm(7, generator=generator(i)) for i in range(3))
    plain = attribute_triplets(manifold, images, labels, categories, attributes)
    renamed = columns.argsort()[labels[rows]]
    mixed = attribute_triplets(manifold, images[rows], renamed, categories[columns], attributes[third])
    torch.testing.assert_close(vars(mixed), vars(plain))
    plain, mixed = (triplet_loss(manifold, images[i], labels[i]) for i in (torch.arange(7), rows))
    torch.testing.assert_close(vars(mixed), vars(plain))


def share_of_gaps(found, possible):
    """Largest deviation of the shares of the gaps found from those of the gaps possible, in standard errors."""
    possible = torch.tensor(possible, dtype=found.dtype)
    nearest = (found[:, None] - possible).abs().min(1)
    assert float(nearest.values.max()) < 1e-9
    values, expected = possible.round(decimals=6).unique(return_counts=True)
    count = ((possible[nearest.indices].round(decimals=6)[:, None]) == values).sum(0)
    share = expected / len(possible)
    return float(((count / len(found) - share).abs() / (share / len(found)).sqrt()).max())


def test_every_partner_of_a_pool_is_drawn_equally_often():
    flat, source, rounds = Euclidean(), generator(3), 20_000
    points = torch.randn(5, 2, dtype=torch.float64, generator=source)
    d, labels = flat.pairwise_dist(points), torch.tensor([0, 0, 0, 1, 2])
    pools = [([j for j in range(3) if j != i], [3, 4]) for i in range(3)]
    each = [[float(d[i, n] - d[i, p]) for p, n in itertools.product(*pools[i])] for i in range(3)]
    keys = torch.rand(2, rounds, 5, 5, generator=source)
    found = torch.func.vmap(
        lambda *drawn: triplet_loss(flat, points, labels, partners="drawn", draws=RecordedDraws(drawn)).gap
    )(*keys)
    assert share_of_gaps(found, [sum(some) / 3 for some in itertools.product(*each)]) < 5


def test_every_other_attribute_and_category_is_drawn_equally_often():
    flat, source, rounds = Euclidean(), generator(4), 20_000
    image, categories, attributes = (torch.randn(n, 2, dtype=torch.float64, generator=source) for n in (1, 3, 4))
    near, far = flat.pairwise_dist(image, attributes)[0], flat.pairwise_dist(attributes, categories)
    best = int(torch.maximum(near, far[:, 1]).argmin())
    first = [float(near[m] - near[best]) for m in range(4) if m != best]
    second = [float(far[best, c] - far[best, 1]) for c in (0, 2)]
    found = torch.func.vmap(
        lambda *drawn: (
            attribute_triplets(
                flat, image, torch.tensor([1]), categories, attributes, negatives="drawn", draws=RecordedDraws(drawn)
            ).gap
        )
    )(torch.rand(rounds, 1, 4, generator=source), torch.rand(rounds, 1, 3, generator=source))
    assert share_of_gaps(found, [sum(pair) / 2 for pair in itertools.product(first, second)]) < 5


@every_manifold
def test_attributes_between_their_images_and_categories_give_zero_and_steps_find_them(manifold):
    """A two-level tree: two branches, each a category, an attribute and three images on one ray."""
    ways = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    labels = torch.arange(6) % 2
    images = 1.5 * ways[labels] + 0.1 * torch.randn(6, 3, generator=generator(5))
    images, categories, attributes = placed(manifold, (images, ways, 1.2 * ways))
    term = attribute_triplets(manifold, images, labels, categories, attributes)
    assert float(term.loss) == 0.0
    assert int(term.attributes_used) == 2
    start = 0.3 * torch.randn(2, 3, generator=generator(6))
    losses = thirty_steps(
        lambda moved: attribute_triplets(manifold, images, labels, categories, *placed(manifold, [moved])).loss, [start]
    )
    assert losses[0] > 0.3
    assert losses[-1] == 0.0


@every_manifold
def test_groups_far_apart_give_zero_and_steps_part_mixed_ones(manifold):
    labels = torch.arange(6) % 2
    far = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[labels] + 0.1 * torch.randn(6, 2, generator=generator(7))
    assert float(triplet_loss(manifold, *placed(manifold, [far]), labels).loss) == 0.0
    mixed = torch.randn(6, 2, generator=generator(8))
    losses = thirty_steps(lambda moved: triplet_loss(manifold, *placed(manifold, [moved]), labels).loss, [mixed])
    assert losses[0] > 0.5
    assert losses[-1] == 0.0


def test_bad_input_is_refused():
    flat, points, labels = Euclidean(), torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="at least 2 categories to have a negative, got 1"):
        attribute_triplets(flat, points, labels, points[:1], points)
    with pytest.raises(ValueError, match="at least 2 attributes to have a negative, got 1"):
        attribute_triplets(flat, points, labels, points, points[:1])
    with pytest.raises(ValueError, match="negatives to be 'hardest' or 'drawn', got 'easy'"):
        attribute_triplets(flat, points, labels, points, points, negatives="easy")
    with pytest.raises(ValueError, match="partners to be 'hardest' or 'drawn', got 'easy'"):
        triplet_loss(flat, points, labels, partners="easy")
    for refused in (
        lambda: attribute_triplets(flat, points, labels[:2], points, points),
        lambda: triplet_loss(flat, points, labels[:2]),
    ):
        with pytest.raises(ValueError, match=r"one label a point, got \(2,\) for points \(3, 2\)"):
            refused()
