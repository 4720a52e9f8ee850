"""HIER: a latent hierarchy from triplets and their lowest common ancestors among candidate nodes.

Source: Kim, Jeong, Kwak, "HIER: Metric Learning Beyond Class Labels via Hierarchical Regularization", CVPR 2023,
arXiv 2212.14258. Two defects of the public code are not carried over: an anchor is never among its own negatives, and
the neighbourhood is clamped to half of the nodes, so that negatives always remain.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot, relu

from manifolds.base import AbstractManifold


@dataclass(frozen=True)
class Triplets:
    """Index triples into one set of nodes: anchor and positive are related, the negative is not.

    Attributes:
        anchor, positive, negative: int64 (T,) each.
        anchors_kept: how many nodes had at least two reciprocal neighbours and one negative.
    """

    anchor: Int[Tensor, " t"]
    positive: Int[Tensor, " t"]
    negative: Int[Tensor, " t"]
    anchors_kept: int


@dataclass(frozen=True)
class HierTerm:
    """One hierarchical term with what it did.

    Attributes:
        loss: scalar, with a graph even when no triplet was found.
        triplets: number of triplets.
        wasted: fraction of them whose two ancestors were the same node (they give no loss).
        active: fraction of the three hinges above zero, over the triplets not wasted.
        candidates_used: number of different candidates chosen as an ancestor.
        anchors_kept: fraction of the nodes that served as anchors.
    """

    loss: Float[Tensor, ""]
    triplets: int
    wasted: Float[Tensor, ""]
    active: Float[Tensor, ""]
    candidates_used: Int[Tensor, ""]
    anchors_kept: float


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
    generator: torch.Generator | None = None,
) -> Triplets:
    """Triplets from reciprocal nearest neighbours (HIER, section on triplet sampling).

    j is a positive of i when each is among the other's `neighbours` most similar nodes; all other nodes but i itself
    are negatives. Anchors with fewer than two positives, or with no negative, are skipped.

    Args:
        similarity: (N, N) symmetric, larger is closer.
        neighbours: size of the neighbourhood with the node itself counted; clamped to N // 2.
        per_anchor: positives and negatives drawn per anchor, uniformly with replacement.
        generator: source of the draws, on the device of `similarity`.

    Example:
        >>> s = torch.eye(2).repeat_interleave(3, 0).repeat_interleave(3, 1)
        >>> t = mine_triplets(s, neighbours=3, per_anchor=4)
        >>> t.anchors_kept, bool(((t.anchor < 3) == (t.positive < 3)).all())
        (6, True)
    """
    n = similarity.shape[0]
    near = torch.zeros_like(similarity, dtype=torch.bool)
    k = min(neighbours, n // 2)
    if k > 0:
        near.scatter_(1, similarity.topk(k, dim=1).indices, True)
    positive = near & near.T
    positive.fill_diagonal_(False)
    negative = ~positive
    negative.fill_diagonal_(False)
    kept = ((positive.sum(1) >= 2) & negative.any(1)).nonzero().squeeze(1)
    if len(kept) == 0:
        empty = torch.zeros(0, dtype=torch.long, device=similarity.device)
        return Triplets(empty, empty, empty, 0)
    draw = lambda pool: torch.multinomial(pool[kept].float(), per_anchor, replacement=True, generator=generator)  # noqa: E731
    return Triplets(
        anchor=kept.repeat_interleave(per_anchor),
        positive=draw(positive).flatten(),
        negative=draw(negative).flatten(),
        anchors_kept=len(kept),
    )


def _choose(cost: Float[Tensor, "t p"], tau: float, generator: torch.Generator | None) -> Float[Tensor, "t p"]:
    """Straight-through Gumbel choice of the cheapest candidate: one-hot forward, softmax backward."""
    uniform = torch.rand(cost.shape, generator=generator, device=cost.device, dtype=cost.dtype)
    gumbel = -torch.log(-torch.log(uniform.clamp(min=torch.finfo(cost.dtype).tiny, max=1 - 1e-7)))
    soft = torch.softmax(-cost / tau + gumbel, dim=1)
    hard = one_hot(soft.argmax(1), cost.shape[1]).to(soft.dtype)
    return hard - soft.detach() + soft


def ancestor_loss(
    distances: Float[Tensor, "n p"],
    triplets: Triplets,
    *,
    tau: float = 0.1,
    margin: float = 0.1,
    generator: torch.Generator | None = None,
) -> HierTerm:
    """Pull a related pair to its own ancestor and the third node to the ancestor of all three (HIER's loss).

    Args:
        distances: (N, P), node to candidate ancestor.
        triplets: from `mine_triplets` over the same N nodes.
        tau: temperature of the ancestor choice, in units of distance.
        margin: hinge margin, in units of distance.
        generator: source of the Gumbel noise, on the device of `distances`.

    Returns:
        The mean over all triplets of the three hinges, zero where both ancestors are the same candidate.
    """
    if len(triplets.anchor) == 0:
        zero = distances.sum() * 0.0
        none = torch.zeros((), dtype=torch.long, device=distances.device)
        return HierTerm(zero, 0, zero.detach(), zero.detach(), none, 0.0)
    # index_select: the gradient of plain indexing is summed in an order that changes from run to run with threads
    d_i, d_j, d_k = (distances.index_select(0, i) for i in (triplets.anchor, triplets.positive, triplets.negative))
    pair_cost = torch.maximum(d_i, d_j)
    pair = _choose(pair_cost, tau, generator)
    triple = _choose(torch.maximum(pair_cost, d_k), tau, generator)
    gap = triple - pair
    hinges = torch.stack(
        [relu(margin - (d_i * gap).sum(1)), relu(margin - (d_j * gap).sum(1)), relu(margin + (d_k * gap).sum(1))]
    )
    chosen_pair, chosen_triple = pair.argmax(1), triple.argmax(1)
    useful = (chosen_pair != chosen_triple).to(hinges.dtype)
    loss = (hinges.sum(0) * useful).mean()
    active = ((hinges > 0) * useful).sum() / (3 * useful.sum()).clamp(min=1)
    used = torch.cat([chosen_pair, chosen_triple]).unique().numel()
    return HierTerm(
        loss,
        len(useful),
        1 - useful.mean(),
        active.detach(),
        torch.tensor(used, device=distances.device),
        triplets.anchors_kept / distances.shape[0],
    )


def hier_term(
    manifold: AbstractManifold,
    nodes: NodeSet,
    candidates: Float[Tensor, "p d"],
    *,
    neighbours: int = 20,
    per_anchor: int = 50,
    tau: float = 0.1,
    margin: float = 0.1,
    generator: torch.Generator | None = None,
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
        generator: source of every draw, on the device of the points.
    """
    if candidates.shape[0] < 2:
        raise ValueError(
            f"hier_term needs at least 2 candidate ancestors, got {candidates.shape[0]}; add attributes or proxies"
        )
    with torch.no_grad():
        similarity = torch.exp(-manifold.pairwise_dist(nodes.points, nodes.points))
        if nodes.labels is not None:
            same = (nodes.labels[:, None] == nodes.labels[None, :]) & (nodes.labels >= 0)[:, None]
            similarity = similarity + same.to(similarity.dtype)
    triplets = mine_triplets(similarity, neighbours, per_anchor, generator)
    distances = manifold.pairwise_dist(nodes.points, candidates)
    return ancestor_loss(distances, triplets, tau=tau, margin=margin, generator=generator)
