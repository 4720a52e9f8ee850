"""Hierarchical regularizers: one file each, every one on any manifold of this package."""

from manifolds.regularizers.hier import HierTerm, NodeSet, Triplets, ancestor_loss, hier_term, mine_triplets

__all__ = ["HierTerm", "NodeSet", "Triplets", "ancestor_loss", "hier_term", "mine_triplets"]
