"""HIER: a latent hierarchy from triplets and their lowest common ancestors among candidate nodes.

Source: Kim, Jeong, Kwak, "HIER: Metric Learning Beyond Class Labels via Hierarchical Regularization", CVPR 2023,
arXiv 2212.14258. Two defects of the public code are not carried over: an anchor is never among its own negatives, and
the neighbourhood is clamped to half of the nodes, so that negatives always remain.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import relu

from manifolds.base import AbstractManifold
from manifolds.regularizers.ancestors import chosen_gaps
from manifolds.regularizers.draws import AbstractDraws, GeneratorDraws
from manifolds.scalars import sinh_ratio, without_autocast


@dataclass(frozen=True)
class Triplets:
    """Index triples into one set of nodes: anchor and positive are related, the negative is not.

    Every node is an anchor of equally many triples, so that shapes do not depend on values; those of nodes that cannot
    serve are marked and count for nothing.

    Attributes:
        anchor, positive, negative: int64 (T,) each.
        valid: (T,), False for triples of a node with fewer than two reciprocal neighbours or no negative.
        anchors_kept: number of nodes whose triples are valid.
    """

    anchor: Int[Tensor, " t"]
    positive: Int[Tensor, " t"]
    negative: Int[Tensor, " t"]
    valid: Bool[Tensor, " t"]
    anchors_kept: Int[Tensor, ""]


@dataclass(frozen=True)
class HierTerm:
    """One hierarchical term with what it did; all are tensors, so that nothing waits for a device.

    Attributes:
        loss: scalar, with a graph even when no triplet was found.
        triplets: number of valid triplets.
        wasted: fraction of them whose two ancestors were the same node (they give no loss).
        active: fraction of the three hinges above zero, over the triplets not wasted.
        candidates_used: number of different candidates chosen as an ancestor.
        anchors_kept: fraction of the nodes that served as anchors.
    """

    loss: Float[Tensor, ""]
    triplets: Int[Tensor, ""]
    wasted: Float[Tensor, ""]
    active: Float[Tensor, ""]
    candidates_used: Int[Tensor, ""]
    anchors_kept: Float[Tensor, ""]


@dataclass(frozen=True)
class NodeSet:
    """Points of one set on the manifold, with labels where they are known.

    Attributes:
        points: (N, D).
        labels: int64 (N,) or None; equal labels count as a bonus of 1 in similarity, negative labels match nothing.
    """

    points: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"] | None = None


@torch.no_grad()
def mine_triplets(
    similarity: Float[Tensor, "n n"],
    neighbours: int = 20,
    per_anchor: int = 50,
    draws: AbstractDraws | None = None,
) -> Triplets:
    """Triplets from reciprocal nearest neighbours (HIER, section on triplet sampling).

    j is a positive of i when each is among the other's `neighbours` most similar nodes; all other nodes but i itself
    are negatives. Anchors with fewer than two positives, or with no negative, are not valid.

    Args:
        similarity: (N, N) symmetric, larger is closer.
        neighbours: size of the neighbourhood with the node itself counted; clamped to N // 2.
        per_anchor: positives and negatives drawn per anchor, uniformly with replacement.
        draws: random numbers, two (N, per_anchor) tensors; torch's global generator where left out.

    Example:
        >>> s = torch.eye(2).repeat_interleave(3, 0).repeat_interleave(3, 1)
        >>> t = mine_triplets(s, neighbours=3, per_anchor=4)
        >>> int(t.anchors_kept), bool(((t.anchor < 3) == (t.positive < 3)).all())
        (6, True)
    """
    n, device = similarity.shape[0], similarity.device
    draws = draws or GeneratorDraws(device=device)
    itself, filler = torch.arange(n, device=device)[:, None], 2 * n
    near = similarity.topk(min(n, max(1, min(neighbours, n // 2))), dim=1, sorted=False).indices
    is_near = torch.zeros_like(similarity, dtype=torch.bool).scatter(1, near, True)
    mutual = is_near.T.gather(1, near) & (near != itself)
    taken = torch.cat([torch.where(mutual, near, filler), itself], 1).sort(1).values
    count = mutual.sum(1, keepdim=True)
    positive = _place(draws.rand(n, per_anchor), count)
    positive = taken.gather(1, positive + (positive >= (taken < itself).sum(1, keepdim=True)))
    free_before = torch.where(taken < n, taken - torch.arange(taken.shape[1], device=device), n)
    negative = _place(draws.rand(n, per_anchor), n - 1 - count)
    negative = negative + torch.searchsorted(free_before, negative, right=True)
    kept = ((count >= 2) & (count < n - 1)).squeeze(1)
    return Triplets(
        anchor=itself.expand(n, per_anchor).flatten(),
        positive=positive.clamp(max=n - 1).flatten(),
        negative=negative.clamp(max=n - 1).flatten(),
        valid=kept[:, None].expand(n, per_anchor).flatten(),
        anchors_kept=kept.sum(),
    )


def _place(uniform: Float[Tensor, "n t"], count: Int[Tensor, "n 1"]) -> Int[Tensor, "n t"]:
    """Places in lists of `count` members, uniformly by inverse CDF; 0 where a list is empty."""
    return torch.minimum((uniform * count).long(), (count - 1).clamp(min=0))


def _gumbel(uniform: Float[Tensor, "t p"], dtype: torch.dtype) -> Float[Tensor, "t p"]:
    """Gumbel noise from uniform numbers."""
    noise = uniform.to(dtype).clamp(min=torch.finfo(dtype).tiny, max=1 - 1e-7)
    return noise.log_().neg_().log_().neg_()


def ancestor_loss(
    distances: Float[Tensor, "n p"],
    triplets: Triplets,
    *,
    tau: float = 0.1,
    margin: float = 0.1,
    draws: AbstractDraws | None = None,
) -> HierTerm:
    """Pull a related pair to its own ancestor and the third node to the ancestor of all three (HIER's loss).

    Args:
        distances: (N, P), node to candidate ancestor.
        triplets: from `mine_triplets` over the same N nodes.
        tau: temperature of the ancestor choice, in units of distance.
        margin: hinge margin, in units of distance.
        draws: random numbers of the Gumbel noise, two (T, P) tensors; torch's global generator where left out.

    Returns:
        The mean over all valid triplets of the three hinges, zero where both ancestors are the same candidate.
    """
    draws = draws or GeneratorDraws(device=distances.device)
    nodes = (triplets.anchor, triplets.positive, triplets.negative)
    shape = (len(triplets.anchor), distances.shape[1])
    noises = [_gumbel(draws.rand(*shape), distances.dtype) for _ in range(2)]
    gaps, chosen = chosen_gaps(distances / -tau, *nodes, *noises)
    hinges = relu(margin + tau * torch.cat([gaps[:2], -gaps[2:]]))
    valid = triplets.valid
    useful = valid & (chosen[:, 0] != chosen[:, 1])
    count, useful_count = valid.sum(), useful.sum()
    loss = torch.where(useful, hinges.sum(0), 0.0).sum() / count.clamp(min=1)
    wasted = torch.where(count > 0, 1 - useful_count / count.clamp(min=1), 0.0)
    active = ((hinges > 0) & useful).sum() / (3 * useful_count).clamp(min=1)
    counted = torch.zeros(shape[1], device=gaps.device).scatter_add(
        0, chosen.flatten(), valid[:, None].expand(-1, 2).flatten().to(torch.float32)
    )
    used = (counted > 0).sum()
    return HierTerm(loss, count, wasted, active, used, triplets.anchors_kept / max(distances.shape[0], 1))


def _nearness(manifold: AbstractManifold, points: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """``-sinh²(√c d/2)/c`` of all pairs, which falls with the distance d; one product in the dtype of the points.

    For tangents u, v at the origin and S = sinh(√c|u|)/√c the hyperbolic law of cosines gives sinh²(√c d/2)/c =
    S² + S'² + 2c S² S'² - 2 S C S' C' cos(u, v) with C = cosh(√c|u|).
    """
    u = manifold.features0(manifold.logmap0(points))
    c, square = manifold.curvature.to(u), torch.linalg.vector_norm(u, dim=-1, keepdim=True).square()
    ratio = sinh_ratio(c * square)
    s = square * ratio.square()
    way = u * (ratio * (1 + c * s).sqrt())
    lengths = torch.addcmul(-s.T, s, -1 - 2 * c * s.T)
    with without_autocast(way):  # in half precision neighbours would change
        return torch.add(lengths, way @ way.T, alpha=2).clamp(max=0)


def hier_term(
    manifold: AbstractManifold,
    nodes: NodeSet,
    candidates: Float[Tensor, "p d"],
    *,
    neighbours: int = 20,
    per_anchor: int = 50,
    tau: float = 0.1,
    margin: float = 0.1,
    draws: AbstractDraws | None = None,
) -> HierTerm:
    """One term of a hierarchical regulariser: `nodes` arranged under `candidates` as possible ancestors.

    HIER's loss is the sum of two such terms: data nodes under proxies, and proxies under proxies. Distances come from
    `manifold.pairwise_dist`, so no (N, P, D) tensor is built. Defaults are those of HIER's published scripts.

    Args:
        manifold: where the points live.
        nodes: the samples to arrange.
        candidates: (P, D) possible ancestors; may be the nodes themselves.
        neighbours: see `mine_triplets`.
        per_anchor: see `mine_triplets`.
        tau: see `ancestor_loss`.
        margin: see `ancestor_loss`.
        draws: random numbers of every choice; torch's global generator where left out.
    """
    if candidates.shape[0] < 2:
        raise ValueError(
            f"hier_term needs at least 2 candidate ancestors, got {candidates.shape[0]}; add attributes or proxies"
        )
    distances = manifold.pairwise_dist(nodes.points, candidates)
    with torch.no_grad():
        similarity = -distances if candidates is nodes.points else _nearness(manifold, nodes.points)
        if nodes.labels is not None:
            same = (nodes.labels[:, None] == nodes.labels) & (nodes.labels >= 0)
            similarity = torch.where(same, (1 - similarity).reciprocal(), similarity)
    draws = draws or GeneratorDraws(device=similarity.device)
    triplets = mine_triplets(similarity, neighbours, per_anchor, draws)
    return ancestor_loss(distances, triplets, tau=tau, margin=margin, draws=draws)
