"""The Poincaré ball in 80 decimal digits: textbook formulas in mpmath, against which the tensors are judged.

Nothing here shares a formula with the package: distances go through the Möbius sum and artanh, gyrations through their
definition, derivatives through finite differences that 80 digits can afford. Needs mpmath; for tests and benchmarks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mpmath as mp
from mpmath import mpf as mpf
from torch import Tensor

Number = Any
Vector = list[Number]
DIGITS = 80
mp.mp.dps = DIGITS


def vector(x: Tensor) -> Vector:
    """The exact numbers stored in a one-dimensional tensor."""
    return [mpf(v) for v in x.detach().double().tolist()]


def dot(x: Vector, y: Vector) -> Number:
    """Inner product."""
    return mp.fsum(a * b for a, b in zip(x, y, strict=True))


def length(x: Vector) -> Number:
    """Euclidean length."""
    return mp.sqrt(dot(x, x))


def times(k: Number, x: Vector) -> Vector:
    """``k x``."""
    return [k * v for v in x]


def plus(x: Vector, y: Vector) -> Vector:
    """``x + y``."""
    return [a + b for a, b in zip(x, y, strict=True)]


def minus(x: Vector, y: Vector) -> Vector:
    """``x - y``."""
    return [a - b for a, b in zip(x, y, strict=True)]


def conformal(x: Vector, c: Number) -> Number:
    """``2/(1 - c|x|²)``."""
    return 2 / (1 - c * dot(x, x))


def mobius_add(x: Vector, y: Vector, c: Number) -> Vector:
    """``[(1 + 2c⟨x,y⟩ + c|y|²)x + (1 - c|x|²)y] / (1 + 2c⟨x,y⟩ + c²|x|²|y|²)``."""
    xy, xx, yy = dot(x, y), dot(x, x), dot(y, y)
    numerator = plus(times(1 + 2 * c * xy + c * yy, x), times(1 - c * xx, y))
    return times(1 / (1 + 2 * c * xy + c * c * xx * yy), numerator)


def dist(x: Vector, y: Vector, c: Number) -> Number:
    """``(2/√c) artanh(√c |(-x) ⊕ y|)``."""
    return 2 / mp.sqrt(c) * mp.atanh(mp.sqrt(c) * length(mobius_add(times(mpf(-1), x), y, c)))


def expmap(x: Vector, v: Vector, c: Number) -> Vector:
    """``x ⊕ tanh(√c λ|v|/2) v/(√c|v|)``."""
    size = mp.sqrt(c) * length(v)
    if size == 0:
        return x
    return mobius_add(x, times(mp.tanh(conformal(x, c) * size / 2) / size, v), c)


def logmap(x: Vector, y: Vector, c: Number) -> Vector:
    """``(2/(√c λ)) artanh(√c|w|) w/|w|`` with ``w = (-x) ⊕ y``."""
    w = mobius_add(times(mpf(-1), x), y, c)
    size = mp.sqrt(c) * length(w)
    if size == 0:
        return w
    return times(2 / conformal(x, c) * mp.atanh(size) / size, w)


def gyration(x: Vector, y: Vector, v: Vector, c: Number) -> Vector:
    """``-(x ⊕ y) ⊕ (x ⊕ (y ⊕ v))``, extended from the ball to all vectors by linearity."""
    shrink = 1 / (4 * (1 + mp.sqrt(c) * length(v)))
    turned = mobius_add(x, mobius_add(y, times(shrink, v), c), c)
    return times(1 / shrink, mobius_add(times(mpf(-1), mobius_add(x, y, c)), turned, c))


def transp(x: Vector, y: Vector, v: Vector, c: Number) -> Vector:
    """``(λ_x/λ_y) gyr[y, -x]v``."""
    return times(conformal(x, c) / conformal(y, c), gyration(y, times(mpf(-1), x), v, c))


def gradient(function: Callable[..., Number], arguments: Sequence[Vector], index: int) -> Vector:
    """Gradient of a scalar function of vectors in argument ``index``, by central differences in 80 digits."""
    step = mpf(10) ** (-DIGITS // 4)
    result = []
    for i in range(len(arguments[index])):
        values = []
        for sign in (1, -1):
            moved = [list(a) for a in arguments]
            moved[index][i] += sign * step
            values.append(function(*moved))
        result.append((values[0] - values[1]) / (2 * step))
    return result


def relative(got: Tensor, wanted: Number | Vector) -> float:
    """Relative error of a number or a vector (by length) against the oracle; absolute where the truth is zero."""
    truth = wanted if isinstance(wanted, list) else [wanted]
    error, size = length(minus(vector(got.reshape(-1)), truth)), length(truth)
    return float(error / size) if size else float(error)
