"""Hierarchical regularizers: one file each, every one on any manifold of this package."""

from manifolds.regularizers.draws import AbstractDraws, GeneratorDraws, RecordedDraws, RecordingDraws
from manifolds.regularizers.entailment import EntailmentTerm, entailment_loss, pairwise_cone_angle
from manifolds.regularizers.hier import HierTerm, NodeSet, Triplets, ancestor_loss, hier_term, mine_triplets
from manifolds.regularizers.radius import RadiusTargetTerm, RadiusTerm, radius_order, radius_targets
from manifolds.regularizers.tree_distance import TreeDistanceTerm, tree_distance_loss, tree_distances
from manifolds.regularizers.triplet import AttributeTerm, TripletTerm, attribute_triplets, triplet_loss

__all__ = [
    "AbstractDraws",
    "AttributeTerm",
    "EntailmentTerm",
    "GeneratorDraws",
    "HierTerm",
    "NodeSet",
    "RadiusTargetTerm",
    "RadiusTerm",
    "RecordedDraws",
    "RecordingDraws",
    "TreeDistanceTerm",
    "TripletTerm",
    "Triplets",
    "ancestor_loss",
    "attribute_triplets",
    "entailment_loss",
    "hier_term",
    "mine_triplets",
    "pairwise_cone_angle",
    "radius_order",
    "radius_targets",
    "tree_distance_loss",
    "tree_distances",
    "triplet_loss",
]
