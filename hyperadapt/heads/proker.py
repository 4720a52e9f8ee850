"""ProKeR: kernel ridge regression of the labels around CLIP's scores, in closed form."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from hyperadapt.adapters.base import BuildContext
from hyperadapt.errors import InputError
from hyperadapt.heads.fitted import AbstractFittedHead, Setting, State
from hyperadapt.registry import ZERO_SHOT_BY_NAME, register
from hyperadapt.shots import Shots

BETAS = (0.5, 1.0, 1.7, 3.0, 5.5, 10.0)
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class ProKeRConfig:
    """Settings of ProKeR.

    Attributes:
        beta: sharpness of the kernel where nothing can be chosen on; as the release has it for one shot.
        penalty: lambda there; the same.
        search: choose both on validation images.
    """

    beta: float = 3.0
    penalty: float = 0.05
    search: bool = True

    def __post_init__(self) -> None:
        if self.beta <= 0 or self.penalty <= 0:
            raise InputError(f"proker needs beta > 0 and penalty > 0, got {self.beta} and {self.penalty}")


@register(
    "proker",
    "head",
    ProKeRConfig,
    summary="kernel ridge regression around CLIP's scores, in closed form (ProKeR)",
    source="Bendou et al. 2025, arXiv 2501.11175",
    novel=ZERO_SHOT_BY_NAME,
)
class ProKeR(AbstractFittedHead):
    """logits = exp(logit_scale) * (f T^T + k(f, S) A), A = (k(S, S) / lambda + I)^-1 (Y - S T^T), less A's class mean.

    k(x, y) = exp(-beta (1 - <x, y>)), S the training images (mean over views), Y their classes; equations after the
    release, whose A is lambda times that of kernel ridge regression on what zero-shot CLIP leaves. What all known
    classes share in A is left out, so that they can stand in one list with new ones.
    """

    parts, by_class = ("keys", "coefficients", "beta"), ("coefficients",)
    names = ("beta", "lambda")

    def __init__(self, config: ProKeRConfig, context: BuildContext) -> None:
        candidates = tuple(product(BETAS, PENALTIES)) if config.search else ()
        super().__init__(context, (config.beta, config.penalty), candidates)

    def shapes(self, context: BuildContext) -> dict[str, tuple[int, ...]]:
        """The images, and a coefficient for each class and image."""
        images = sum(context.counts)
        return {"keys": (images, context.embed_dim), "coefficients": (len(context.classes), images), "beta": ()}

    def solutions(self, shots: Shots, text: Float[Tensor, "c d"], settings: Sequence[Setting]) -> Iterator[State]:
        """One Cholesky factorisation a setting, in float64."""
        keys = shots.means
        exact, one = keys.double(), torch.eye(len(keys), dtype=torch.float64, device=keys.device)
        missing = one_hot(shots.labels, len(text)).to(exact) - exact @ text.double().T
        for beta, penalty in settings:
            root = torch.linalg.cholesky(kernel(exact, exact, beta) / penalty + one)
            coefficients = torch.cholesky_solve(missing - missing.mean(dim=1, keepdim=True), root)
            yield {"keys": keys, "coefficients": coefficients.T.to(keys), "beta": keys.new_tensor(beta)}

    def scored(self, pooled: Float[Tensor, "b d"], clip: Float[Tensor, "b k"], state: State) -> Float[Tensor, "b k"]:
        """CLIP's scores and the kernel's, both at CLIP's scale."""
        return clip + self.scale * kernel(pooled, state["keys"], state["beta"]) @ state["coefficients"].T


def kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], beta: float | Tensor) -> Float[Tensor, "n m"]:
    """exp(-beta (1 - <x, y>)) for rows of unit length.

    Example:
        >>> kernel(torch.eye(2), torch.eye(2), 1.0)
        tensor([[1.0000, 0.3679],
                [0.3679, 1.0000]])
    """
    return torch.exp(-beta * (1 - x @ y.T))
