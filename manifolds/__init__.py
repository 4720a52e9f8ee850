"""Hyperbolic geometry in PyTorch, accurate up to the boundary of the ball and proved by laws.

Curvature is ``c > 0`` with sectional curvature ``-c``; the last axis of a tensor is the vector. The classes carry the
curvature; ``poincare``, ``lorentz`` and ``polar`` hold the same operations as functions of tensors. ``manifolds.optim``
needs geoopt, ``manifolds.testing`` hypothesis and ``manifolds.oracle`` mpmath: import them where you use them.
"""

from manifolds import lorentz, poincare, polar
from manifolds.base import AbstractHyperbolic, AbstractManifold
from manifolds.charts import from_half_space, from_klein, to_half_space, to_klein
from manifolds.cones import busemann, cone_angle, cone_violation, half_aperture
from manifolds.distributions import WrappedNormal
from manifolds.euclidean import Euclidean
from manifolds.hyperplanes import hyperplane_distance
from manifolds.lorentz import Lorentz
from manifolds.means import einstein_midpoint, frechet_mean, gyromidpoint
from manifolds.nn import HyperplaneLogits, PoincareLinear, ToBall
from manifolds.poincare import PoincareBall

__all__ = [
    "AbstractHyperbolic",
    "AbstractManifold",
    "Euclidean",
    "HyperplaneLogits",
    "Lorentz",
    "PoincareBall",
    "PoincareLinear",
    "ToBall",
    "WrappedNormal",
    "busemann",
    "cone_angle",
    "cone_violation",
    "einstein_midpoint",
    "frechet_mean",
    "from_half_space",
    "from_klein",
    "gyromidpoint",
    "half_aperture",
    "hyperplane_distance",
    "lorentz",
    "poincare",
    "polar",
    "to_half_space",
    "to_klein",
]
