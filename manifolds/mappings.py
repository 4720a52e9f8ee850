"""Distances, exponential and logarithmic maps and parallel transport of the Poincaré ball, as functions of tensors.

Curvature is ``c > 0`` with sectional curvature ``-c``; the ball is ``|x| < 1/√c``, the metric ``λ²`` times the flat one
with ``λ = 2/(1 - c|x|²)``. ``c`` is a float, a 0-dim tensor or a tensor that broadcasts against points with a last
axis of one. The last axis of a point is the vector. Half precision is lifted to float32, and so are the results.

All formulas are written in ``a = 1 - c|x|²``, ``b = 1 - c|y|²`` and ``δ = |x - y|²`` (see ``rows``), with no
quotient that is 0/0 where points coincide and no difference of nearly equal numbers except ``a`` and ``b`` themselves.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from manifolds import scalars
from manifolds.exact import lost
from manifolds.scalars import Curvature, Rows, asinh_ratio, combine, dot, root, scale, square, tanh_ratio, triple

Points = Float[Tensor, "*batch dim"]
Tangents = Float[Tensor, "*batch dim"]
Values = Float[Tensor, "*batch"]


def radius_limit(dtype: torch.dtype) -> float:
    """Largest ``√c|x|`` kept for points stored in ``dtype``, ``1 - eps^(3/4)``: distance 12.6 from 0 in float32."""
    return 1.0 - torch.finfo(dtype).eps ** 0.75


def storage_dtype(*points: Tensor) -> torch.dtype:
    """The coarsest dtype among the points: a result must still be inside the ball when it is stored there."""
    return max((p.dtype for p in points), key=lambda dtype: torch.finfo(dtype).eps)


def _target(dtype: torch.dtype) -> float:
    """Where a point beyond the limit is put: inside by more than a rounding, so that projecting again does nothing."""
    return radius_limit(dtype) * (1.0 - 4.0 * torch.finfo(dtype).eps)


def margin(x: Points, c: Curvature) -> Rows:
    """``a = 1 - c|x|²`` to a rounding, kept above a quarter of the dtype's epsilon on and outside the boundary."""
    return margin_of(c * square(x), x, c)


def margin_of(radius_square: Rows, x: Points, c: Curvature) -> Rows:
    """``margin`` of points whose ``c|x|²`` is at hand."""
    return ((1.0 - radius_square) - lost(x, c, radius_square)).clamp(min=lowest_margin(x.dtype))


def lowest_margin(dtype: torch.dtype) -> float:
    """What ``margin`` gives on and outside the boundary: a quarter of the epsilon of ``dtype``."""
    return torch.finfo(dtype).eps / 4


def inside(weight: Rows, radius_square: Rows, dtype: torch.dtype, stored: bool = False) -> Rows:
    """``weight``, shrunk where a vector of ``c|x|² = radius_square`` would lie beyond the limit of ``dtype``.

    A vector yet to be rounded is stopped a few roundings short of the limit; one already ``stored`` may lie up to it.
    """
    beyond = radius_square > (radius_limit(dtype) if stored else _target(dtype)) ** 2
    safe = torch.where(beyond, radius_square, 1.0)
    return torch.where(beyond, weight * (_target(dtype) / safe.sqrt()), weight)


def within(x: Points, c: Curvature, dtype: torch.dtype, stored: bool = False) -> Points:
    """``x``, pulled inside the limit of ``dtype`` where it lies beyond; see ``inside``."""
    radius_square = c * square(x)
    return scale(inside(torch.ones_like(radius_square), radius_square, dtype, stored), x)


def finish(rows: Rows, dtype: torch.dtype, keepdim: bool) -> Tensor:
    """Rows as values: rounded to ``dtype``, without the trailing axis unless asked for."""
    rows = scalars.narrow(rows, dtype)
    return rows if keepdim else rows.squeeze(-1)


