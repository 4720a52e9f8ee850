"""Other coordinates of the same space: Klein's model and the upper half-space, as maps from and to the ball."""

import torch

from manifolds import scalars
from manifolds.mappings import Points, margin, within
from manifolds.scalars import Curvature, square


def to_klein(x: Points, c: Curvature = 1.0) -> Points:
    """The point of the ball in Klein coordinates: ``2x/(1 + c|x|²)``.

    Example:
        >>> to_klein(torch.tensor([0.5, 0.0]))
        tensor([0.8000, 0.0000])
    """
    (x,) = scalars.as_vectors(x, names="to_klein")
    c = scalars.as_curvature(c, x, "to_klein")
    return scalars.scale(2.0 / (1.0 + c * square(x)), x)


def from_klein(k: Points, c: Curvature = 1.0) -> Points:
    """Klein coordinates back to the ball: ``k/(1 + √(1 - c|k|²))``.

    Example:
        >>> from_klein(torch.tensor([0.8, 0.0]))
        tensor([0.5000, 0.0000])
    """
    (k,) = scalars.as_vectors(k, names="from_klein")
    c = scalars.as_curvature(c, k, "from_klein")
    return scalars.scale((1.0 + margin(k, c).sqrt()).reciprocal(), k)


def to_half_space(x: Points, c: Curvature = 1.0) -> Points:
    """The point of the ball in the upper half-space ``p_n > 0`` with metric ``|dp|²/(c p_n²)``.

    With ``y = √c x`` and ``e`` the unit vector of the last axis, ``p = (2 y_rest, 1 - |y|²)/|y - e|²``: the origin
    goes to ``e``, the boundary point ``e`` to infinity. Distances are ``(2/√c) asinh(|p - q|/(2√(p_n q_n)))``.

    Example:
        >>> to_half_space(torch.tensor([0.0, 0.5]))
        tensor([0., 3.])
    """
    (x,) = scalars.as_vectors(x, names="to_half_space")
    c = scalars.as_curvature(c, x, "to_half_space")
    y = x.to(scalars.wide_dtype(x)) * c**0.5
    flat, last = y[..., :-1], y[..., -1:]
    gap = flat.square().sum(-1, keepdim=True) + (1.0 - last).square()
    return (torch.cat([2.0 * flat, margin(x, c)], dim=-1) / gap).to(x.dtype)


def from_half_space(p: Points, c: Curvature = 1.0) -> Points:
    """The point of the upper half-space in the ball; the inverse of ``to_half_space``, inside the limit of ``projx``.

    Example:
        >>> from_half_space(torch.tensor([0.0, 3.0]))
        tensor([0.0000, 0.5000])
    """
    (p,) = scalars.as_vectors(p, names="from_half_space")
    c = scalars.as_curvature(c, p, "from_half_space")
    wide = p.to(scalars.wide_dtype(p))
    flat, height = wide[..., :-1], wide[..., -1:]
    width = flat.square().sum(-1, keepdim=True)
    rise = (height - 1.0) * (height + 1.0) + width
    y = torch.cat([2.0 * flat, rise], dim=-1) / (width + (height + 1.0).square())
    return within(y / c**0.5, c, p.dtype).to(p.dtype)
