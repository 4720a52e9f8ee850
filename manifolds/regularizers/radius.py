"""Radius as generality: parents nearer the origin than their children, or every level at a radius of its own."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import relu

from manifolds.base import AbstractManifold
from manifolds.regularizers.pairs import Relation, fraction, masked_mean, related_pairs


@dataclass(frozen=True)
class RadiusTerm:
    """The order of radii, with what it found.

    Attributes:
        loss: scalar, with a graph even when there is no pair.
        pairs: number of pairs that count.
        in_order: fraction of them whose child is farther from the origin than its parent, the margin not asked for.
        gap: mean of how much farther the child is, in units of distance.
    """

    loss: Float[Tensor, ""]
    pairs: Int[Tensor, ""]
    in_order: Float[Tensor, ""]
    gap: Float[Tensor, ""]


@dataclass(frozen=True)
class RadiusTargetTerm:
    """Points beside the radii of their levels.

    Attributes:
        loss: scalar, with a graph even when there is no point.
        points: number of points that count.
        error: mean distance of their radii from the targets.
    """

    loss: Float[Tensor, ""]
    points: Int[Tensor, ""]
    error: Float[Tensor, ""]


def radius_order(
    manifold: AbstractManifold,
    parents: Float[Tensor, "p d"],
    children: Float[Tensor, "c d"],
    relation: Relation | None = None,
    *,
    margin: float = 0.1,
) -> RadiusTerm:
    """Children farther out than their parents: the mean over pairs of ``[m + d(0, parent) - d(0, child)]₊``.

    Args:
        manifold: where the points live.
        parents: (P, D).
        children: (C, D).
        relation: bool (P, C), True where a child belongs to a parent; left out, row i of both is a pair.
        margin: how much farther out, in units of distance.

    Raises:
        TypeError: the relation is not boolean.
        ValueError: its shape does not fit, or pairs are aligned and P differs from C.

    Example:
        >>> import torch
        >>> from manifolds import Euclidean
        >>> term = radius_order(Euclidean(), torch.tensor([[0.5, 0.0]]), torch.tensor([[0.0, 0.25]]))
        >>> float(term.loss), float(term.in_order)
        (0.6000000238418579, 0.0)
    """
    counted = related_pairs(parents, children, relation)
    inner, outer = manifold.dist0(parents), manifold.dist0(children)
    gaps = outer - (inner if relation is None else inner[:, None])
    return RadiusTerm(
        loss=masked_mean(relu(margin - gaps), counted),
        pairs=counted.sum(),
        in_order=fraction(gaps > 0, counted),
        gap=masked_mean(gaps, counted).detach(),
    )


def radius_targets(
    manifold: AbstractManifold,
    points: Float[Tensor, "n d"],
    levels: Int[Tensor, " n"],
    radii: Float[Tensor, " l"],
) -> RadiusTargetTerm:
    """Every level of a hierarchy at its radius: the mean over points of ``(d(0, x) - radius of its level)²``.

    Args:
        manifold: where the points live.
        points: (N, D).
        levels: int64 (N,), the level of each point, 0 for the most general; negative ones count for nothing.
        radii: (L,), distance from the origin for each level; may be learnable.

    Raises:
        ValueError: another number of levels than points, or ``radii`` is not a vector.

    Example:
        >>> import torch
        >>> from manifolds import Euclidean
        >>> points = torch.tensor([[0.0, 0.0], [0.5, 0.0]])
        >>> float(radius_targets(Euclidean(), points, torch.tensor([0, 1]), torch.tensor([0.0, 2.0])).loss)
        0.5
    """
    if tuple(levels.shape) != tuple(points.shape[:1]) or radii.ndim != 1:
        raise ValueError(
            f"radius_targets needs one level a point and one radius a level, got levels {(*levels.shape,)} for points "
            f"{(*points.shape,)} and radii {(*radii.shape,)}"
        )
    counted = levels >= 0
    found = manifold.dist0(points)
    error = found - radii.to(found.dtype).index_select(0, levels.clamp(min=0))
    return RadiusTargetTerm(
        loss=masked_mean(error.square(), counted),
        points=counted.sum(),
        error=masked_mean(error.abs(), counted).detach(),
    )
