"""The gyrovector space of the Poincaré ball: Möbius addition, scalar and matrix products, gyration.

Ungar, *Analytic Hyperbolic Geometry* (2008); in the notation of Ganea, Bécigneul and Hofmann (NeurIPS 2018), where the
ball of curvature ``-c`` has radius ``1/√c``. The formulas are those of ``mappings``: no cancellation in a row scalar.
"""

from jaxtyping import Float
from torch import Tensor

from manifolds import scalars
from manifolds.mappings import Points, Tangents, gyrosum, log_weight, margin, ray, rotate, storage_dtype
from manifolds.scalars import Curvature, scale, square


def mobius_add(x: Points, y: Points, c: Curvature = 1.0) -> Points:
    """Möbius sum ``x ⊕ y``: the left translation of ``y`` by ``x``; ``x + y`` in the flat limit.

    Args:
        x: points, shape (*, dim).
        y: points that broadcast against ``x``.
        c: curvature.

    Returns:
        Points inside the limit of ``projx``, float32 or wider.

    Example:
        >>> import torch
        >>> mobius_add(torch.tensor([0.5, 0.0]), torch.tensor([0.5, 0.0]))
        tensor([0.8000, 0.0000])
    """
    (x, y), dtype = scalars.as_vectors(x, y, names="mobius_add"), storage_dtype(x, y)
    c = scalars.as_curvature(c, x, "mobius_add")
    return gyrosum(x, y, margin(x, c), margin(y, c), c, dtype)


def mobius_sub(x: Points, y: Points, c: Curvature = 1.0) -> Points:
    """Möbius difference ``x ⊕ (-y)``, exactly zero for equal points."""
    return mobius_add(x, -y, c)


def mobius_scalar_mul(r: Curvature, x: Points, c: Curvature = 1.0) -> Points:
    """``r ⊗ x``: the point ``r`` times as far from the origin on the same line; ``r`` broadcasts against points.

    Example:
        >>> import torch
        >>> mobius_scalar_mul(2.0, torch.tensor([0.5, 0.0]))
        tensor([0.8000, 0.0000])
    """
    (x,), dtype = scalars.as_vectors(x, names="mobius_scalar_mul"), storage_dtype(x)
    c = scalars.as_curvature(c, x, "mobius_scalar_mul")
    weight = r * log_weight(x, c)
    return scale(ray(weight, c * square(x) * weight.square(), dtype), x)


def mobius_matvec(m: Float[Tensor, "*batch out dim"], x: Points, c: Curvature = 1.0) -> Float[Tensor, "*batch out"]:
    """``M ⊗ x = exp0(M log0(x))``.

    Args:
        m: matrices, shape (*, out, dim).
        x: points, shape (*, dim).
        c: curvature.

    Returns:
        Points, shape (*, out).

    Raises:
        ValueError: the last axes of ``m`` and ``x`` differ.

    Example:
        >>> import torch
        >>> mobius_matvec(2 * torch.eye(2), torch.tensor([0.5, 0.0]))
        tensor([0.8000, 0.0000])
    """
    (m, x), dtype = scalars.as_vectors(m, x, names="mobius_matvec"), storage_dtype(x)
    c = scalars.as_curvature(c, x, "mobius_matvec")
    with scalars.without_autocast(x):
        image = (m @ x[..., None]).squeeze(-1) if m.ndim > 2 else x @ m.mT
    weight = log_weight(x, c)
    return scale(ray(weight, c * square(image) * weight.square(), dtype), image)


def gyration(x: Points, y: Points, v: Tangents, c: Curvature = 1.0) -> Tangents:
    """``gyr[x, y]v``: the rotation by which Möbius addition fails to associate."""
    x, y, v = scalars.as_vectors(x, y, v, names="gyration")
    c = scalars.as_curvature(c, x, "gyration")
    return rotate(-y, x, v, c)[0]
