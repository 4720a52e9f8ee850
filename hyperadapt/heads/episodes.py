"""Pseudo-novel episodes: in every step some training classes play novel and are told apart among themselves.

Their images are scored among their names alone, the other images among the other names, as base-to-novel scores its two
halves. A plain form of training over tasks; ProMetaR (Park et al. 2024, arXiv 2404.00851) learns a regulariser so.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hyperadapt.errors import InputError
from manifolds.regularizers import AbstractDraws


def check_withheld(name: str, share: float) -> None:
    """Refuse a share outside [0, 1).

    Raises:
        InputError: naming the head.
    """
    if not 0 <= share < 1:
        raise InputError(f"{name} needs withheld in [0, 1), got {share}; 0 scores every image among all names")


def withheld_classes(count: int, share: float, draws: AbstractDraws | None) -> Bool[Tensor, " k"] | None:
    """Which of `count` classes a step withholds, `share` of them by rounding; None for none and in evaluation."""
    if share == 0 or draws is None:
        return None
    return draws.rand(count).argsort().argsort() < round(share * count)


def among_own(
    logits: Float[Tensor, "b k"], labels: Int[Tensor, " b"], withheld: Bool[Tensor, " k"] | None
) -> Float[Tensor, "b k"]:
    """Logits with those of the other group of classes at minus infinity.

    Example:
        >>> among_own(torch.zeros(1, 3), torch.tensor([2]), torch.tensor([False, True, False]))
        tensor([[0., -inf, 0.]])
    """
    if withheld is None:
        return logits
    return logits.masked_fill(withheld[labels][:, None] != withheld, -torch.inf)
