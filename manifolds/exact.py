"""Error-free transformations: what float64 loses of ``c|x|²``, so that ``1 - c|x|²`` keeps its digits at the boundary.

Sums and products are split so that the leading part is exact in float64 and the rest is small (Dekker 1971; Ogita, Rump
and Oishi 2005). Here the leading part of every coordinate is a multiple of one power of two with 25 bits: squares are
then integers below 2^50 of one unit, and their sum is exact in any order, with plain vector operations.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

GRID_BITS = 25
ROUND = 1.5 * 2.0**52
SPLIT = 2.0**27 + 1.0


def lost(x: Float[Tensor, "*batch dim"], c: float | Tensor, rounded: Float[Tensor, "*batch 1"]) -> Tensor | float:
    """``c|x|² - rounded`` for float64 points, to about ``2^-77``; zero for coarser ones, squared in float64 anyway.

    Without a gradient: it is a rounding error.

    Args:
        x: points; those far outside the ball get zero.
        c: curvature.
        rounded: ``c|x|²`` as float64 has it.

    Example:
        >>> x = torch.tensor([0.1, 0.7], dtype=torch.float64)
        >>> abs(float(lost(x, 1.0, x.square().sum(-1, keepdim=True)))) < 2e-16
        True
    """
    if x.dtype != torch.float64:
        return 0.0
    with torch.no_grad():
        unit = _grid(c)
        head = (x / unit + ROUND) - ROUND
        rest = x - head * unit
        length = head.square().sum(-1, keepdim=True) * (unit * unit)
        tail = (rest * (x + head * unit)).sum(-1, keepdim=True)
        product, error = _two_product(length, c)
        return torch.where(rounded < 2.0, (product - rounded) + (error + c * tail), 0.0)


def _grid(c: float | Tensor) -> float | Tensor:
    """The power of two of which every coordinate of a point of the ball is at most ``2^GRID_BITS`` times."""
    if isinstance(c, Tensor):
        return torch.exp2(torch.ceil(torch.log2(torch.where(c > 0, c, 1.0)) / -2.0) - GRID_BITS)
    return 2.0 ** (math.ceil(math.log2(c) / -2.0) - GRID_BITS) if c > 0 else 1.0


def _two_product(x: Tensor, y: float | Tensor) -> tuple[Tensor, Tensor]:
    """``x y`` as the rounded product and its rounding error, exactly."""
    product = x * y
    (x_head, x_tail), (y_head, y_tail) = _halves(x), _halves(y)
    error = ((x_head * y_head - product) + x_head * y_tail + x_tail * y_head) + x_tail * y_tail
    return product, error


def _halves(x: Any) -> tuple[Any, Any]:
    """The upper and the lower half of the digits of a number or a tensor."""
    head = SPLIT * x
    head = head - (head - x)
    return head, x - head