def projx(x: Points, c: Curvature = 1.0) -> Points:
    """Pull points on or outside the boundary strictly inside, in the dtype of ``x`` (half precision included).

    Points inside the limit are returned bit for bit, so the projection is idempotent. The gradient is that of the map:
    identity inside, tangential outside.

    Args:
        x: points, shape (*, dim).
        c: curvature.

    Returns:
        Points with ``√c|x| <= 1 - eps^(3/4)``, same shape and dtype.

    Example:
        >>> projx(torch.tensor([3.0, 4.0])).norm() < 1
        tensor(True)
    """
    (wide,) = scalars.as_vectors(x, names="projx")
    c = scalars.as_curvature(c, wide, "projx")
    return within(wide, c, x.dtype, stored=True).to(x.dtype)


def lambda_x(x: Points, c: Curvature = 1.0, keepdim: bool = False) -> Values:
    """Conformal factor ``λ = 2/(1 - c|x|²)``.

    Example:
        >>> lambda_x(torch.zeros(3))
        tensor(2.)
    """
    (x,) = scalars.as_vectors(x, names="lambda_x")
    c = scalars.as_curvature(c, x, "lambda_x")
    return finish(2.0 / margin(x, c), x.dtype, keepdim)


def dist(x: Points, y: Points, c: Curvature = 1.0, keepdim: bool = False) -> Values:
    """Geodesic distance ``(2/√c) asinh √(cδ/(ab))``; subgradient 0 where the points coincide.

    Args:
        x: points, shape (*, dim).
        y: points that broadcast against ``x``.
        c: curvature.
        keepdim: keep the last axis, of length one.

    Returns:
        Distances, shape (*), float32 or wider.

    Raises:
        TypeError: an argument is not floating point.
        ValueError: last axes differ, or ``c <= 0``.

    Example:
        >>> dist(torch.zeros(2), torch.tensor([0.5, 0.0]))
        tensor(1.0986)
    """
    x, y = scalars.as_vectors(x, y, names="dist")
    c = scalars.as_curvature(c, x, "dist")
    xx, yy, gap = triple(x, y)
    spread = gap / (margin_of(c * xx, x, c) * margin_of(c * yy, y, c))
    return finish(2.0 * root(spread) * asinh_ratio(c * spread), x.dtype, keepdim)


def sqdist(x: Points, y: Points, c: Curvature = 1.0, keepdim: bool = False) -> Values:
    """Squared distance, smooth everywhere, coinciding points included.

    Example:
        >>> sqdist(torch.zeros(2), torch.zeros(2))
        tensor(0.)
    """
    x, y = scalars.as_vectors(x, y, names="sqdist")
    c = scalars.as_curvature(c, x, "sqdist")
    xx, yy, gap = triple(x, y)
    spread = gap / (margin_of(c * xx, x, c) * margin_of(c * yy, y, c))
    return finish(4.0 * spread * asinh_ratio(c * spread).square(), x.dtype, keepdim)


def dist0(x: Points, c: Curvature = 1.0, keepdim: bool = False) -> Values:
    """Distance from the origin, ``(2/√c) artanh(√c|x|)``.

    Example:
        >>> dist0(torch.tensor([0.5, 0.0]))
        tensor(1.0986)
    """
    (x,) = scalars.as_vectors(x, names="dist0")
    c = scalars.as_curvature(c, x, "dist0")
    length = square(x)
    spread = length / margin_of(c * length, x, c)
    return finish(2.0 * root(spread) * asinh_ratio(c * spread), x.dtype, keepdim)


def ray(weight: Rows, angle_square: Rows, dtype: torch.dtype) -> Rows:
    """``weight · tanh(√A)/√A`` for ``A = angle_square``, kept inside the limit of ``dtype``."""
    ratio = tanh_ratio(angle_square)
    return inside(weight * ratio, angle_square * ratio.square(), dtype)


