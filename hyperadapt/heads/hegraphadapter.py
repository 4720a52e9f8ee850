"""HeGraphAdapter: positive texts, negative texts and mean images of classes exchange messages over typed edges."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

from hyperadapt.adapters.base import BuildContext, rows_by_name
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead, similarities
from hyperadapt.registry import register
from hyperadapt.shots import Shots, class_sums
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import AbstractDraws

NEGATIVE = "a photo of no {}."


@dataclass(frozen=True)
class HeGraphAdapterConfig:
    """Settings of HeGraphAdapter.

    Attributes:
        to_negative: weights of the messages from positive texts and from images to negative texts.
        to_positive: weights of the messages from positive texts and from images to positive texts.
        from_negative: weight of the messages from negative to positive texts in training.
        from_negative_in_test: the same in evaluation.
        key_share: weight of what images gather from other classes in the cached keys.
        cache_share: weight of the cache's probabilities beside those of the texts.
    """

    to_negative: tuple[float, ...] = (0.5, 0.5)
    to_positive: tuple[float, ...] = (0.06, 0.24)
    from_negative: float = 0.2
    from_negative_in_test: float = 0.1
    key_share: float = 0.1
    cache_share: float = 1.0

    def __post_init__(self) -> None:
        if len(self.to_negative) != 2 or len(self.to_positive) != 2 or self.cache_share < 0:
            raise InputError(
                "hegraphadapter needs two weights in to_negative and in to_positive, and cache_share >= 0, got "
                f"{len(self.to_negative)}, {len(self.to_positive)} and {self.cache_share}"
            )


@dataclass(frozen=True)
class EncodedClasses:
    """A list of classes after the messages.

    Attributes:
        text: (K, D) positive texts of unit length.
        keys: (N, D) cached images of unit length.
        own: (K,) which training class each class is; -1 for a new class.
    """

    text: Float[Tensor, "k d"]
    keys: Float[Tensor, "n d"]
    own: Int[Tensor, " k"]


@register(
    "hegraphadapter",
    "head",
    HeGraphAdapterConfig,
    summary="messages between positive texts, negative texts and mean images, beside a cache (a reading)",
    source="Zhao et al. 2024, arXiv 2410.07854",
    training=TrainingConfig(optimizer="adam", learning_rate=1e-3, weight_decay=0.0, epochs=100, batch_size=256),
    novel="same weights, new names; without shots a class has no part in the cache",
)
class HeGraphAdapter(AbstractHead):
    """log(softmax(100 f P'^T) + w softmax(100 mean_own exp(f F'^T - 1))): a reading of HeGraphAdapter.

    The second softmax is over the training classes whatever is listed: a new class has no part in it, and a new class
    that has the name of a known one has the part of that class among all of them, not all of it.

    The nodes are the training classes, three kinds each: positive texts P, negative texts N ("a photo of no {}.") and
    mean images V. A message is tanh(W x_i / (d_i + 1) + sum_j r_ij W x_j / sqrt((d_i + 1)(d_j + 1))) with one W for
    each kind of node and r the cosine, negated between a class and its own negative text. First N gathers from P and V,
    then P from P, V and N; V gathers from the other classes of V, and this, times a share, moves the cached keys F.

    There is no released code; equations are those of a summary and of another implementation. Chosen here: tanh; the
    degree d_i sums the absolute cosines, so that its root exists, that of a source its cosine with itself too; P is
    the template mean, moved keys have unit length again; a new class is a target of messages without an own
    negative text; without a text tower the negative text of a class is the normalised mean of the texts of all others;
    the cache's sum over shots is a mean, so that its scores do not grow with the shots; texts and cache have a cross
    entropy each, for the cache holds the very images that are trained on; key_share 0.1 and cache_share 1; Adam at 1e-3
    for 100 epochs. The recipe `hegraphadapter` has cache_share 0.3 and 100 steps, as a ladder on base classes ended
    (`benchmarks/spaces/hegraphadapter.yaml`). A probability compares the classes of a list, so that a class' score
    depends on it.
    """

    reads_shots = True
    positive: Tensor
    negative: Tensor
    visual: Tensor
    keys: Tensor
    labels: Tensor
    sizes: Tensor

    def __init__(self, config: HeGraphAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        self.config, self.scale = config, context.logit_scale
        self.training_names, self.counts = context.classes.names, context.counts
        self.positive_map, self.negative_map, self.visual_map = (
            nn.Linear(context.embed_dim, context.embed_dim, bias=False) for _ in range(3)
        )
        labels = torch.arange(len(self.counts)).repeat_interleave(torch.tensor(self.counts))
        self.register_buffer("positive", context.classes.weights.clone(), persistent=False)
        self.register_buffer("negative", torch.zeros_like(context.classes.weights))
        self.register_buffer("visual", torch.zeros_like(context.classes.weights))
        self.register_buffer("keys", torch.zeros(len(labels), context.embed_dim))
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("sizes", torch.tensor(self.counts).clamp(min=1), persistent=False)

    @property
    def compares_classes(self) -> bool:
        """Probabilities are relative to the other classes of a list."""
        return True

    def prepare(self, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText) -> None:
        """Fill the cache, take the mean images of the classes and encode their negative texts."""
        shots = Shots.of(images, labels, self.counts)
        self.keys.copy_(shots.by_class())
        self.visual.copy_(normalize(shots.class_means(len(self.counts)), dim=-1))
        self.negative.copy_(negative_texts(classes))

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> EncodedClasses:
        """All messages; the weight of those from negative texts is another one in evaluation."""
        config, columns = self.config, torch.arange(len(self.positive), device=self.positive.device)
        own = rows_by_name(columns + 1, self.training_names, classes.names) - 1
        positive = _Nodes(self.positive_map, self.positive)
        negative = _Nodes(self.negative_map, self.negative)
        visual = _Nodes(self.visual_map, self.visual)
        known = torch.eye(len(columns)).to(self.positive)
        text_share, image_share = config.to_negative
        kept = self.negative_map(self.negative)
        moved = self.negative + text_share * negative.gather(negative.rows, kept, positive, 1 - 2 * known)
        moved = moved + image_share * negative.gather(negative.rows, kept, visual, 1 - 2 * known)
        denied = _Nodes(self.negative_map, moved)
        text, denying = classes.weights, 1 - 2 * (own[:, None] == columns).to(self.positive)
        text_share, image_share = config.to_positive
        denied_share = config.from_negative if draws is not None else config.from_negative_in_test
        shares = ((positive, text_share, None), (visual, image_share, None), (denied, denied_share, denying))
        kept = self.positive_map(text)
        found = text + sum(share * positive.gather(text, kept, nodes, signs) for nodes, share, signs in shares)
        others = visual.gather(visual.rows, None, visual, 1 - known)
        keys = normalize(self.keys + config.key_share * others[self.labels], dim=-1)
        return EncodedClasses(normalize(found, dim=-1), keys, own)

    def _both(self, images: ImageFeatures, encoded: EncodedClasses) -> tuple[Tensor, Tensor]:
        """Scores of the texts for the listed classes, and of the cache for the training classes."""
        cached = class_sums(torch.exp(similarities(images.pooled, encoded.keys) - 1), self.counts) / self.sizes
        return similarities(self.scale * images.pooled, encoded.text), self.scale * cached

    def logits(self, images: ImageFeatures, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        """Logarithm of the weighted sum of both probabilities."""
        text, cached = (log_softmax(scores, dim=1) for scores in self._both(images, encoded))
        if self.config.cache_share == 0:
            return text
        own = cached[:, encoded.own] + math.log(self.config.cache_share)
        return torch.logaddexp(text, own.masked_fill(encoded.own < 0, -torch.inf))

    def losses(self, images: ImageFeatures, encoded: EncodedClasses, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross entropy of the texts and of the cache."""
        text, cached = self._both(images, encoded)
        cached = cached[:, encoded.own].masked_fill(encoded.own < 0, 0.0)
        return {"text": cross_entropy(text.float(), labels), "cache": cross_entropy(cached.float(), labels)}


