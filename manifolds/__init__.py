"""Hyperbolic geometry in PyTorch, accurate up to the boundary of the ball and proved by laws."""

from manifolds import mappings as mappings
from manifolds import poincare as poincare
from manifolds.base import AbstractManifold
from manifolds.euclidean import Euclidean
from manifolds.nn import ToBall
from manifolds.poincare import PoincareBall

__all__ = ["AbstractManifold", "Euclidean", "PoincareBall", "ToBall", "poincare"]
