"""LP++: a linear probe that blends class means with CLIP's text scores, by steps that need no rate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from hyperadapt.adapters.base import BuildContext
from hyperadapt.errors import InputError
from hyperadapt.heads.fitted import AbstractLinearFit, Setting, State
from hyperadapt.registry import ZERO_SHOT_BY_NAME, register
from hyperadapt.shots import Shots

START = 250.0
"""Times the mean similarity of the shots and the texts of their classes: where the factors on the texts start."""


@dataclass(frozen=True)
class LPPConfig:
    """Settings of LP++.

    Attributes:
        iterations: full-batch steps on the rows.
        blend_every: steps on the rows between two steps on the factors.
    """

    iterations: int = 300
    blend_every: int = 10

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.blend_every < 1:
            raise InputError(
                f"lpp needs iterations >= 0 and blend_every >= 1, got {self.iterations} and {self.blend_every}"
            )


@register(
    "lpp",
    "head",
    LPPConfig,
    summary="linear probe from class means with a factor on each class text; step sizes follow from the data (LP++)",
    source="Huang et al. 2024, arXiv 2404.02285",
    novel=ZERO_SHOT_BY_NAME,
)
class LPP(AbstractLinearFit):
    """logits_c = <w_c, f> + a_c <f, t_c>: w_c starts at the class mean, a_c at 250 times the mean own similarity.

    Block coordinate descent of the cross entropy over all views of all shots. Each step is 1 / L for a bound L on the
    curvature of its block, so that no step raises the loss; see `step_sizes`. The release takes longer steps on the
    rows and shorter ones on the factors, adds momentum, and keeps the best epoch on validation images; here the last
    one counts.
    """

    selects = False
    names = ()

    def __init__(self, config: LPPConfig, context: BuildContext) -> None:
        super().__init__(context)
        self.config = config

    def solutions(self, shots: Shots, text: Float[Tensor, "c d"], settings: Sequence[Setting]) -> Iterator[State]:
        """One descent a setting, of which there is one."""
        for _ in settings:
            rows, factors = self._descended(shots, text)
            yield self.level(rows, torch.zeros_like(factors), factors / self.scale - 1, text)

    def _descended(self, shots: Shots, text: Float[Tensor, "c d"]) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
        """Rows and factors after the last step."""
        features, labels = shots.rows
        truth, similarity = one_hot(labels, len(text)).to(features), features @ text.T
        rows = shots.class_means(len(text))
        factors = torch.full_like(rows[:, 0], START * float((rows * text).sum(dim=1).mean()))
        row_step, factor_step = step_sizes(features, similarity)
        for iteration in range(1, self.config.iterations + 1):
            slope = _slope(features @ rows.T + factors * similarity, truth)
            rows = rows - row_step * slope.T @ features
            if iteration % self.config.blend_every == 0:
                slope = _slope(features @ rows.T + factors * similarity, truth)
                factors = factors - factor_step * (slope * similarity).sum(dim=0)
        return rows, factors


def _slope(logits: Float[Tensor, "n c"], truth: Int[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Gradient of the mean cross entropy in the logits."""
    return (logits.softmax(dim=1) - truth) / len(logits)


def step_sizes(features: Float[Tensor, "n d"], similarity: Float[Tensor, "n c"]) -> tuple[float, float]:
    """Steps on rows and on factors that cannot raise the mean cross entropy.

    The second derivative of the cross entropy in the logits of an image is at most 1/2 of the identity (Boehning 1992),
    so that of the mean is at most the largest eigenvalue of F^T F / (2 N) in the rows, and the largest sum over images
    of squared similarities, by class, / (2 N) in the factors.

    Args:
        features: F, of all shots.
        similarity: of them with the class texts.

    Example:
        >>> step_sizes(torch.eye(2), torch.full((2, 3), 0.5))
        (4.0, 8.0)
    """
    count = len(features)
    rows = 2 * count / float(torch.linalg.matrix_norm(features, ord=2)) ** 2
    return rows, 2 * count / max(float(similarity.square().sum(dim=0).max()), 1e-12)
