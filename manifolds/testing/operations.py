"""The table of operations: what each takes, what it returns, how it scales. Laws about all operations read it.

A new operation of the interface is one row here, and is then held to the laws of scale, limits, derivatives, accuracy
and engineering.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from manifolds.base import AbstractManifold
from manifolds.testing.samples import Sample

ROWS = ("x", "y", "u", "v", "w", "set", "weights")


@dataclass(frozen=True)
class Operation:
    """One method of a manifold.

    Attributes:
        name: of the method.
        roles: its arguments, as names of ``roles_of``.
        result: ``value``, ``point``, or where a tangent vector is attached: ``x``, ``y``, ``origin``.
        degree: power of the unit of length in the result.
        smooth: whether it is differentiable where points coincide.
    """

    name: str
    roles: tuple[str, ...]
    result: str
    degree: int = 1
    smooth: bool = True

    def of(self, manifold: AbstractManifold) -> Callable[..., Tensor]:
        """The method itself."""
        return getattr(manifold, self.name)


TABLE = (
    Operation("dist", ("x", "y"), "value", smooth=False),
    Operation("sqdist", ("x", "y"), "value", degree=2),
    Operation("dist0", ("x",), "value"),
    Operation("pairwise_dist", ("set",), "value", smooth=False),
    Operation("expmap", ("x", "u"), "point"),
    Operation("logmap", ("x", "y"), "x"),
    Operation("expmap0", ("w",), "point"),
    Operation("logmap0", ("x",), "origin"),
    Operation("transp", ("x", "y", "u"), "y"),
    Operation("transp0", ("x", "w"), "x"),
    Operation("transp0back", ("x", "u"), "origin"),
    Operation("inner", ("x", "u", "v"), "value", degree=2),
    Operation("norm", ("x", "u"), "value"),
    Operation("egrad2rgrad", ("x", "u"), "x"),
    Operation("projx", ("x",), "point"),
    Operation("proju", ("x", "u"), "x"),
    Operation("geodesic", ("time", "x", "y"), "point"),
    Operation("lambda_x", ("x",), "value", degree=0),
    Operation("mobius_add", ("x", "y"), "point"),
    Operation("mobius_sub", ("x", "y"), "point"),
    Operation("mobius_scalar_mul", ("time", "x"), "point"),
    Operation("mobius_matvec", ("matrix", "x"), "point"),
    Operation("gyration", ("x", "y", "w"), "origin"),
    Operation("midpoint", ("set", "weights"), "point"),
    Operation("half_aperture", ("x",), "value", degree=0, smooth=False),
    Operation("cone_angle", ("x", "y"), "value", degree=0, smooth=False),
    Operation("busemann", ("way", "x"), "value"),
    Operation("hyperplane_distance", ("x", "normals", "offsets"), "value"),
)
LENGTHS = ("x", "y", "u", "v", "w", "set", "offsets")


def operations_of(manifold: AbstractManifold) -> list[Operation]:
    """The rows of the table that a manifold has."""
    return [operation for operation in TABLE if hasattr(manifold, operation.name)]


def roles_of(s: Sample) -> dict[str, Tensor]:
    """Arguments by role: points ``x``, ``y``, tangents ``u``, ``v`` at ``x`` and ``w`` at the origin, sets, numbers."""
    n = s.x.shape[-1] + s.manifold.features_offset
    return {
        "x": s.x,
        "y": s.y,
        "u": s.u,
        "v": s.v,
        "w": s.manifold.transp0back(s.x, s.u).detach(),
        "set": torch.stack([s.x, s.y, s.z], dim=-2),
        "weights": s.noise(*s.x.shape[:-1], 3).abs() + 0.1,
        "time": torch.tensor(0.3, dtype=s.x.dtype),
        "matrix": s.noise(2, n) / n,
        "way": s.noise(n),
        "normals": s.noise(2, n),
        "offsets": s.noise(2) * (0.3 * s.length),
    }


def calls(s: Sample) -> list[tuple[Operation, Callable[..., Tensor], list[Tensor]]]:
    """Every operation of the manifold with arguments that it accepts."""
    roles = roles_of(s)
    return [(row, row.of(s.manifold), [roles[role] for role in row.roles]) for row in operations_of(s.manifold)]
