"""LatHAdapter: learnable attribute prompts join categories and images under a hierarchical regulariser in the ball.

An independent implementation after the published abstract (Zhao et al. 2025, arXiv 2508.11176), with the hierarchical
regularisation of HIER (arXiv 2212.14258). The paper's body was not available: how attributes are made, how they reach
the class features and which hierarchy is learnt are our reading, stated in `LatHAdapterConfig`; no figure of the paper
is claimed.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from manifolds import Euclidean, PoincareBall, ToBall
from manifolds.regularizers import NodeSet, hier_term

EXTRA_CATEGORIES = 64
"""Categories that join the hierarchy of a step beside one for each image, where there are that many."""


@dataclass(frozen=True)
class LatHAdapterConfig:
    """Settings of the default reading.

    Attributes:
        attributes: number M of attribute prompts.
        attribute_source: "prompts" are learnable token sequences through the frozen text tower, without a class name;
            "features" are free vectors in the joint space; "auto" takes prompts where a text tower is at hand and
            features where only stored features are.
        prompt_length: learnable tokens of one attribute prompt.
        attention_width: width of the attention of categories over attributes.
        residual: factor on what the attributes add to a category.
        manifold: "poincare", or "euclidean" for the flat twin.
        curvature: c of the ball (sectional curvature -c).
        clip_radius: bound on a node's tangent norm before the exponential map.
        hier_weight: factor on the hierarchical term; 0 leaves it out.
        neighbours, triplets, temperature, margin: of the hierarchical term, see `manifolds.regularizers.hier_term`.
    """

    attributes: int = 16
    attribute_source: Literal["auto", "prompts", "features"] = "auto"
    prompt_length: int = 4
    attention_width: int = 64
    residual: float = 1.0
    manifold: Literal["poincare", "euclidean"] = "poincare"
    curvature: float = 0.1
    clip_radius: float = 2.3
    hier_weight: float = 0.5
    neighbours: int = 20
    triplets: int = 50
    temperature: float = 0.1
    margin: float = 0.1

    def __post_init__(self) -> None:
        if self.attributes < 2 or self.prompt_length < 1:
            raise InputError(
                "lathadapter needs attributes >= 2 and prompt_length >= 1, got "
                f"{self.attributes} and {self.prompt_length}"
            )
        if self.curvature <= 0 or self.clip_radius <= 0 or self.hier_weight < 0:
            raise InputError(
                "lathadapter needs curvature > 0, clip_radius > 0 and hier_weight >= 0, got "
                f"{self.curvature}, {self.clip_radius}, {self.hier_weight}; for flat space use manifold: euclidean"
            )


@register(
    "lathadapter",
    "adapter",
    LatHAdapterConfig,
    summary="attribute prompts as a bridge, hierarchical regulariser in the Poincaré ball (independent implementation)",
    source="after the abstract of Zhao et al. 2025, arXiv 2508.11176; HIER, arXiv 2212.14258",
    training=TrainingConfig(optimizer="adamw", learning_rate=1e-3, weight_decay=1e-4, epochs=50, batch_size=64),
)
class LatHAdapter(AbstractAdapter):
    """Categories attend over attributes; categories, attributes and images are arranged in a latent hierarchy.

    T' = normalise(T + a * softmax(T Wq (A Wk)^T / sqrt(h)) A Wv) with categories T and attributes A. Wv starts at
    zero, so training starts at zero-shot CLIP. No parameter belongs to a class: new names pass through the same
    attributes and projections, and inference needs no hyperbolic computation.

    The learning rate was chosen among 0.0003, 0.001 and 0.003 inside the base classes of two feature sets and two
    embedded worlds; everything else is HIER's or the reading's first value.
    """

    def __init__(self, config: LatHAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        self.config = config
        source = config.attribute_source
        self.from_prompts = source == "prompts" or (source == "auto" and context.classes.takes_contexts)
        if self.from_prompts:
            width = context.classes.prompt_tower.width
            self.attributes = nn.Parameter(torch.randn(config.attributes, config.prompt_length, width) * 0.02)
        else:
            self.attributes = nn.Parameter(torch.randn(config.attributes, context.embed_dim) / context.embed_dim**0.5)
        d = context.embed_dim
        self.query = nn.Linear(d, config.attention_width, bias=False)
        self.key = nn.Linear(d, config.attention_width, bias=False)
        self.value = nn.Linear(d, d, bias=False)
        nn.init.zeros_(self.value.weight)
        manifold = PoincareBall(config.curvature) if config.manifold == "poincare" else Euclidean()
        r = config.clip_radius
        self.image_to_ball = ToBall(manifold, clip_radius=r, scale=r)
        self.text_to_ball = ToBall(manifold, clip_radius=r, scale=0.7 * r, learn_scale=True)
        self.attribute_to_ball = ToBall(manifold, clip_radius=r, scale=0.5 * r, learn_scale=True)

    def attribute_features(self, classes: ClassText) -> Float[Tensor, "m d"]:
        """The attributes in the joint space, L2-normalised."""
        if not self.from_prompts:
            return normalize(self.attributes, dim=-1)
        tower = classes.prompt_tower
        ids = tower.tokenize([""], reserve=self.config.prompt_length).to(self.attributes.device)
        return tower.prompts(self.attributes[:, None], ids)[:, 0]

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Each category attends over the attributes; the attributes travel along for the hierarchy."""
        attributes = self.attribute_features(classes)
        attention = self.query(classes.weights) @ self.key(attributes).T / self.config.attention_width**0.5
        bridge = self.value(attention.softmax(dim=-1) @ attributes)
        adapted = normalize(classes.weights + self.config.residual * bridge, dim=-1)
        return replace(classes, weights=adapted, attributes=attributes)

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """The images as they are: in this reading the attributes act on the categories."""
        return images

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Images and categories under the attributes, and the attributes among themselves (HIER's two terms)."""
        if self.config.hier_weight == 0:
            return {}
        chosen = self._categories(batch)
        images = self.image_to_ball(batch.images.pooled)
        categories = self.text_to_ball(batch.classes.weights[chosen])
        attributes = self.attribute_to_ball(batch.classes.attributes)
        leaves = NodeSet(torch.cat([images, categories]), torch.cat([batch.labels, chosen]))
        settings = {
            "neighbours": self.config.neighbours,
            "per_anchor": self.config.triplets,
            "tau": self.config.temperature,
            "margin": self.config.margin,
            "draws": batch.draws,
        }
        manifold = self.image_to_ball.manifold
        below = hier_term(manifold, leaves, attributes, **settings)
        among = hier_term(manifold, NodeSet(attributes), attributes, **settings)
        return {"hierarchy": self.config.hier_weight * (below.loss + among.loss)}

    def _categories(self, batch: TrainingBatch) -> Int[Tensor, " k"]:
        """The batch's categories, then random others, as many in all as images and `EXTRA_CATEGORIES`; ascending."""
        count, size = len(batch.classes), len(batch.labels) + EXTRA_CATEGORIES
        if count <= size:
            return torch.arange(count, device=batch.labels.device)
        chance = batch.draws.rand(count)
        rank = chance.scatter(0, batch.labels, chance[batch.labels] + 1.0)
        return rank.topk(size).indices.sort().values
