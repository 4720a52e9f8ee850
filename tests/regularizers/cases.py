"""Every regularizer on small sets of points, with a twin that loops over scalars: the list that the laws run over."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from manifolds import Euclidean, Lorentz, PoincareBall
from manifolds.regularizers import (
    GeneratorDraws,
    NodeSet,
    attribute_triplets,
    entailment_loss,
    hier_term,
    radius_order,
    radius_targets,
    tree_distance_loss,
    tree_distances,
    triplet_loss,
)

MANIFOLDS = {
    "ball": lambda: PoincareBall(0.7, learnable=True),
    "lorentz": lambda: Lorentz(0.7, learnable=True),
    "flat": Euclidean,
}
RADII = torch.tensor([0.2, 0.9, 1.7])
MARGIN = 0.3
K = 0.2
NEIGHBOURS, PER_ANCHOR, TAU = 4, 5, 0.4
TREES = [tree_distances((torch.arange(n) - 1).div(2, rounding_mode="floor")) for n in range(1, 16)]
TREES = [torch.zeros(0, 0), *TREES]


@dataclass(frozen=True)
class Case:
    """A regularizer.

    Attributes:
        sizes: of its sets of points.
        term: of a manifold, the sets and random numbers.
        twin: the same in a loop, with the numbers drawn.
        made_of: distances, angles or radii.
        keeps: whether sets but the first hold points at all times.
        straight: whether the gradient is a surrogate's (straight through a choice).
    """

    sizes: tuple[int, ...]
    term: Callable[..., Any]
    twin: Callable[..., float]
    made_of: str
    keeps: bool = False
    straight: bool = False


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(seed=0):
    return GeneratorDraws(generator(seed))


def features(case, seed=0, dim=3, spread=0.6, dtype=torch.float64):
    """Random features for each set, in tangent units."""
    source = generator(seed)
    return [spread * torch.randn(n, dim, dtype=dtype, generator=source) for n in case.sizes]


def placed(manifold, sets):
    return [manifold.expmap0(manifold.tangent0(u)) for u in sets]


def thirty_steps(loss_of, leaves, rate=0.1):
    """Losses before each of thirty steps of Adam on the leaves, with one more after the last."""
    leaves = [u.requires_grad_() for u in leaves]
    optimizer, losses = torch.optim.Adam(leaves, lr=rate), []
    for _ in range(30):
        loss = loss_of(*leaves)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [*losses, float(loss_of(*leaves).detach())]


def labels_of(points, classes):
    return torch.arange(points.shape[0], device=points.device) % classes


def some_relation(parents, children):
    p, c = parents.shape[0], children.shape[0]
    return (torch.arange(p, device=parents.device)[:, None] + 2 * torch.arange(c, device=parents.device)) % 3 == 0


def some_tree(points):
    """A heap-shaped binary tree of as many nodes as there are points."""
    return TREES[points.shape[0]].to(points.device)


def distance(manifold, x, y):
    return float(manifold.dist(x, y))


def attribute_twin(manifold, sets, numbers):
    images, categories, attributes = sets
    total = 0.0
    for b, x in enumerate(images):
        y = b % len(categories)
        reach = [max(distance(manifold, x, a), distance(manifold, categories[y], a)) for a in attributes]
        best = min(range(len(attributes)), key=reach.__getitem__)
        to_image = [distance(manifold, x, a) for a in attributes]
        to_best = [distance(manifold, attributes[best], t) for t in categories]
        for costs, positive, keys in (
            (to_image, best, numbers[0][b] if numbers else to_image),
            (to_best, y, numbers[1][b] if numbers else to_best),
        ):
            negative = min((i for i in range(len(costs)) if i != positive), key=lambda i, keys=keys: float(keys[i]))
            total += max(0.0, costs[positive] - costs[negative] + MARGIN)
    return total / len(images)


def triplet_twin(manifold, sets, numbers):
    (points,) = sets
    hinges = []
    for i, x in enumerate(points):
        apart = [distance(manifold, x, y) for y in points]
        friends = [j for j in range(len(points)) if j != i and j % 3 == i % 3]
        others = [j for j in range(len(points)) if j % 3 != i % 3]
        if numbers:
            positive = min(friends, key=lambda j, i=i: float(numbers[0][i, j]))
            negative = min(others, key=lambda j, i=i: float(numbers[1][i, j]))
        else:
            positive, negative = max(friends, key=apart.__getitem__), min(others, key=apart.__getitem__)
        hinges.append(max(0.0, apart[positive] - apart[negative] + MARGIN))
    return sum(hinges) / len(hinges)


def entailment_twin(manifold, sets, aligned):
    inside, outside = [], []
    pairs = zip(*sets, strict=True) if aligned else itertools.product(*sets)
    related = torch.ones(len(sets[0])) if aligned else some_relation(*sets).flatten()
    for (x, y), belongs in zip(pairs, related, strict=True):
        angle, aperture = float(manifold.cone_angle(x, y)), float(manifold.half_aperture(x, K))
        (inside if belongs else outside).append(max(0.0, angle - aperture if belongs else aperture - angle + MARGIN))
    return sum(inside) / len(inside) + (sum(outside) / len(outside) if outside else 0.0)


def radius_twin(manifold, sets, aligned):
    pairs = zip(*sets, strict=True) if aligned else itertools.product(*sets)
    related = torch.ones(len(sets[0])) if aligned else some_relation(*sets).flatten()
    hinges = [
        max(0.0, MARGIN + float(manifold.dist0(x)) - float(manifold.dist0(y)))
        for (x, y), belongs in zip(pairs, related, strict=True)
        if belongs
    ]
    return sum(hinges) / len(hinges)


def target_twin(manifold, sets, _numbers):
    (points,) = sets
    errors = [float(manifold.dist0(x)) - float(RADII[i % len(RADII)]) for i, x in enumerate(points)]
    return sum(error**2 for error in errors) / len(errors)


def tree_twin(manifold, sets, mode, scale):
    (points,) = sets
    tree = some_tree(points)
    rows = []
    for i, j in itertools.combinations(range(len(points)), 2):
        t = float(tree[i, j])
        rows.append((distance(manifold, points[i], points[j]), t, 1 / t**2 if mode == "relative" else 1.0))
    if scale is None:
        scale = sum(w * d * d for d, _, w in rows) / sum(w * d * t for d, t, w in rows)
    return sum(w * (d / scale - t) ** 2 for d, t, w in rows) / sum(w * t * t for _, t, w in rows)


def ancestors_twin(manifold, sets, numbers):
    nodes, candidates = sets
    n, apart = len(nodes), [[distance(manifold, x, a) for a in candidates] for x in nodes]
    near = [
        sorted(range(n), key=lambda j, x=x: distance(manifold, x, nodes[j]))[: min(NEIGHBOURS, n // 2)] for x in nodes
    ]
    hinges, valid = 0.0, 0
    for i in range(n):
        positive = sorted(j for j in near[i] if i in near[j] and j != i)
        negative = [j for j in range(n) if j not in positive and j != i]
        for draw in range(PER_ANCHOR if len(positive) >= 2 and negative else 0):
            valid += 1
            triple = [i]
            for pool, uniform in ((positive, numbers[0][i, draw]), (negative, numbers[1][i, draw])):
                triple.append(pool[min(int(uniform * len(pool)), len(pool) - 1)])
            chosen = []
            for members, uniforms in ((triple[:2], numbers[2]), (triple, numbers[3])):
                gumbel = -(-uniforms[i * PER_ANCHOR + draw].double().log()).log()
                reach = [max(apart[m][a] for m in members) for a in range(len(candidates))]
                chosen.append(max(range(len(candidates)), key=lambda a, r=reach, g=gumbel: float(g[a]) - r[a] / TAU))
            if chosen[0] != chosen[1]:
                for m, sign in zip(triple, (1, 1, -1), strict=True):
                    hinges += max(0.0, sign * (apart[m][chosen[0]] - apart[m][chosen[1]]) + MARGIN)
    return hinges / valid


def hier_case():
    def term(manifold, sets, source=None):
        nodes, candidates = sets
        settings = {"neighbours": NEIGHBOURS, "per_anchor": PER_ANCHOR, "tau": TAU, "margin": MARGIN, "draws": source}
        return hier_term(manifold, NodeSet(nodes), candidates, **settings)

    return Case((9, 4), term, ancestors_twin, "distances", keeps=True, straight=True)


def attribute_case(negatives):
    def term(manifold, sets, source=None):
        images, categories, attributes = sets
        labels = labels_of(images, categories.shape[0])
        settings = {"margin": MARGIN, "negatives": negatives, "draws": source}
        return attribute_triplets(manifold, images, labels, categories, attributes, **settings)

    return Case((6, 3, 4), term, attribute_twin, "distances", keeps=True)


def triplet_case(partners):
    def term(manifold, sets, source=None):
        return triplet_loss(manifold, sets[0], labels_of(sets[0], 3), margin=MARGIN, partners=partners, draws=source)

    return Case((7,), term, triplet_twin, "distances")


def entailment_case(aligned):
    def term(manifold, sets, _source=None):
        relation, margin = (None, None) if aligned else (some_relation(*sets), MARGIN)
        return entailment_loss(manifold, *sets, relation, k=K, margin=margin)

    return Case(
        (5, 5) if aligned else (4, 6), term, lambda m, sets, _numbers: entailment_twin(m, sets, aligned), "angles"
    )


def radius_case(aligned):
    def term(manifold, sets, _source=None):
        return radius_order(manifold, *sets, None if aligned else some_relation(*sets), margin=MARGIN)

    return Case((5, 5) if aligned else (4, 6), term, lambda m, sets, _numbers: radius_twin(m, sets, aligned), "radii")


def target_case():
    def term(manifold, sets, _source=None):
        return radius_targets(manifold, sets[0], labels_of(sets[0], 3), RADII.to(sets[0].device))

    return Case((5,), term, target_twin, "radii")


def tree_case(mode, scale):
    def term(manifold, sets, _source=None):
        return tree_distance_loss(manifold, sets[0], some_tree(sets[0]), scale=scale, mode=mode)

    return Case((7,), term, lambda m, sets, _numbers: tree_twin(m, sets, mode, scale), "distances")


CASES = {
    "hier": hier_case(),
    "attributes, hardest": attribute_case("hardest"),
    "attributes, drawn": attribute_case("drawn"),
    "triplets, hardest": triplet_case("hardest"),
    "triplets, drawn": triplet_case("drawn"),
    "entailment, aligned": entailment_case(True),
    "entailment, related": entailment_case(False),
    "radius order, aligned": radius_case(True),
    "radius order, related": radius_case(False),
    "radius targets": target_case(),
    "tree distances, relative": tree_case("relative", None),
    "tree distances, absolute": tree_case("absolute", None),
    "tree distances, given scale": tree_case("relative", 0.8),
}