@dataclass(frozen=True)
class _Nodes:
    """Nodes of one kind.

    Attributes:
        map: of the kind.
        rows: (C, D), one a training class.
    """

    map: nn.Module
    rows: Float[Tensor, "c d"]

    def gather(
        self,
        targets: Float[Tensor, "k d"],
        kept: Float[Tensor, "k d"] | None,
        sources: "_Nodes",
        signs: Float[Tensor, "k c"] | None,
    ) -> Float[Tensor, "k d"]:
        """What targets of this kind receive from the training classes' nodes of a kind.

        Args:
            targets: any classes; the degrees of the sources count the training classes alone.
            kept: the targets' own rows behind the map; None where these are not among what a target receives.
            sources: where messages come from.
            signs: factor on each edge, or None.
        """
        origin = normalize(sources.rows, dim=-1)
        edges = similarities(normalize(targets, dim=-1), origin)
        edges = edges if signs is None else signs * edges
        arriving = 1 + edges.abs().sum(dim=1, keepdim=True)
        leaving = 1 + similarities(normalize(self.rows, dim=-1), origin).abs().sum(dim=0)
        message = sources.map((edges * (arriving * leaving).rsqrt()) @ sources.rows)
        return torch.tanh(message if kept is None else message + kept / arriving)


def negative_texts(classes: ClassText) -> Float[Tensor, "k d"]:
    """What a class is not: "a photo of no {}." through the tower, or where there is none the mean of all other texts.

    Example:
        >>> negative_texts(ClassText(("a", "b"), torch.eye(2)[None], torch.eye(2)))
        tensor([[0., 1.],
                [1., 0.]])
    """
    if classes.tower is not None:
        return classes.tower.encode([NEGATIVE.format(name) for name in classes.names]).to(classes.weights)
    return normalize(classes.weights.sum(dim=0) - classes.weights, dim=-1)
