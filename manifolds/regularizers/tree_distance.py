"""Where a taxonomy is known: distances on the manifold that follow path lengths in its tree."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from manifolds.base import AbstractManifold
from manifolds.regularizers.pairs import masked_mean


@dataclass(frozen=True)
class TreeDistanceTerm:
    """How well distances follow a tree.

    Attributes:
        loss: scalar, with a graph even when there is no pair.
        stress: its square root (Kruskal's stress-1 for ``mode="absolute"``).
        relative_error: mean over pairs of ``|d/(scale t) - 1|``.
        scale: distance on the manifold for one unit of tree distance, given or fitted; zero where all points coincide.
    """

    loss: Float[Tensor, ""]
    stress: Float[Tensor, ""]
    relative_error: Float[Tensor, ""]
    scale: Float[Tensor, ""]


def tree_distance_loss(
    manifold: AbstractManifold,
    points: Float[Tensor, "n d"],
    tree_distances: Num[Tensor, "n n"],
    *,
    scale: float | Float[Tensor, ""] | None = None,
    mode: Literal["relative", "absolute"] = "relative",
) -> TreeDistanceTerm:
    """Stress ``Σ w (d/scale - t)² / Σ w t²`` of distances ``d`` on the manifold against tree distances ``t``.

    The fitted scale is that of least stress, ``Σ w d² / Σ w d t``, in closed form. It takes no gradient and needs none:
    at the least value the derivative in the scale is zero.

    Args:
        manifold: where the points live.
        points: (N, D).
        tree_distances: (N, N), symmetric, zero on the diagonal, as from ``tree_distances``; pairs of negative distance
            are not known and count for nothing.
        scale: distance on the manifold for one unit of tree distance: a positive number, a tensor to be learnt, or None
            to fit it.
        mode: "relative" has weights ``w = 1/t²``: the mean square relative error over pairs with ``t > 0``, in which
            siblings count as much as strangers. "absolute" has ``w = 1``, and pairs with ``t = 0`` count.

    Raises:
        ValueError: the matrix does not fit the points, ``scale <= 0``, or an unknown mode.

    Example:
        >>> from manifolds import Euclidean
        >>> line = torch.tensor([[0.0], [1.0], [-1.0]])
        >>> term = tree_distance_loss(Euclidean(), line, tree_distances(torch.tensor([-1, 0, 0])))
        >>> float(term.loss), float(term.scale)
        (0.0, 2.0)
    """
    n = points.shape[0]
    if tuple(tree_distances.shape) != (n, n):
        raise ValueError(f"tree_distance_loss needs a ({n}, {n}) matrix for {n} points, got {(*tree_distances.shape,)}")
    if mode not in ("relative", "absolute"):
        raise ValueError(f"tree_distance_loss needs mode 'relative' or 'absolute', got {mode!r}")
    if scale is not None and not isinstance(scale, Tensor) and not scale > 0:
        raise ValueError(f"tree_distance_loss needs scale > 0, got {scale}; leave it out to have it fitted")
    found = manifold.pairwise_dist(points)
    wanted = tree_distances.to(found.dtype)
    inverse = torch.where(wanted > 0, 1.0 / torch.where(wanted > 0, wanted, 1.0), 0.0)
    weights = inverse.square() if mode == "relative" else (wanted >= 0).to(found.dtype)
    per_distance = _fitted(found.detach(), wanted, weights) if scale is None else 1.0 / scale
    error = found * per_distance - wanted
    total = (weights * wanted.square()).sum()
    loss = (weights * error.square()).sum() / torch.where(total > 0, total, 1.0)
    return TreeDistanceTerm(
        loss=loss,
        stress=loss.detach().sqrt(),
        relative_error=masked_mean((error * inverse).abs(), wanted > 0).detach(),
        scale=_inverse(torch.as_tensor(per_distance, dtype=found.dtype, device=found.device)).detach(),
    )


def _fitted(found: Tensor, wanted: Tensor, weights: Tensor) -> Float[Tensor, ""]:
    """Tree distance for one unit of distance, of least stress; zero where all points coincide."""
    return (weights * found * wanted).sum() * _inverse((weights * found.square()).sum())


def _inverse(value: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """``1/value``, zero for zero."""
    return torch.where(value > 0, 1.0 / torch.where(value > 0, value, 1.0), 0.0)


def tree_distances(parents: Int[Tensor, " n"]) -> Int[Tensor, "n n"]:
    """Number of edges between all pairs of nodes of a tree, level by level: one step in Python a level.

    Two nodes of one level are two edges farther apart than their parents, a node and one of a level above are one edge
    farther apart than the first one's parent and the second.

    Args:
        parents: int64 (N,), the parent of each node; -1 for the root.

    Returns:
        int64 (N, N), symmetric, zero on the diagonal.

    Raises:
        TypeError: the parents are not integers.
        ValueError: they are not a vector, there is no root or more than one, a parent is no node, or there is a cycle.

    Example:
        >>> tree_distances(torch.tensor([-1, 0, 0, 1]))[3]
        tensor([2, 1, 3, 0])
    """
    parents, depth = _with_depths(parents)
    distances = torch.zeros(len(parents), len(parents), dtype=torch.int64, device=parents.device)
    for level in range(1, int(depth.max()) + 1):
        here, above = (depth == level).nonzero()[:, 0], (depth < level).nonzero()[:, 0]
        up = distances[parents[here]]
        distances[here[:, None], above] = up[:, above] + 1
        distances[above[:, None], here] = (up[:, above] + 1).mT
        distances[here[:, None], here] = (up[:, parents[here]] + 2).fill_diagonal_(0)
    return distances


def _with_depths(parents: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """The parents as int64 and the edges from the root to each node; raises where the vector is no tree."""
    if parents.is_floating_point() or parents.is_complex() or parents.dtype == torch.bool:
        raise TypeError(f"tree_distances needs integer parents, got {parents.dtype}; convert with .long()")
    if parents.ndim != 1:
        raise ValueError(f"tree_distances needs a vector of parents, got shape {(*parents.shape,)}")
    parents = parents.long()
    n, roots = len(parents), (parents == -1).nonzero()[:, 0].tolist()
    if len(roots) != 1:
        raise ValueError(f"tree_distances needs one root (parent -1), got {len(roots)} at nodes {roots[:5]}")
    wrong = ((parents < -1) | (parents >= n)).nonzero()[:, 0].tolist()
    if wrong:
        got = f"{int(parents[wrong[0]])} for node {wrong[0]}"
        raise ValueError(f"tree_distances needs parents among the nodes 0 to {n - 1}, got {got}")
    depth, ancestor = torch.zeros_like(parents), parents
    for _ in range(n):
        depth += ancestor >= 0
        ancestor = torch.where(ancestor >= 0, parents[ancestor.clamp(min=0)], -1)
        if not bool((ancestor >= 0).any()):
            return parents, depth
    lost = int((ancestor >= 0).nonzero()[0])
    raise ValueError(f"tree_distances needs a tree, got a cycle: node {lost} never reaches the root {roots[0]}")
