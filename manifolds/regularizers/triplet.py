"""Triplets with a margin: images tied to categories by the attribute between them, and points by their labels.

``attribute_triplets`` is the plain reading of a latent hierarchy of images, attributes and categories: no sampling of
ancestors, two hinges an image. ``triplet_loss`` is the loss of Schroff et al. (FaceNet, CVPR 2015) with the hardest
partners of each batch (Hermans et al., arXiv 1703.07737) or drawn ones, on the distances of any manifold.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import relu

from manifolds.base import AbstractManifold
from manifolds.regularizers.draws import AbstractDraws, GeneratorDraws
from manifolds.regularizers.pairs import fraction, least, masked_mean

Choice = Literal["hardest", "drawn"]


@dataclass(frozen=True)
class AttributeTerm:
    """Triplets of images, attributes and categories, with what they did.

    Attributes:
        loss: scalar, with a graph even when there is no image.
        active: fraction of the two hinges above zero.
        attributes_used: number of different attributes chosen as the one between an image and its category.
        gap: mean of how much farther the negative is than the positive, in units of distance.
    """

    loss: Float[Tensor, ""]
    active: Float[Tensor, ""]
    attributes_used: Int[Tensor, ""]
    gap: Float[Tensor, ""]


@dataclass(frozen=True)
class TripletTerm:
    """Triplets of labelled points, with what they did.

    Attributes:
        loss: scalar, with a graph even when there is no triplet.
        anchors: number of points with a partner of their label and one of another.
        active: fraction of their hinges above zero.
        gap: mean of how much farther the negative is than the positive, in units of distance.
    """

    loss: Float[Tensor, ""]
    anchors: Int[Tensor, ""]
    active: Float[Tensor, ""]
    gap: Float[Tensor, ""]


def attribute_triplets(
    manifold: AbstractManifold,
    images: Float[Tensor, "b d"],
    labels: Int[Tensor, " b"],
    categories: Float[Tensor, "c d"],
    attributes: Float[Tensor, "m d"],
    *,
    margin: float = 0.1,
    negatives: Choice = "hardest",
    draws: AbstractDraws | None = None,
) -> AttributeTerm:
    """Tie each image to its category by one attribute: ``[d(x,a⁺) - d(x,a⁻) + m]₊ + [d(a⁺,t_y) - d(a⁺,t_c') + m]₊``.

    ``a⁺`` is the attribute nearest to both ``x`` and ``t_y``: the larger of the two distances is the least. ``a⁻`` is
    another attribute, ``c'`` another category: the one nearest to ``x``, or to ``a⁺``, or one drawn uniformly. The mean
    is taken over images. No gradient passes through the choices.

    Args:
        manifold: where the points live.
        images: (B, D).
        labels: int64 (B,), the row of each image's category; an image of negative label counts for nothing.
        categories: (C, D), at least two.
        attributes: (M, D), at least two.
        margin: hinge margin, in units of distance.
        negatives: "hardest" or "drawn".
        draws: random numbers of drawn negatives, one (B, M) and one (B, C) tensor; torch's global generator where left
            out.

    Raises:
        ValueError: fewer than two categories or attributes, another number of labels than images, or an unknown
            ``negatives``.

    Example:
        >>> from manifolds import Euclidean
        >>> spots = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> term = attribute_triplets(Euclidean(), spots, torch.tensor([0, 1]), spots, spots)
        >>> float(term.loss), int(term.attributes_used)
        (0.0, 2)
    """
    _check_choice("attribute_triplets", "negatives", negatives)
    _check_labels("attribute_triplets", images, labels)
    for name, points in (("categories", categories), ("attributes", attributes)):
        if points.shape[0] < 2:
            raise ValueError(f"attribute_triplets needs at least 2 {name} to have a negative, got {points.shape[0]}")
    draws = draws or GeneratorDraws(device=images.device)
    known, own = labels >= 0, labels.clamp(min=0)
    to_attributes = manifold.pairwise_dist(images, attributes)
    between = manifold.pairwise_dist(attributes, categories)
    with torch.no_grad():
        bridge = torch.maximum(to_attributes, between.mT.index_select(0, own)).argmin(1)
    to_categories = between.index_select(0, bridge)
    gaps = torch.stack([_gap(to_attributes, bridge, negatives, draws), _gap(to_categories, own, negatives, draws)])
    hinges, counted = relu(margin - gaps), known.expand_as(gaps)
    used = ((bridge[:, None] == torch.arange(attributes.shape[0], device=bridge.device)) & known[:, None]).any(0)
    return AttributeTerm(
        loss=masked_mean(hinges.sum(0), known),
        active=fraction(hinges > 0, counted),
        attributes_used=used.sum(),
        gap=masked_mean(gaps, counted).detach(),
    )


def triplet_loss(
    manifold: AbstractManifold,
    points: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    *,
    margin: float = 0.1,
    partners: Choice = "hardest",
    draws: AbstractDraws | None = None,
) -> TripletTerm:
    """Points of one label nearer to each other than to others: the mean over anchors of ``[d(a,p) - d(a,n) + m]₊``.

    Args:
        manifold: where the points live.
        points: (N, D).
        labels: int64 (N,); a point of negative label is no anchor and no partner.
        margin: hinge margin, in units of distance.
        partners: "hardest" takes the farthest point of the anchor's label and the nearest of another, "drawn" takes
            both uniformly.
        draws: random numbers of drawn partners, two (N, N) tensors; torch's global generator where left out.

    Raises:
        ValueError: another number of labels than points, or an unknown ``partners``.

    Example:
        >>> from manifolds import Euclidean
        >>> term = triplet_loss(Euclidean(), torch.tensor([[0.0], [1.0], [2.5]]), torch.tensor([0, 0, 1]))
        >>> int(term.anchors), float(term.gap)
        (2, 2.0)
    """
    _check_choice("triplet_loss", "partners", partners)
    _check_labels("triplet_loss", points, labels)
    draws = draws or GeneratorDraws(device=points.device)
    distances = manifold.pairwise_dist(points)
    known = (labels >= 0) & (labels >= 0)[:, None]
    same = labels == labels[:, None]
    itself = torch.eye(points.shape[0], dtype=torch.bool, device=points.device)
    positives, negatives = same & known & ~itself, ~same & known
    kept = positives.any(1) & negatives.any(1)
    hardest = partners == "hardest"
    with torch.no_grad():
        positive = least(-distances if hardest else draws.rand(*same.shape), positives)
        negative = least(distances if hardest else draws.rand(*same.shape), negatives)
    gaps = _taken(distances, negative) - _taken(distances, positive)
    hinges = relu(margin - gaps)
    return TripletTerm(
        loss=masked_mean(hinges, kept),
        anchors=kept.sum(),
        active=fraction(hinges > 0, kept),
        gap=masked_mean(gaps, kept).detach(),
    )


def _gap(
    distances: Float[Tensor, "n m"], positive: Int[Tensor, " n"], negatives: Choice, draws: AbstractDraws
) -> Float[Tensor, " n"]:
    """How much farther a negative of each row is than its positive, the negative being any other column."""
    with torch.no_grad():
        others = torch.arange(distances.shape[1], device=distances.device) != positive[:, None]
        negative = least(distances if negatives == "hardest" else draws.rand(*distances.shape), others)
    return _taken(distances, negative) - _taken(distances, positive)


def _taken(distances: Float[Tensor, "n m"], columns: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """One distance of each row."""
    return distances.gather(1, columns[:, None])[:, 0]


def _check_choice(name: str, argument: str, choice: str) -> None:
    if choice not in ("hardest", "drawn"):
        raise ValueError(f"{name} needs {argument} to be 'hardest' or 'drawn', got {choice!r}")


def _check_labels(name: str, points: Tensor, labels: Tensor) -> None:
    if tuple(labels.shape) != tuple(points.shape[:1]):
        raise ValueError(f"{name} needs one label a point, got {(*labels.shape,)} for points {(*points.shape,)}")
