"""MF-Adapter: windows of an image compared with windows of the shots that are typical of their class."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, normalize

from hyperadapt.adapters.base import BuildContext, known_positions
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.heads.base import AbstractHead
from hyperadapt.registry import ZERO_SHOT_BY_NAME, register
from hyperadapt.shots import Shots, class_sums, of_listed
from hyperadapt.text import ClassText
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import AbstractDraws


@dataclass(frozen=True)
class MFAdapterConfig:
    """Settings of MF-Adapter.

    Attributes:
        windows: sides of the square windows that slide over positions, by half of their side.
        units: windows of the shots that stand for each class.
        local_weight, local_sharpness: factor on the scores of the windows, and how fast they fall.
        cache_weight, cache_sharpness: the same of the cache of whole images, as in Tip-Adapter.
    """

    windows: tuple[int, ...] = (2, 4)
    units: int = 8
    local_weight: float = 20.0
    local_sharpness: float = 5.5
    cache_weight: float = 1.17
    cache_sharpness: float = 5.5

    def __post_init__(self) -> None:
        if not self.windows or min(self.windows) < 1 or self.units < 1:
            raise InputError(
                f"mf-adapter needs windows and units of at least 1, got {list(self.windows)} and {self.units}"
            )


@dataclass(frozen=True)
class EncodedClasses:
    """A list of classes.

    Attributes:
        text: (K, D) class features.
        own: (K,) which training class each class is, -1 for a new one; None for the training classes in order.
    """

    text: Float[Tensor, "k d"]
    own: Int[Tensor, " k"] | None


@register(
    "mf-adapter",
    "head",
    MFAdapterConfig,
    summary="windows of images against typical windows of the shots, beside a cache (a reading of MF-Adapter)",
    source="Shi et al. 2024, arXiv 2407.05647",
    training=TrainingConfig(optimizer="adamw", learning_rate=1e-3, weight_decay=1e-4, epochs=20, batch_size=256),
    novel=ZERO_SHOT_BY_NAME,
)
class MFAdapter(AbstractHead):
    """logits = CLIP + a cache of the shots + g mean_u exp(-b (1 - max_p <q_p, u>)) over the units u of a class.

    A reading of the paper's abstract: no equations, code or figures were at hand. Chosen here: windows are means over
    squares of the tower features that part readers give (`PartFeatures.maps`, before the last two blocks); a window is
    the more typical of its class, the more its cosine with the mean window of the class exceeds that with the mean
    window of any other, and the most typical ones of all shots are the units; q = normalise(w + w A) with A trained
    from zero; the cache is Tip-Adapter's, untrained; all factors are fixed, and a ladder on base classes left them as
    they were (`benchmarks/spaces/mf-adapter.yaml`); what both add is taken relative to its mean over the training
    classes, so that new classes can stand beside them. Where images have no positions, as in stored features, the
    pooled feature is the only window.
    """

    reads_shots = True
    pools_parts = True
    keys: Tensor
    units: Tensor

    def __init__(self, config: MFAdapterConfig, context: BuildContext) -> None:
        super().__init__()
        self.config, self.scale = config, context.logit_scale
        self.training_names, self.counts = context.classes.names, context.counts
        width = context.part_width if context.part_width is not None else context.embed_dim
        self.change = nn.Parameter(torch.zeros(width, width))
        self.register_buffer("keys", torch.zeros(sum(self.counts), context.embed_dim))
        self.register_buffer("units", torch.zeros(len(self.counts), config.units, width))

    def prepare(self, images: ImageFeatures, labels: Int[Tensor, " n"], classes: ClassText) -> None:
        """Fill the cache and choose the units, among the windows of all views."""
        self.keys.copy_(Shots.of(images, labels, self.counts).by_class())
        found = self._windows(images)
        own = labels.repeat(len(images) // len(labels)).repeat_interleave(found.shape[1])
        self.units.copy_(typical(found.flatten(0, 1), own, len(self.counts), self.config.units))

    def _windows(self, images: ImageFeatures) -> Float[Tensor, "b p w"]:
        """Windows of unit length."""
        if images.parts is None:
            return images.pooled[:, None]
        return sliding_windows(images.parts.maps, self.config.windows)

    def encode_classes(self, classes: ClassText, draws: AbstractDraws | None = None) -> EncodedClasses:
        """Which known class each class of the list is."""
        own = known_positions(classes.names, self.training_names, self.keys.device)
        return EncodedClasses(classes.weights, own)

    def logits(self, images: ImageFeatures, encoded: EncodedClasses) -> Float[Tensor, "b k"]:
        """CLIP's scores, the cache's and those of the windows."""
        config, found = self.config, self._windows(images)
        found = normalize(found + found @ self.change, dim=-1)
        nearest = torch.einsum("bpw,cuw->bcup", found, self.units).amax(dim=-1)
        local = torch.exp(-config.local_sharpness * (1 - nearest)).mean(dim=-1)
        cache = class_sums(torch.exp(-config.cache_sharpness * (1 - images.pooled @ self.keys.T)), self.counts)
        added = config.cache_weight * cache + config.local_weight * local
        return self.scale * images.pooled @ encoded.text.T + of_listed(added, encoded.own)

    def losses(self, images: ImageFeatures, encoded: EncodedClasses, labels: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Cross entropy."""
        return {"cross_entropy": cross_entropy(self.logits(images, encoded).float(), labels)}


def sliding_windows(maps: Float[Tensor, "b s w"], sides: tuple[int, ...]) -> Float[Tensor, "b p w"]:
    """Means over squares of positions, of unit length; a class token before a square grid is left out.

    Args:
        maps: features at the positions of a grid.
        sides: of the squares, which step by half of their side; one that does not fit the grid is cut to it.

    Example:
        >>> sliding_windows(torch.ones(1, 17, 3), (2, 4)).shape  # 4 x 4 positions: 9 squares and 1
        torch.Size([1, 10, 3])
    """
    side = math.isqrt(maps.shape[1])
    grid = maps[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
    squares = [min(square, side) for square in sides]
    found = [avg_pool2d(grid, square, max(square // 2, 1)).flatten(2) for square in squares]
    return normalize(torch.cat(found, dim=2).transpose(1, 2), dim=-1)


def typical(windows: Float[Tensor, "n w"], labels: Int[Tensor, " n"], count: int, units: int) -> Float[Tensor, "c u w"]:
    """The windows of each class that are nearest to its mean window, measured against those of other classes.

    Args:
        windows: of all shots, of unit length.
        labels: of the windows.
        count: how many classes there are.
        units: windows a class; the windows of a class that has fewer are taken more than once.

    Example:
        >>> typical(torch.eye(2), torch.tensor([1, 0]), count=2, units=1)
        tensor([[[0., 1.]],
        <BLANKLINE>
                [[1., 0.]]])
    """
    means = windows.new_zeros(count, windows.shape[1]).index_add_(0, labels, windows)
    empty = labels.bincount(minlength=count) == 0
    cosines = (windows @ normalize(means, dim=-1).T).masked_fill(empty, -2.0)
    own = cosines.gather(1, labels[:, None])[:, 0]
    others = cosines.scatter(1, labels[:, None], -2.0).amax(dim=1)
    order, chosen = (own - others).argsort(descending=True, stable=True), windows.new_zeros(count, units, len(means.T))
    for label in range(count):
        best = order[labels[order] == label]
        if len(best):
            chosen[label] = windows[best[torch.arange(units, device=best.device) % len(best)]]
    return chosen
