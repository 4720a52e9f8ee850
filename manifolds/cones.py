"""Entailment cones of the ball and the Busemann function: what lies beyond a point, what lies towards the boundary."""

import torch
from torch import Tensor

from manifolds import scalars
from manifolds.mappings import Points, Tangents, Values, finish, margin, margin_of
from manifolds.scalars import Curvature, Rows, root, square


def half_aperture(x: Points, c: Curvature = 1.0, k: float = 0.1, keepdim: bool = False) -> Values:
    """Half-aperture ``arcsin(K (1 - c|x|²)/(√c|x|))`` of the entailment cone at ``x`` (Ganea et al. 2018, eq. 26).

    Points nearer the origin than where the argument reaches one get π/2, with gradient zero.

    Args:
        x: apexes, shape (*, dim).
        c: curvature.
        k: ``K > 0``: how wide the cones are.
        keepdim: keep the last axis, of length one.

    Returns:
        Angles in radians, shape (*), in (0, π/2].

    Raises:
        ValueError: ``k <= 0``.

    Example:
        >>> half_aperture(torch.tensor([0.5, 0.0]))
        tensor(0.1506)
    """
    (x,) = scalars.as_vectors(x, names="half_aperture")
    c = scalars.as_curvature(c, x, "half_aperture")
    radius_square = c * square(x)
    return finish(aperture_of(checked(k) * margin_of(radius_square, x, c), root(radius_square)), x.dtype, keepdim)


def checked(k: float) -> float:
    """The width ``K`` of cones, if it is positive."""
    if not k > 0:
        raise ValueError(f"half_aperture needs k > 0, got k={k}")
    return k


def aperture_of(reach: Rows | float, length: Rows) -> Rows:
    """``arcsin(reach/length)``, π/2 with gradient zero where that is not below one."""
    narrow = reach < length
    sine = torch.where(narrow, reach / torch.where(narrow, length, 1.0), 0.0)
    return torch.where(narrow, torch.asin(sine), torch.pi / 2)


def cone_angle(x: Points, y: Points, c: Curvature = 1.0, keepdim: bool = False) -> Values:
    """Angle at ``x`` between the ray that leaves the origin through ``x`` and the geodesic to ``y``.

    Computed as an arctangent of two lengths, so it is right at 0 and at π, where an arccosine loses half its digits.

    Args:
        x: apexes, shape (*, dim), not the origin.
        y: points that broadcast against ``x``.
        c: curvature.
        keepdim: keep the last axis, of length one.

    Returns:
        Angles in radians, shape (*), in [0, π]; 0 where ``y = x``.

    Example:
        >>> cone_angle(torch.tensor([0.5, 0.0]), torch.tensor([0.9, 0.0]))
        tensor(0.)
    """
    x, y = scalars.as_vectors(x, y, names="cone_angle")
    c = scalars.as_curvature(c, x, "cone_angle")
    return finish(angle_of(x, y, c), x.dtype, keepdim)


def angle_of(x: Points, y: Points, c: Curvature) -> Rows:
    """``cone_angle`` in float64; ``c = 0`` is flat."""
    wide_x, step = x.to(scalars.wide_dtype(x)), (y - x).to(scalars.wide_dtype(x))
    xx, gap = square(wide_x), square(step)
    a = margin_of(c * xx, x, c)
    lean = scalars.dot(step, wide_x)
    along = a * lean - c * gap * xx
    foot = lean / torch.where(xx > 0, xx, 1.0)
    across = a * root(square(step - foot * wide_x)) * root(xx)
    return torch.atan2(across, along)


def cone_violation(x: Points, y: Points, c: Curvature = 1.0, k: float = 0.1, margin: float = 0.0) -> Values:
    """How far ``y`` is outside the cone at ``x``: ``max(0, angle - half_aperture + margin)``, the entailment loss.

    Example:
        >>> cone_violation(torch.tensor([0.5, 0.0]), torch.tensor([0.9, 0.0]))
        tensor(0.)
    """
    return violation(cone_angle(x, y, c), half_aperture(x, c, k), margin)


def violation(angle: Values, aperture: Values, margin: float) -> Values:
    """The excess of an angle over a cone, on any manifold."""
    return torch.relu(angle - aperture + margin)


def busemann(p: Tangents, x: Points, c: Curvature = 1.0, keepdim: bool = False) -> Values:
    """Busemann function ``(log|p - √c x|² - log(1 - c|x|²))/√c``: signed distance from a horosphere at ``p``.

    Zero at the origin, ``-t`` at distance ``t`` towards ``p``; tends to ``-2⟨p, x⟩`` as ``c -> 0``.

    Args:
        p: directions, shape (*, dim); normalized here.
        x: points that broadcast against ``p``.
        c: curvature.
        keepdim: keep the last axis, of length one.

    Returns:
        Values, shape (*).

    Example:
        >>> busemann(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.0]))
        tensor(-1.0986)
    """
    p, x = scalars.as_vectors(p, x, names="busemann")
    c = scalars.as_curvature(c, x, "busemann")
    dtype, wide = x.dtype, scalars.wide_dtype(x)
    a, x = margin(x, c), x.to(wide)
    p = unit(p.to(wide))
    root_c = c.sqrt() if isinstance(c, Tensor) else c**0.5
    radius_square = c * square(x)
    change = radius_square - 2.0 * root_c * scalars.dot(p, x)
    near = change > -0.5
    gap = square(p - root_c * x)
    horizon = torch.where(near, torch.log1p(torch.where(near, change, 0.0)), torch.log(torch.where(near, 1.0, gap)))
    inner = radius_square < 0.5
    rest = torch.where(inner, torch.log1p(torch.where(inner, -radius_square, 0.0)), torch.log(a))
    return finish((horizon - rest) / root_c, dtype, keepdim)


def unit(p: Tangents) -> Tangents:
    """``p/|p|``; zero stays zero."""
    return torch.nn.functional.normalize(p, dim=-1, eps=1e-300 if p.dtype == torch.float64 else 1e-30)
