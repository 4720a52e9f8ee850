"""The adapter: attributes, bridges to categories and images, hierarchy."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.adapters.lathadapter.attributes import build_attributes
from hyperadapt.adapters.lathadapter.bridges import category_bridge, image_bridge
from hyperadapt.adapters.lathadapter.config import LatHAdapterConfig
from hyperadapt.adapters.lathadapter.hierarchy import Hierarchy, Nodes, total
from hyperadapt.adapters.lathadapter.readout import Subject, read_attributes
from hyperadapt.backbone import ImageFeatures
from hyperadapt.registry import SAME_WEIGHTS, register
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig

EXTRA_CATEGORIES = 64
"""Categories that join the hierarchy of a step beside one for each image, where there are that many."""
TOLD_OF = 256
"""Training images on which a description says what the hierarchical terms do."""
REACHED = "same weights; images go as far as held-out classes say, in any list with new names"


@register(
    "lathadapter",
    "adapter",
    LatHAdapterConfig,
    summary="attribute prompts as a bridge, hierarchical regulariser in the Poincaré ball (independent implementation)",
    source="after the abstract of Zhao et al. 2025, arXiv 2508.11176; HIER, arXiv 2212.14258",
    training=TrainingConfig(optimizer="adamw", learning_rate=1e-3, weight_decay=1e-4, epochs=50, batch_size=64),
    novel=lambda config: SAME_WEIGHTS if config.reach == "full" else REACHED,
    starts_at_zero_shot=lambda config: config.categories != "bottleneck",
)
class LatHAdapter(AbstractAdapter):
    """Attributes reach categories and images over bridges; a hierarchical regulariser arranges the three kinds.

    No parameter belongs to a class: new names pass through the same attributes and bridges, and inference needs no
    hyperbolic computation. Bridges start as the identity (the bottleneck apart), so training starts at zero-shot CLIP.
    """

    map_penalty: Tensor
    reach: Tensor

    def __init__(self, config: LatHAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        self.config, self.dim = config, context.embed_dim
        self.attributes = build_attributes(config, context) if config.has_attributes else None
        self.categories = category_bridge(config, self.dim)
        self.images = image_bridge(config, self.dim)
        self.hierarchy = Hierarchy(config, self.dim) if config.arranges else None
        penalty = torch.tensor(config.map_penalty / max(1, context.training_images))
        self.register_buffer("map_penalty", penalty, persistent=False)  # so that runs side by side keep their own
        self.trained_on = frozenset(context.classes.names)
        if self.chooses_reach:
            self.register_buffer("reach", torch.tensor(1.0))

    @property
    def chooses_reach(self) -> bool:
        """As the settings say."""
        return self.config.reach == "chosen"

    def set_reach(self, part: float) -> None:
        """Keep it among the weights."""
        self.reach.fill_(part)

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """Categories over their bridge; the attributes travel along, as means over classes where each has its own."""
        attributes = classes.weights.new_zeros(0, self.dim) if self.attributes is None else self.attributes(classes)
        adapted = self.categories(classes.weights, attributes)
        shared = attributes if attributes.ndim == 2 else normalize(attributes.mean(0), dim=-1)
        weights = self._with_zero_shot(adapted, classes.weights)
        own = attributes.transpose(0, 1) if attributes.ndim == 3 else None
        return replace(classes, weights=weights, attributes=shared, own_attributes=own, frozen=classes.weights)

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """Images over theirs; only as far as the reach where a name of the list was not trained on."""
        adapted = self.images(images.pooled, classes.attributes)
        if self.chooses_reach and not self.trained_on.issuperset(classes.names):
            adapted = normalize(torch.lerp(images.pooled, adapted, self.reach), dim=-1)
        return ImageFeatures(self._with_zero_shot(adapted, images.pooled), images.parts)

    @property
    def widens(self) -> bool:
        """With a share of zero-shot, whose features stand beside the adapted ones."""
        return self.config.zero_shot_share > 0

    def _with_zero_shot(self, adapted: Float[Tensor, "n d"], frozen: Float[Tensor, "n d"]) -> Float[Tensor, "n w"]:
        """Side by side, so that a cosine is the mix of the adapted and the zero-shot one."""
        share = self.config.zero_shot_share
        if share == 0:
            return adapted
        return torch.cat([(1 - share) ** 0.5 * adapted, share**0.5 * frozen], dim=-1)

    def _adapted(self, mixed: Float[Tensor, "n w"]) -> Float[Tensor, "n d"]:
        share = self.config.zero_shot_share
        return mixed if share == 0 else mixed[..., : self.dim] / (1 - share) ** 0.5

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Hierarchy, order of radii, consistency with zero-shot and size of linear maps, each where asked for."""
        config, terms = self.config, {}
        if self.hierarchy is not None:
            nodes = self.nodes(batch, self.hierarchy)
            if config.hier_weight > 0:
                found = self.hierarchy.terms(nodes, batch.draws)
                if found:
                    terms["hierarchy"] = config.hier_weight * total(list(found.values()))
            if config.radial_weight > 0:
                terms["radius"] = config.radial_weight * self.hierarchy.radial(nodes)
        if config.consistency > 0:
            assert batch.classes.frozen is not None
            kept = (self._adapted(batch.classes.weights) * batch.classes.frozen).sum(-1)
            terms["consistency"] = config.consistency * (1 - kept).mean()
        penalty = self.categories.penalty() + self.images.penalty()
        if isinstance(penalty, Tensor):
            terms["map_penalty"] = self.map_penalty * penalty
        return terms

    @staticmethod
    def controls(config: LatHAdapterConfig) -> dict[str, LatHAdapterConfig]:
        """Without the hierarchy, and in flat space; the same thing without a hierarchy, so then there is none."""
        if not config.arranges:
            return {}
        without = {"no-hierarchy": replace(config, hier_weight=0.0, radial_weight=0.0)}
        return (
            without
            if config.manifold == "euclidean"
            else {**without, "euclidean": replace(config, manifold="euclidean")}
        )

    def describe(self, batch: TrainingBatch, frozen: ClassText, image_names: Sequence[str]) -> dict[str, Any] | None:
        """Attributes in words, what they join, their tree, and what the hierarchical terms do on these images.

        Attributes that were trained without a hierarchy are put on the ball for this alone; None without attributes.
        """
        attributes, weights = batch.classes.attributes, self._adapted(batch.classes.weights)
        if self.attributes is None or attributes is None:
            return None
        hierarchy = self.hierarchy or Hierarchy(replace(self.config, projection="scale"), self.dim).to(weights.device)
        everyone = torch.arange(len(frozen), device=batch.labels.device)
        nodes = hierarchy.nodes(self._adapted(batch.images.pooled), batch.labels, weights, everyone, attributes)
        told = read_attributes(Subject(hierarchy.manifold, nodes, self.attributes, attributes, frozen, image_names))
        if self.hierarchy is not None:
            some = replace(batch, images=batch.images[:TOLD_OF], labels=batch.labels[:TOLD_OF])
            terms = hierarchy.terms(self.nodes(some, hierarchy), batch.draws)
            told["terms"] = {name: {k: float(v) for k, v in vars(term).items()} for name, term in terms.items()}
        return told

    def nodes(self, batch: TrainingBatch, hierarchy: Hierarchy) -> Nodes:
        """Points of the batch's images, of its categories and some others, and of all attributes."""
        chosen, attributes = self._chosen(batch), batch.classes.attributes
        assert attributes is not None
        weights = self._adapted(batch.classes.weights)[chosen]
        images = self._adapted(batch.images.pooled)
        return hierarchy.nodes(images, batch.labels, weights, chosen, attributes)

    def _chosen(self, batch: TrainingBatch) -> Int[Tensor, " k"]:
        """The batch's categories, then random others, as many in all as images and `EXTRA_CATEGORIES`; ascending."""
        count, size = len(batch.classes), len(batch.labels) + EXTRA_CATEGORIES
        if count <= size:
            return torch.arange(count, device=batch.labels.device)
        chance = batch.draws.rand(count)
        rank = chance.scatter(0, batch.labels, chance[batch.labels] + 1.0)
        return rank.topk(size).indices.sort().values
