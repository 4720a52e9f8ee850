"""The latent hierarchy of categories, attributes and images: nodes on a manifold, and what lies under what."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize

from hyperadapt.adapters.lathadapter.config import LatHAdapterConfig
from manifolds import Euclidean, PoincareBall, ToBall
from manifolds.base import AbstractManifold
from manifolds.regularizers import (
    AbstractDraws,
    AttributeTerm,
    HierTerm,
    NodeSet,
    attribute_triplets,
    hier_term,
    radius_order,
)

CHOICES = 2**16
"""Triplets times candidates that a term of one step weighs up; where sets are large, anchors get fewer triplets."""


@dataclass(frozen=True)
class Nodes:
    """Points of one step.

    Attributes:
        images: (B, n) with `labels` (B,).
        categories: (C, n) with `category_labels` (C,), ascending.
        attributes: (M, n).
    """

    images: Float[Tensor, "b n"]
    labels: Int[Tensor, " b"]
    categories: Float[Tensor, "c n"]
    category_labels: Int[Tensor, " c"]
    attributes: Float[Tensor, "m n"]

    @property
    def labelled_images(self) -> NodeSet:
        """Images, related by class."""
        return NodeSet(self.images, self.labels)

    @property
    def labelled(self) -> NodeSet:
        """Images and categories, related by class."""
        return NodeSet(torch.cat([self.images, self.categories]), torch.cat([self.labels, self.category_labels]))

    @property
    def all(self) -> NodeSet:
        """Everything; attributes have no class."""
        none = self.labels.new_full((len(self.attributes),), -1)
        points = torch.cat([self.images, self.categories, self.attributes])
        return NodeSet(points, torch.cat([self.labels, self.category_labels, none]))


Term = tuple[str, NodeSet, Float[Tensor, "p n"]]
Level = Float[Tensor, "n d"]


@dataclass(frozen=True)
class Reading:
    """One answer to what lies under what.

    Attributes:
        terms: nodes to arrange and their possible ancestors, with a name each.
        levels: node sets from the most general to the most special.
    """

    terms: Callable[[Nodes], list[Term]]
    levels: Callable[[Nodes], list[Level]]


def _among_attributes(n: Nodes) -> Term:
    return "attributes under attributes", NodeSet(n.attributes), n.attributes


def _all_under_all(n: Nodes) -> list[Term]:
    nodes = n.all
    return [("all under all", nodes, nodes.points)]  # one tensor, so that its distances are taken once


READINGS = {
    "h1": Reading(
        lambda n: [("images and categories under attributes", n.labelled, n.attributes), _among_attributes(n)],
        lambda n: [n.attributes, n.labelled.points],
    ),
    "h2": Reading(
        lambda n: [
            ("images under attributes", n.labelled_images, n.attributes),
            ("attributes under categories", NodeSet(n.attributes), n.categories),
            ("categories under categories", NodeSet(n.categories), n.categories),
        ],
        lambda n: [n.categories, n.attributes, n.images],
    ),
    "h3": Reading(
        lambda n: [
            ("images under categories", n.labelled_images, n.categories),
            ("categories under attributes", NodeSet(n.categories), n.attributes),
            _among_attributes(n),
        ],
        lambda n: [n.attributes, n.categories, n.images],
    ),
    "h4": Reading(
        _all_under_all,
        lambda n: [n.attributes, n.categories, n.images],
    ),
    "h5": Reading(
        lambda n: [
            ("images under attributes", n.labelled_images, n.attributes),
            ("categories under attributes", NodeSet(n.categories), n.attributes),
            _among_attributes(n),
        ],
        lambda n: [n.attributes, n.labelled.points],
    ),
    "h0": Reading(lambda n: [], lambda n: [n.attributes, n.labelled.points]),
}


class Hierarchy(nn.Module):
    """Projection of the three kinds of nodes, and the regulariser over them.

    Args:
        config: manifold, radii, reading and weights.
        dim: width D of the features.
    """

    def __init__(self, config: LatHAdapterConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.head = None
        if config.projection == "head":
            self.head = nn.Linear(dim, config.projection_dim)
            nn.init.orthogonal_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        flat = config.manifold == "euclidean"
        self.manifold: AbstractManifold = (
            Euclidean() if flat else PoincareBall(config.curvature, learnable=config.learn_curvature)
        )
        r, learn, turned = config.clip_radius, config.learn_radii, config.riemannian
        self.image_to_ball = ToBall(self.manifold, r, r, riemannian=turned)
        self.text_to_ball = ToBall(self.manifold, r, config.text_radius * r, learn, turned)
        self.attribute_to_ball = ToBall(self.manifold, r, config.attribute_radius * r, learn, turned)

    def nodes(
        self,
        images: Float[Tensor, "b d"],
        labels: Int[Tensor, " b"],
        categories: Float[Tensor, "c d"],
        category_labels: Int[Tensor, " c"],
        attributes: Float[Tensor, "m d"],
    ) -> Nodes:
        """Features of unit length as points: images on the rim, the others at their radii."""
        return Nodes(
            self.image_to_ball(self._directions(images)),
            labels,
            self.text_to_ball(self._directions(categories)),
            category_labels,
            self.attribute_to_ball(self._directions(attributes)),
        )

    def _directions(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n p"]:
        if self.head is None:
            return features
        return normalize(self.head(layer_norm(features, features.shape[-1:])), dim=-1)

    def terms(self, nodes: Nodes, draws: AbstractDraws) -> dict[str, HierTerm | AttributeTerm]:
        """Every term of the reading with what it did, by name; their losses are not weighted yet.

        One category alone is nobody's choice: what would lie under it, or tell it from others, is left out.
        """
        config = self.config
        if config.hierarchy == "h0":
            if len(nodes.categories) < 2:
                return {}
            own = (nodes.category_labels < nodes.labels[:, None]).sum(1)
            term = attribute_triplets(
                self.manifold, nodes.images, own, nodes.categories, nodes.attributes, margin=config.margin, draws=draws
            )
            return {"triplets": term}
        return {
            name: hier_term(
                self.manifold,
                samples,
                candidates,
                neighbours=config.neighbours,
                per_anchor=max(1, min(config.triplets, CHOICES // (len(samples.points) * len(candidates)))),
                tau=config.temperature,
                margin=config.margin,
                draws=draws,
            )
            for name, samples, candidates in READINGS[config.hierarchy].terms(nodes)
            if len(candidates) >= 2
        }

    def radial(self, nodes: Nodes) -> Tensor:
        """Mean over neighbouring levels of the hinge that keeps the more general one nearer the origin."""
        levels = READINGS[self.config.hierarchy].levels(nodes)
        losses = [self._order(upper, lower) for upper, lower in pairwise(levels)]
        return torch.stack(losses).mean()

    def _order(self, parents: Level, children: Level) -> Tensor:
        everywhere = torch.ones(len(parents), len(children), dtype=torch.bool, device=parents.device)
        return radius_order(self.manifold, parents, children, everywhere, margin=self.config.margin).loss


def total(terms: Sequence[HierTerm | AttributeTerm]) -> Tensor:
    """Sum of the losses."""
    return torch.stack([term.loss for term in terms]).sum()
