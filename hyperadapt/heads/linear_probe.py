"""Linear probe: logistic regression on frozen image features."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from hyperadapt.adapters.base import BuildContext
from hyperadapt.errors import InputError
from hyperadapt.heads.fitted import AbstractLinearFit, Setting, State
from hyperadapt.registry import ZERO_SHOT_BY_NAME, register
from hyperadapt.shots import Shots

CANDIDATES = (1.0, 3.16, 10.0, 31.6, 100.0, 316.0)


@dataclass(frozen=True)
class LinearProbeConfig:
    """Settings of the linear probe.

    Attributes:
        inverse_penalty: scikit-learn's C where nothing can be chosen on: weight of the summed cross entropy against
            half the squared weights, of features of unit length.
        search: choose it on validation images.
        max_iterations: of L-BFGS; a fit that ends there is used as it is.
    """

    inverse_penalty: float = 10.0
    search: bool = True
    max_iterations: int = 300

    def __post_init__(self) -> None:
        if self.inverse_penalty <= 0 or self.max_iterations < 1:
            raise InputError(
                f"linear-probe needs inverse_penalty > 0 and max_iterations >= 1, got {self.inverse_penalty} and "
                f"{self.max_iterations}"
            )


@register(
    "linear-probe",
    "head",
    LinearProbeConfig,
    summary="logistic regression on image features, without text (scikit-learn)",
    source="Radford et al. 2021, arXiv 2103.00020",
    novel=ZERO_SHOT_BY_NAME,
)
class LinearProbe(AbstractLinearFit):
    """logits = <f, w_c> + b_c for known classes, from all views of all shots; CLIP's scores for new ones.

    Scores of a probe say nothing about other classes: in one list with new ones, one of the two kinds is favoured.
    """

    names = ("C",)

    def __init__(self, config: LinearProbeConfig, context: BuildContext) -> None:
        super().__init__(context, (config.inverse_penalty,), [(c,) for c in CANDIDATES] if config.search else ())
        self.max_iterations = config.max_iterations

    def solutions(self, shots: Shots, text: Float[Tensor, "c d"], settings: Sequence[Setting]) -> Iterator[State]:
        """One fit after another, each from the weights of the one before.

        Raises:
            InputError: for shots of one class.
        """
        features, labels = (part.cpu().numpy() for part in shots.rows)
        if len(found := set(labels.tolist())) < 2:
            raise InputError(f"linear-probe needs shots of two classes at least, got {len(found)}; take another method")
        probe = LogisticRegression(max_iter=self.max_iterations, warm_start=True)
        for (c,) in settings:
            probe.C = c
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                probe.fit(features, labels)
            weight, bias = _placed(probe, text)
            yield self.level(weight, bias, torch.full_like(bias, -1.0), text)


def _placed(probe: LogisticRegression, text: Float[Tensor, "c d"]) -> tuple[Tensor, Tensor]:
    """Rows of a fit at the labels that they are for; of two classes scikit-learn keeps the difference alone."""
    weight, bias = torch.from_numpy(probe.coef_).to(text), torch.from_numpy(probe.intercept_).to(text)
    if len(probe.classes_) == 2:
        weight, bias = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
    labels = torch.from_numpy(probe.classes_).to(text.device)
    rows, constants = torch.zeros_like(text), text.new_full((len(text),), float(bias.min()))
    rows[labels], constants[labels] = weight, bias
    return rows, constants