def expmap0(v: Tangents, c: Curvature = 1.0) -> Points:
    """Exponential map at the origin, ``tanh(√c|v|) v/(√c|v|)``; distance ``2|v|`` from the origin.

    The result is kept inside the limit of ``projx``. A half precision ``v`` gives float32 points.

    Args:
        v: tangent vectors at the origin, shape (*, dim).
        c: curvature.

    Returns:
        Points, shape (*, dim), float32 or wider.

    Example:
        >>> expmap0(torch.tensor([1.0, 0.0]))
        tensor([0.7616, 0.0000])
    """
    (v,) = scalars.as_vectors(v, names="expmap0")
    c = scalars.as_curvature(c, v, "expmap0")
    v, length = scalars.with_square(v)
    angle_square = c * length
    return scale(ray(torch.ones_like(angle_square), angle_square, v.dtype), v)


def log_weight(x: Points, c: Curvature) -> Rows:
    """``artanh(√c|x|)/(√c|x|)``, one at the origin."""
    radius_square = c * square(x)
    a = margin_of(radius_square, x, c)
    return asinh_ratio(radius_square / a) * a.rsqrt()


def logmap0(y: Points, c: Curvature = 1.0) -> Tangents:
    """Logarithmic map at the origin, ``artanh(√c|y|) y/(√c|y|)``; gradient is the identity at 0.

    Example:
        >>> logmap0(torch.tensor([0.5, 0.0]))
        tensor([0.5493, 0.0000])
    """
    (y,) = scalars.as_vectors(y, names="logmap0")
    c = scalars.as_curvature(c, y, "logmap0")
    return scale(log_weight(y, c), y)


def gyrosum(x: Points, y: Points, a: Rows, b: Rows, c: Curvature, dtype: torch.dtype) -> Points:
    """Möbius sum ``[a s + c|s|² x]/(ab + c|s|²)``, ``s = x + y``, kept inside the limit of ``dtype``.

    The length is measured on the result: where ``x`` and ``y`` nearly cancel, the formula's is not what was stored.
    """
    total = x + y
    cross = c * square(total)
    inverse = (a * b + cross).reciprocal()
    result = combine(a * inverse, total, cross * inverse, x)
    return within(result, c, dtype, stored=True)


def expmap(x: Points, v: Tangents, c: Curvature = 1.0) -> Points:
    """Exponential map at ``x``: the end of the geodesic that leaves ``x`` with velocity ``v``.

    Args:
        x: base points, shape (*, dim).
        v: tangent vectors at ``x``, broadcasting against it.
        c: curvature.

    Returns:
        Points inside the limit of ``projx`` for the dtype of ``x``, float32 or wider.

    Example:
        >>> expmap(torch.zeros(2), torch.tensor([1.0, 0.0]))
        tensor([0.7616, 0.0000])
    """
    (x, v), dtype = scalars.as_vectors(x, v, names="expmap"), storage_dtype(x)
    c = scalars.as_curvature(c, x, "expmap")
    a = margin(x, c)
    angle_square = c * square(v) / a.square()
    step = scale(tanh_ratio(angle_square) / a, v)
    return gyrosum(x, step, a, scalars.sech_square(angle_square), c, dtype)


def logmap(x: Points, y: Points, c: Curvature = 1.0) -> Tangents:
    """Logarithmic map: the velocity at ``x`` of the geodesic that reaches ``y`` at time one.

    Example:
        >>> logmap(torch.zeros(2), torch.tensor([0.5, 0.0]))
        tensor([0.5493, 0.0000])
    """
    x, y = scalars.as_vectors(x, y, names="logmap")
    c = scalars.as_curvature(c, x, "logmap")
    step = y - x
    cross = c * square(step)
    a, b = margin(x, c), margin(y, c)
    ab = a * b
    weight = a * asinh_ratio(cross / ab) * (ab * (ab + cross)).rsqrt()
    return combine(weight * a, step, -weight * cross, x)


