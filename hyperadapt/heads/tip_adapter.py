"""Tip-Adapter: the training images themselves as a cache of keys and values beside CLIP's scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hyperadapt.adapters.base import BuildContext, known_positions
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead, similarities
from hyperadapt.registry import ZERO_SHOT_BY_NAME, register
from hyperadapt.shots import Shots, class_sums, of_listed
from hyperadapt.text import ClassText
from manifolds.regularizers import AbstractDraws

ALPHAS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0)
BETAS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.5, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0)


@dataclass(frozen=True)
class TipAdapterConfig:
    """Settings of Tip-Adapter.

    Attributes:
        alpha: factor on the cache's scores; in training, and afterwards where nothing is searched.
        beta: sharpness of the affinity.
        train_keys: train the keys (Tip-Adapter-F); without it nothing is trained.
        search: choose alpha and beta on validation images of the training classes; where there are none, on shots held
            out of the cache, unless its keys are trained.
    """

    alpha: float = 1.17
    beta: float = 1.0
    train_keys: bool = False
    search: bool = True

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.beta <= 0:
            raise InputError(f"tip-adapter needs alpha >= 0 and beta > 0, got {self.alpha} and {self.beta}")


@dataclass(frozen=True)
class EncodedClasses:
    """The classes as the cache sees them.

    Attributes:
        text: (K, D) class features.
        own: (K,) which cached class each class is, -1 for one that is not cached; None for the cached ones in order.
    """

    text: Float[Tensor, "k d"]
    own: Int[Tensor, " k"] | None


@register(
    "tip-adapter",
    "head",
    TipAdapterConfig,
    summary="training images as a cache beside CLIP's scores; nothing is trained",
    source="Zhang et al. 2022, arXiv 2207.09519",
    novel=ZERO_SHOT_BY_NAME,
)
class TipAdapter(AbstractHead):
    """logits = CLIP + alpha * exp(-beta (1 - f K^T)) V with cached keys K (N, D) and one-hot values V (N, C).

    A key is the normalised mean over the views of a training image. Keys stand class by class, so that V is a sum over
    as many keys as a class has images. A class is known by its name: in whatever list it stands it gets its part of the
    cache, less the mean over the known classes, which changes nothing among these and lets new ones stand beside them;
    every other class has its zero-shot score alone.

    With `train_keys` it is Tip-Adapter-F. The release starts it from another alpha on each data set, 1.17 to 10, trains
    20 epochs (100 on one set), keeps the epoch that is best on test images and searches 200 by 20 pairs of alpha and
    beta; the recipe here starts from alpha 3 everywhere and trains 100 epochs to the end, as chosen on base classes
    (`benchmarks/spaces/tip-adapter-f.yaml`), and 13 by 17 pairs are searched.
    """

    reads_shots = True
    selects = True
    alpha: Tensor
    beta: Tensor

    def __init__(self, config: TipAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        self.scale = context.logit_scale
        self.selects = config.search
        self.training_names = context.classes.names
        self.counts = context.counts
        keys = torch.zeros(sum(self.counts), context.embed_dim)
        if config.train_keys:
            self.keys = nn.Parameter(keys)
        else:
            self.register_buffer("keys", keys)
        self._shots: Shots | None = None  # until settings are chosen
        self.register_buffer("alpha", torch.tensor(config.alpha))
        self.register_buffer("beta", torch.tensor(config.beta))

    def prepare(self, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText) -> None:
        """Fill the cache.

        Raises:
            InputError: when the classes have other numbers of images than the cache was built for.
        """
        shots = Shots.of(images, labels, self.counts)
        self.keys.copy_(shots.by_class())
        if self.selects and not isinstance(self.keys, nn.Parameter):
            self._shots = shots

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> EncodedClasses:
        """The class features, and which cached class each is."""
        own = known_positions(classes.names, self.training_names, self.keys.device)
        return EncodedClasses(classes.weights, own)

    def logits(self, images: ImageFeatures, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        """Scaled cosines and the cache."""
        cached = of_listed(cache_scores(images.pooled, self.keys, self.counts, self.beta), encoded.own)
        return self.scale * images.pooled @ encoded.text.T + self.alpha * cached

    def losses(self, images: ImageFeatures, encoded: EncodedClasses, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross entropy."""
        return {"cross_entropy": cross_entropy(self.logits(images, encoded).float(), labels)}

    def select(self, batches: Sequence[ImageFeatures], encoded: EncodedClasses, labels: Int[Tensor, " n"]) -> str:
        """Take the pair of alpha and beta with the most right answers, then the highest likelihood.

        Without validation images a quarter of each class' shots is held out of a cache that is not trained.
        """
        shots, self._shots = self._shots, None
        keys, counts, truth = self.keys, self.counts, labels
        where = f"on {len(labels)} validation images of the training classes"
        if len(labels):
            seen = [images.pooled for images in batches]
        elif shots is not None and (parted := shots.parted()) is not None:
            rest, held = parted
            keys, seen, truth = rest.by_class(), [held.views[0]], held.labels
            counts = tuple(rest.labels.bincount(minlength=len(counts)).tolist())
            where = f"on {len(truth)} shots held out, for there is no validation image of the training classes"
        else:
            return (
                f"alpha {float(self.alpha):g} and beta {float(self.beta):g} as set, for there is no validation image "
                "of the training classes"
            )
        found = {(alpha, beta): (0, 0.0) for beta in BETAS for alpha in ALPHAS}
        for pooled, own in zip(seen, truth.split([len(pooled) for pooled in seen]), strict=True):
            clip = self.scale * pooled @ encoded.text.T
            for beta in BETAS:
                cached = cache_scores(pooled, keys, counts, beta)
                for alpha in ALPHAS:
                    logits = clip + alpha * cached
                    right = int((logits.argmax(dim=1) == own).sum())
                    likelihood = -float(cross_entropy(logits.double(), own, reduction="sum"))
                    before = found[alpha, beta]
                    found[alpha, beta] = (before[0] + right, before[1] + likelihood)
        alpha, beta = max(found, key=lambda pair: found[pair])
        self.alpha.fill_(alpha)
        self.beta.fill_(beta)
        among = f"chosen among {len(found)} pairs, by accuracy and then likelihood"
        return f"alpha {alpha:g} and beta {beta:g} {among}, {where}"


def cache_scores(
    pooled: Float[Tensor, "b d"],
    keys: Float[Tensor, "n d"],
    counts: Sequence[int],
    beta: float | Tensor,
) -> Float[Tensor, "b c"]:
    """Scores of a cache, before alpha.

    Args:
        pooled: image features.
        keys: of unit length at first, class by class.
        counts: keys of each class.
        beta: how fast a key's part falls with its distance.

    Example:
        >>> cache_scores(torch.eye(2)[:1], torch.eye(2), [1, 1], 1.0)
        tensor([[1.0000, 0.3679]])
    """
    return class_sums(torch.exp(-beta * (1 - similarities(pooled, keys))), counts)
