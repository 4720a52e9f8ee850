"""GDA: Gaussian discriminant analysis beside CLIP's scores, in closed form."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hyperadapt.adapters.base import BuildContext
from hyperadapt.errors import InputError
from hyperadapt.heads.fitted import AbstractLinearFit, Setting, State
from hyperadapt.registry import ZERO_SHOT_BY_NAME, register
from hyperadapt.shots import Shots

CANDIDATES = (0.0, *(10 ** (exponent / 4) for exponent in range(-16, 9)))


@dataclass(frozen=True)
class GDAConfig:
    """Settings of GDA.

    Attributes:
        alpha: factor on the discriminant where nothing can be chosen on.
        search: choose it on validation images.
    """

    alpha: float = 0.1
    search: bool = True

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise InputError(f"gda needs alpha >= 0, got {self.alpha}")


@register(
    "gda",
    "head",
    GDAConfig,
    summary="Gaussian discriminant with a shared covariance beside CLIP's scores, in closed form",
    source="Wang et al. 2024, arXiv 2402.04087",
    novel=ZERO_SHOT_BY_NAME,
)
class GDA(AbstractLinearFit):
    """logits = CLIP + alpha * (<f, w_c> + b_c), w_c = P m_c, b_c = -log C - <m_c, P m_c> / 2.

    m_c is the mean of a class, P = D ((n - 1) S + tr(S) I)^-1 the precision of all classes, with S the covariance of n
    rows (all views of all shots) about the means of their classes. With one row a class S is zero: then it is taken
    about the mean of all rows. Classes are equally likely.
    """

    names = ("alpha",)

    def __init__(self, config: GDAConfig, context: BuildContext) -> None:
        super().__init__(context, (config.alpha,), [(alpha,) for alpha in CANDIDATES] if config.search else ())

    def solutions(self, shots: Shots, text: Float[Tensor, "c d"], settings: Sequence[Setting]) -> Iterator[State]:
        """The discriminant once, times each factor."""
        weight, bias = discriminant(shots, len(text))
        for (alpha,) in settings:
            yield self.level(alpha * weight, alpha * bias, torch.zeros_like(bias), text)


def discriminant(shots: Shots, count: int) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
    """Weights and constants of the classes, in float64.

    Args:
        shots: of some of the classes.
        count: how many classes there are; those without shots have the mean of all.

    Raises:
        InputError: when all shots are one and the same.

    Example:
        >>> discriminant(Shots(torch.eye(2)[None], torch.tensor([0, 1])), 2)[0]
        tensor([[1.5000, 0.5000],
                [0.5000, 1.5000]], dtype=torch.float64)
    """
    shots = Shots(shots.views.double(), shots.labels)
    (rows, labels), means = shots.rows, shots.class_means(count)
    apart = rows - (means[labels] if int(labels.bincount().max()) > 1 else rows.mean(dim=0))
    scatter = apart.T @ apart
    trace = scatter.trace() / max(len(rows) - 1, 1)
    if not trace > 0:
        raise InputError(f"gda needs two training images at least that differ, got {len(rows)}; take another method")
    precision = torch.linalg.inv(scatter + trace * torch.eye(len(scatter)).to(scatter)) * len(scatter)
    weight = means @ precision
    bias = -math.log(count) - (weight * means).sum(dim=1) / 2
    return weight, bias
