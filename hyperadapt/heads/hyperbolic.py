"""Scores by distance in the Poincaré ball, alone or beside the cosine."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hyperadapt.adapters.base import BuildContext
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead
from hyperadapt.heads.episodes import among_own, check_withheld, withheld_classes
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from manifolds import Euclidean, PoincareBall, ToBall
from manifolds.regularizers import AbstractDraws


@dataclass(frozen=True)
class HyperbolicConfig:
    """Settings of distance scores.

    Attributes:
        manifold: "poincare", or "euclidean" for the flat twin.
        curvature: c of the ball (sectional curvature -c).
        learn_curvature: train it.
        image_radius, text_radius: tangent norms at which images and classes start, before the exponential map.
        learn_radii: train these two.
        temperature: distance that is worth one unit of logit; where it starts when trained.
        learn_temperature: train it.
        cosine_share: share of CLIP's scaled cosine in the logits, in [0, 1); the rest is the distance's.
        withheld: share of the training classes that play novel in a step, see `heads.episodes`.
    """

    manifold: Literal["poincare", "euclidean"] = "poincare"
    curvature: float = 0.1
    learn_curvature: bool = False
    image_radius: float = 2.3
    text_radius: float = 2.3
    learn_radii: bool = True
    temperature: float = 0.025
    learn_temperature: bool = False
    cosine_share: float = 0.0
    withheld: float = 0.0

    def __post_init__(self) -> None:
        check_withheld("hyperbolic", self.withheld)
        if min(self.curvature, self.image_radius, self.text_radius, self.temperature) <= 0:
            raise InputError(
                "hyperbolic needs curvature, radii and temperature > 0, got "
                f"{self.curvature}, {self.image_radius}, {self.text_radius}, {self.temperature}"
            )
        if not 0 <= self.cosine_share < 1:
            raise InputError(f"hyperbolic needs cosine_share in [0, 1), got {self.cosine_share}; for 1 use head cosine")


@dataclass(frozen=True)
class EncodedClasses:
    """Classes as directions and as points.

    Attributes:
        directions: (K, D) of unit length.
        points: (K, D) on the manifold.
        withheld: (K,), or None where all images are scored among all names.
    """

    directions: Float[Tensor, "k d"]
    points: Float[Tensor, "k d"]
    withheld: Bool[Tensor, " k"] | None


@register(
    "hyperbolic",
    "head",
    HyperbolicConfig,
    summary="distance of image and class in the Poincaré ball, with the cosine where asked for",
    source="Khrulkov et al. 2020, arXiv 1904.02239; Ermolov et al. 2022, arXiv 2203.10833",
    training=TrainingConfig(optimizer="adam", learning_rate=1e-3, weight_decay=0.0, epochs=50, batch_size=64),
)
class Hyperbolic(AbstractHead):
    """logits = -(1 - s) d(image, class) / t + s exp(logit_scale) <image, class>.

    Images and classes of equal radii are ranked by the distance as by the cosine, whatever the curvature: what tells
    the two apart is how fast scores fall, and where radii differ between images or classes.
    """

    any_width = True

    log_temperature: Tensor

    def __init__(self, config: HyperbolicConfig, context: BuildContext) -> None:
        super().__init__()
        self.config, self.scale = config, context.logit_scale
        self.manifold = (
            Euclidean()
            if config.manifold == "euclidean"
            else PoincareBall(config.curvature, learnable=config.learn_curvature)
        )
        self.image_to_ball = ToBall(self.manifold, None, config.image_radius, learn_scale=config.learn_radii)
        self.text_to_ball = ToBall(self.manifold, None, config.text_radius, learn_scale=config.learn_radii)
        log_temperature = torch.tensor(config.temperature).log()
        if config.learn_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature)

    @staticmethod
    def controls(config: HyperbolicConfig) -> dict[str, HyperbolicConfig]:
        """The flat twin."""
        return {} if config.manifold == "euclidean" else {"euclidean": replace(config, manifold="euclidean")}

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> EncodedClasses:
        """The class features, and their points."""
        withheld = withheld_classes(len(classes), self.config.withheld, draws)
        return EncodedClasses(classes.weights, self.text_to_ball(classes.weights), withheld)

    def logits(self, images: ImageFeatures, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        """Negative distances over the temperature, mixed with scaled cosines."""
        distances = self.manifold.pairwise_dist(self.image_to_ball(images.pooled), encoded.points)
        share = self.config.cosine_share
        scores = -(1 - share) * distances / self.log_temperature.exp()
        if share > 0:
            scores = scores + share * self.scale * images.pooled @ encoded.directions.T
        return scores

    def losses(self, images: ImageFeatures, encoded: EncodedClasses, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross entropy."""
        logits = among_own(self.logits(images, encoded), labels, encoded.withheld)
        return {"cross_entropy": cross_entropy(logits.float(), labels)}
