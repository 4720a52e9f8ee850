"""What all relation heads see, and the projections and cosines that relations are made of (equations 10 to 12)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import elu, linear, normalize

from hyperadapt.heads.image_norm import ImageNorm
from hyperadapt.heads.xrvlm.config import XRVLMConfig

FEATURE_SCALE = 64.0
SPREAD_FLOOR = 1e-4
"""Added to the spread of a relation over the classes, so that one class alone, or equal classes, stay finite."""


@dataclass(frozen=True)
class Scene:
    """Images and classes as a relation head sees them.

    Attributes:
        visual: (B, N, D) L2-normalised visual parts.
        text: (M, K, D) L2-normalised text parts.
        cosines: (B, K) of pooled image features and class features, as the adapter left them.
        present: (K,) which classes take part in a training step; None for all.
        known_text: (M, C, D) text parts of the training classes, for heads that ask for them.
    """

    visual: Float[Tensor, "b n d"]
    text: Float[Tensor, "m k d"]
    cosines: Float[Tensor, "b k"]
    present: Bool[Tensor, " k"] | None = None
    known_text: Float[Tensor, "m c d"] | None = None

    def split(self, images: int) -> list["Scene"]:
        """The same classes with so many images at a time."""
        parts = zip(self.visual.split(images), self.cosines.split(images), strict=True)
        return [replace(self, visual=visual, cosines=cosines) for visual, cosines in parts]


@dataclass(frozen=True)
class Sizes:
    """What a relation head is built for.

    Attributes:
        width: D of the parts.
        visual, text: N and M, parts of an image and of a class.
        classes: number C of training classes.
        scale: CLIP's factor on cosines.
        config: everything else.
    """

    width: int
    visual: int
    text: int
    classes: int
    scale: float
    config: XRVLMConfig

    @property
    def relations(self) -> int:
        """Relations of an image with one class."""
        return self.visual * self.text


class AbstractRelationHead(nn.Module, ABC):
    """Relations to logits.

    Attributes:
        reads_text: whether it looks at text parts at all.
        wants_known_text: whether `Scene.known_text` is needed.
    """

    reads_text: bool = True
    wants_known_text: bool = False

    @property
    def compares(self) -> bool:
        """Whether a class' score depends on which other classes are listed."""
        return False

    @abstractmethod
    def forward(self, scene: Scene) -> Float[Tensor, "b k"]:
        """One logit an image and class."""

    def penalty(self) -> Float[Tensor, ""] | None:
        """What is to stay small of the weights; None for nothing."""
        return None

    def relations_of(self, scene: Scene, answer: int) -> Float[Tensor, "b m n k"] | None:
        """What each relation says, for a person to look at; None for a head that reads no text.

        Here the cosines that the head starts from; a head of another kind says how much each relation adds to the logit
        of the class `answer`.
        """
        return all_cosines(scene.visual, scene.text).permute(0, 2, 3, 1) if self.reads_text else None


class Projection(nn.Module):
    """Batch norm, linear to half the width, batch norm, ELU, over the rows of all parts (equation 11)."""

    def __init__(self, width: int, norm: type[nn.BatchNorm1d]) -> None:
        super().__init__()
        self.input_norm = norm(width)
        self.linear = nn.Linear(width, width // 2)
        self.output_norm = norm(width // 2)

    def forward(self, rows: Float[Tensor, "r p d"]) -> Float[Tensor, "r p h"]:
        """Statistics are taken over both leading axes."""
        flat = self.output_norm(self.linear(self.input_norm(FEATURE_SCALE * rows.flatten(0, 1))))
        return elu(flat).view(*rows.shape[:2], -1)


class Projections(nn.Module):
    """Both sides of equation 11 and their products, equation 12; statistics of texts are the same in all processes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.visual, self.textual = Projection(width, ImageNorm), Projection(width, nn.BatchNorm1d)

    def forward(self, visual: Float[Tensor, "b n d"], text: Float[Tensor, "m k d"]) -> Float[Tensor, "b m n k"]:
        """All products."""
        return torch.einsum("bnh,mkh->bmnk", self.visual(visual), self.textual(text))


class LearnedCosines(nn.Module):
    """Cosines of all parts, what is learnt beside them, and zero-shot scores corrected by the parts.

    "half" learns products in half the width, and the parts' mean cosine joins the scores with a share that starts at 0.
    "identity" learns a map of the visual parts, and what the map changes in their mean cosine joins the scores. Both
    start at the zero-shot scores.

    Numerics: the map is I + E with E = 0 at first; its penalty is the sum of squares of E, as ProLIP's is.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.count = 2 * sizes.relations
        self.halves = sizes.config.projection == "half"
        self.part_share = nn.Parameter(torch.full((), 0.0 if self.halves else 1.0))
        if self.halves:
            self.visual = nn.Linear(sizes.width, sizes.width // 2, bias=False)
            self.textual = nn.Linear(sizes.width, sizes.width // 2, bias=False)
        else:
            self.change = nn.Parameter(torch.zeros(sizes.width, sizes.width))

    def forward(self, scene: Scene) -> tuple[Float[Tensor, "b k r"], Float[Tensor, "b k"]]:
        """All relations of each image and class, cosines first; and scores in units of cosine."""
        plain = all_cosines(scene.visual, scene.text)
        if self.halves:
            learnt, gain = all_cosines(self.visual(scene.visual), self.textual(scene.text)), like_parts(plain)
        else:
            mapped = normalize(scene.visual + linear(scene.visual, self.change), dim=-1)
            learnt = all_cosines(mapped, scene.text)
            gain = like_parts(learnt - plain)
        relations = torch.cat([plain.flatten(2), learnt.flatten(2)], dim=-1)
        return relations, scene.cosines + self.part_share * gain

    def penalty(self) -> Float[Tensor, ""] | None:
        """Squared size of the map's distance from the identity; None where there is no such map."""
        return None if self.halves else self.change.square().sum()


def all_cosines(visual: Float[Tensor, "b n d"], text: Float[Tensor, "m k d"]) -> Float[Tensor, "b k m n"]:
    """Products of every visual part with every text part of every class."""
    return torch.einsum("bnd,mkd->bkmn", visual, text)


def like_parts(relation: Float[Tensor, "b k m n"]) -> Float[Tensor, "b k"]:
    """Mean over pairs of equal number; over all pairs where there are unlike numbers of parts."""
    if relation.shape[-1] == relation.shape[-2]:
        return relation.diagonal(dim1=-2, dim2=-1).mean(-1)
    return relation.mean((-2, -1))


def standing(x: Float[Tensor, "b k *r"], present: Bool[Tensor, " k"] | None) -> Float[Tensor, "b k *r"]:
    """Each class relative to the mean and spread of the classes that are present."""
    weight = torch.ones_like(x[0, :, ...]) if present is None else present.view(-1, *[1] * (x.ndim - 2)).to(x)
    count = weight.sum(0).clamp(min=1)
    mean = (weight * x).sum(1, keepdim=True) / count
    centred = x - mean
    spread = ((weight * centred.square()).sum(1, keepdim=True) / count + SPREAD_FLOOR**2).sqrt()
    return centred / spread


def likeliest(
    cosines: Float[Tensor, "b k"], present: Bool[Tensor, " k"] | None, count: int
) -> tuple[Tensor, Bool[Tensor, "b l"]]:
    """Positions (B, L) of the classes with the highest cosines, and which of these are present; L is at most K."""
    if present is not None:
        cosines = cosines.masked_fill(~present, -torch.inf)
    found = cosines.detach().topk(min(count, cosines.shape[1]), dim=1)
    return found.indices, torch.isfinite(found.values)
