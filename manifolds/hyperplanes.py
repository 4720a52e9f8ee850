"""Geodesic hyperplanes of the ball: signed distances, the logits of hyperbolic classification."""

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds import scalars
from manifolds.mappings import Points, margin
from manifolds.scalars import Curvature, asinh_ratio, sinh_ratio

Normals = Float[Tensor, "planes dim"]
Offsets = Float[Tensor, " planes"]


def plane_distance(x: Tensor, z: Tensor, r: Tensor, c: Curvature) -> Tensor:
    """Signed distances of ``x`` from the planes, wide; ``c = 0`` gives the flat limit."""
    wide = scalars.wide_dtype(x)
    normal, offset = z.to(wide), r.to(wide)
    size = scalars.root(normal.square().sum(-1, keepdim=True))
    normal = normal / torch.where(size > 0, size, 1.0)
    a = margin(x, c)
    lean = x.to(wide) @ normal.mT
    root_c = c**0.5
    shift = 2.0 * offset * sinh_ratio(4.0 * c * offset.square())
    k = (2.0 * lean * torch.cosh(2.0 * root_c * offset) - (2.0 - a) * shift) / a
    return k * asinh_ratio(c * k.square())


def hyperplane_distance(x: Points, z: Normals, r: Offsets, c: Curvature = 1.0) -> Float[Tensor, "*batch planes"]:
    """Signed distance from the geodesic hyperplanes with normal ``z`` through ``expmap0(r z/|z|)``.

    The product with the normals runs in float64, so a point close to a plane keeps its digits.

    Args:
        x: points, shape (*, dim).
        z: normals, shape (planes, dim); their length does not matter.
        r: offsets of the planes, shape (planes,): a plane is at distance ``2|r|`` from the origin.
        c: curvature, a float or 0-dim.

    Returns:
        Distances, positive on the side of ``z``, shape (*, planes).

    Example:
        >>> hyperplane_distance(torch.tensor([0.5, 0.0]), torch.eye(2), torch.zeros(2))
        tensor([1.0986, 0.0000])
    """
    x, z = scalars.as_vectors(x, z, names="hyperplane_distance")
    c = scalars.as_curvature(c, x, "hyperplane_distance")
    return plane_distance(x, z, r, c).to(x.dtype)