def rotate(x: Points, y: Points, v: Tangents, c: Curvature) -> tuple[Tangents, Rows, Rows]:
    """The gyration ``gyr[y, -x]v`` with ``a`` and ``b``: the rotation by which transport differs from a scaling.

    With ``Ωt = g⟨x,t⟩ - x⟨g,t⟩``, ``g = y - x``: ``v + (2c/D)(cΩ²v - pΩv)``, ``D = ab + cδ``, ``p = (a + b + cδ)/2``.
    """
    step = y - x
    xx, gap = square(x), square(step)
    a, b = margin_of(c * xx, x, c), margin(y, c)
    along, across, lean = dot(x, v), dot(step, v), dot(x, step)
    cross = c * gap
    weight = 2.0 * c / (a * b + cross)
    half_sum = (a + b + cross) / 2
    to_step = weight * (c * (lean * along - xx * across) - half_sum * along)
    to_x = weight * (half_sum * across - c * (gap * along - lean * across))
    return v + combine(to_step, step, to_x, x), a, b


def transp(x: Points, y: Points, v: Tangents, c: Curvature = 1.0) -> Tangents:
    """Parallel transport of ``v`` from ``x`` to ``y`` along the geodesic between them; keeps inner products.

    Example:
        >>> transp(torch.zeros(2), torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.0]))
        tensor([0.7500, 0.0000])
    """
    x, y, v = scalars.as_vectors(x, y, v, names="transp")
    c = scalars.as_curvature(c, x, "transp")
    turned, a, b = rotate(x, y, v, c)
    return scale(b / a, turned)


def transp0(y: Points, v: Tangents, c: Curvature = 1.0) -> Tangents:
    """Parallel transport of ``v`` from the origin to ``y``: ``(1 - c|y|²) v``."""
    y, v = scalars.as_vectors(y, v, names="transp0")
    c = scalars.as_curvature(c, y, "transp0")
    return scale(margin(y, c), v)


def transp0back(x: Points, v: Tangents, c: Curvature = 1.0) -> Tangents:
    """Parallel transport of ``v`` from ``x`` to the origin: ``v/(1 - c|x|²)``."""
    x, v = scalars.as_vectors(x, v, names="transp0back")
    c = scalars.as_curvature(c, x, "transp0back")
    return scale(margin(x, c).reciprocal(), v)


def inner(x: Points, u: Tangents, v: Tangents | None = None, c: Curvature = 1.0, keepdim: bool = False) -> Values:
    """Riemannian inner product ``λ²⟨u, v⟩`` at ``x``; of ``u`` with itself where ``v`` is left out."""
    x, u, v = scalars.as_vectors(x, u, u if v is None else v, names="inner")
    c = scalars.as_curvature(c, x, "inner")
    return finish(4.0 * dot(u, v) / margin(x, c).square(), x.dtype, keepdim)


def norm(x: Points, v: Tangents, c: Curvature = 1.0, keepdim: bool = False) -> Values:
    """Riemannian length ``λ|v|`` of ``v`` at ``x``."""
    x, v = scalars.as_vectors(x, v, names="norm")
    c = scalars.as_curvature(c, x, "norm")
    return finish(2.0 * root(square(v)) / margin(x, c), x.dtype, keepdim)


def egrad2rgrad(x: Points, grad: Tangents, c: Curvature = 1.0) -> Tangents:
    """Riemannian gradient ``grad/λ²`` of a Euclidean gradient at ``x``."""
    x, grad = scalars.as_vectors(x, grad, names="egrad2rgrad")
    c = scalars.as_curvature(c, x, "egrad2rgrad")
    return scale(margin(x, c).square() / 4.0, grad)


def geodesic(t: Curvature, x: Points, y: Points, c: Curvature = 1.0) -> Points:
    """The point at time ``t`` on the geodesic from ``x`` (``t = 0``) to ``y`` (``t = 1``).

    Args:
        t: time, a number or a tensor that broadcasts against points.
        x: where the geodesic starts, shape (*, dim).
        y: where it is at time one.
        c: curvature.

    Example:
        >>> geodesic(0.5, torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 0.0]))
        tensor([0., 0.])
    """
    if isinstance(t, float | int) and not math.isfinite(t):
        raise ValueError(f"geodesic needs a finite t, got t={t}")
    return expmap(x, t * logmap(x, y, c), c)
