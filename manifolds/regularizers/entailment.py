"""Entailment cones: a child lies inside the cone that opens at its parent, away from the origin.

Sources: Ganea, Bécigneul, Hofmann, "Hyperbolic Entailment Cones for Learning Hierarchical Embeddings", ICML 2018 (the
cones and the max-margin loss over related and unrelated pairs); Desai et al., "Hyperbolic Image-Text Representations"
(MERU), ICML 2023 (aligned pairs, none of them negative).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import relu

from manifolds import scalars
from manifolds.base import AbstractManifold
from manifolds.euclidean import Euclidean
from manifolds.lorentz import Lorentz
from manifolds.pairwise import pairwise_root
from manifolds.poincare import PoincareBall
from manifolds.regularizers.pairs import Relation, fraction, masked_mean, related_pairs


@dataclass(frozen=True)
class EntailmentTerm:
    """Cones over pairs, with what they hold.

    Attributes:
        loss: scalar, with a graph even when there is no pair.
        pairs: number of related pairs.
        inside: fraction of them whose child is inside its parent's cone.
        active_negatives: fraction of the unrelated pairs pushed out; zero where none is.
    """

    loss: Float[Tensor, ""]
    pairs: Int[Tensor, ""]
    inside: Float[Tensor, ""]
    active_negatives: Float[Tensor, ""]


def entailment_loss(
    manifold: PoincareBall | Lorentz | Euclidean,
    parents: Float[Tensor, "p d"],
    children: Float[Tensor, "c d"],
    relation: Relation | None = None,
    *,
    k: float = 0.1,
    margin: float | None = None,
) -> EntailmentTerm:
    """Children inside the cones of their parents and, with a margin, others outside: a mean for each of the two.

    Related pairs cost ``[angle - half-aperture]₊``, unrelated ones ``[margin - (angle - half-aperture)]₊``, both in
    radians. Ganea et al. cap the second at ``margin``, which leaves no gradient to a child inside the cone; we
    do not. They sum over pairs; we take means, so that the many unrelated pairs do not drown the related ones.

    Args:
        manifold: where the points live.
        parents: (P, D).
        children: (C, D).
        relation: bool (P, C), True where a child belongs to a parent; left out, row i of both is a pair (MERU).
        k: width of the cones, see ``cones.half_aperture``.
        margin: angle by which children of others are pushed out of a cone; None pushes nothing out.

    Raises:
        TypeError: the relation is not boolean.
        ValueError: its shape does not fit, ``k <= 0``, or there is a margin without a relation.

    Example:
        >>> from manifolds import PoincareBall
        >>> parents, children = torch.tensor([[0.3, 0.0], [0.0, 0.3]]), torch.tensor([[0.8, 0.0], [0.0, 0.8]])
        >>> term = entailment_loss(PoincareBall(), parents, children, torch.eye(2) > 0, margin=0.1)
        >>> float(term.loss), float(term.inside), float(term.active_negatives)
        (0.0, 1.0, 0.0)
    """
    related = related_pairs(parents, children, relation)
    if relation is None:
        if margin is not None:
            raise ValueError(f"entailment_loss with margin={margin} needs a relation to know which pairs to push out")
        excess = manifold.cone_angle(parents, children) - manifold.half_aperture(parents, k)
    else:
        excess = pairwise_cone_angle(manifold, parents, children) - manifold.half_aperture(parents, k)[:, None]
    loss, active = masked_mean(relu(excess), related), torch.zeros_like(excess.sum().detach())
    if margin is not None:
        hinges = relu(margin - excess)
        loss, active = loss + masked_mean(hinges, ~related), fraction(hinges > 0, ~related)
    return EntailmentTerm(loss, related.sum(), fraction(excess <= 0, related), active)


def pairwise_cone_angle(
    manifold: AbstractManifold, apexes: Float[Tensor, "p d"], points: Float[Tensor, "c d"]
) -> Float[Tensor, "p c"]:
    """Angle at every apex between the ray away from the origin and the geodesic to every point, without a (P, C, D).

    In the triangle of the origin, the apex at radius ``a`` and the point at radius ``b``, with ``φ`` the angle at the
    origin, ``S = sinh(√c(b - a))/√c`` and ``T = tanh(√c b)/√c``, the angle wanted is

        ``atan2(T sin φ sech √c a, S sech √c a sech √c b - 2 T sin² φ/2)``.

    It needs radii and ``sin φ/2``, half the distance between two unit vectors, for which matrix products and their
    guard for near pairs are at hand. It holds in every model and, as ``φ``, ``b - a`` and ``T`` stay, for ``c -> 0``.

    Args:
        manifold: where the points live.
        apexes: (P, D); at the origin, where no ray starts, the angle is 0 with gradient zero.
        points: (C, D).

    Returns:
        Angles in radians, (P, C), in [0, π], float32 or wider; 0 with gradient zero where a point is the apex.

    Numerics:
        Against ``cone_angle`` of all pairs in float64: 3e-15 in general, 1e-9 for points at a millionth of their radius
        from the apex, 5e-8 for points opposite to it; for float32 points below their rounding. 300 × 2000 points of
        512 dimensions on one CPU thread, with gradients: 0.65 s and 0.4 GB, against 70 s and 12 GB with a (P, C, D).

    Example:
        >>> from manifolds import PoincareBall
        >>> pairwise_cone_angle(PoincareBall(), torch.tensor([[0.5, 0.0]]), torch.tensor([[0.9, 0.0], [0.1, 0.0]]))
        tensor([[0.0000, 3.1416]])
    """
    apexes, points = scalars.as_vectors(apexes, points, names="pairwise_cone_angle")
    (a, away), (b, towards) = (_polar(manifold, x.to(scalars.wide_dtype(x))) for x in (apexes, points))
    c, b = manifold.curvature, b.mT
    half_chord = pairwise_root(away, towards, 0.0) / 2.0
    sech_a, sech_b = (scalars.sech_square(c * radius.square()).sqrt() for radius in (a, b))
    reach, gap = b * scalars.tanh_ratio(c * b.square()), b - a
    across = 2.0 * half_chord * scalars.root(1.0 - half_chord.square()) * reach * sech_a
    beyond = gap * scalars.sinh_ratio(c * gap.square()) * sech_a * sech_b
    along = beyond - 2.0 * half_chord.square() * reach
    defined = (a > 0) & ((across > 0) | (along != 0))
    angle = torch.atan2(torch.where(defined, across, 0.0), torch.where(defined, along, 1.0))
    return scalars.narrow(angle, apexes.dtype)


def _polar(manifold: AbstractManifold, x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n f"]]:
    """Distance from the origin and unit direction there, zero at the origin itself."""
    v = manifold.features0(manifold.logmap0(x))
    square = scalars.square(v)
    inverse = torch.where(square > 0, torch.where(square > 0, square, 1.0).rsqrt(), 0.0)
    return 2.0 * scalars.root(square), scalars.scale(inverse, v)
