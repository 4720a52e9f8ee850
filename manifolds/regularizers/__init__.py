"""Hierarchical regularizers: one file each, every one on any manifold of this package."""

from manifolds.regularizers.draws import AbstractDraws, GeneratorDraws, RecordedDraws, RecordingDraws
from manifolds.regularizers.hier import HierTerm, NodeSet, Triplets, ancestor_loss, hier_term, mine_triplets

__all__ = [
    "AbstractDraws",
    "GeneratorDraws",
    "HierTerm",
    "NodeSet",
    "RecordedDraws",
    "RecordingDraws",
    "Triplets",
    "ancestor_loss",
    "hier_term",
    "mine_triplets",
]
