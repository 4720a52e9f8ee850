"""Position-wise features of a frozen image tower, read through hooks: what multi-part methods pool.

Source: XR-VLM (arXiv 2503.07075). A vision transformer gives the tokens before its last two blocks, which produce
attention maps, and the final projected tokens, which are pooled; a CLIP ResNet gives its last map and the value path
of its attention pool applied position by position.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class PartFeatures:
    """Features at S positions of each image.

    Attributes:
        maps: (N, S, W) tower features that produce attention maps.
        content: (N, S, D) features in the joint space that the maps pool.
    """

    maps: Float[Tensor, "n s w"]
    content: Float[Tensor, "n s d"]

    def __getitem__(self, index: Any) -> "PartFeatures":
        return PartFeatures(self.maps[index], self.content[index])

    def to(self, device: torch.device) -> "PartFeatures":
        """The same on another device."""
        return PartFeatures(self.maps.to(device), self.content.to(device))

    @property
    def nbytes(self) -> int:
        """Memory of both tensors, bytes."""
        return self.maps.nbytes + self.content.nbytes

    @staticmethod
    def stack(images: Sequence["PartFeatures"]) -> "PartFeatures":
        """A batch out of single images, (S, W) and (S, D) each."""
        return PartFeatures(torch.stack([p.maps for p in images]), torch.stack([p.content for p in images]))

    @staticmethod
    def cat(pieces: Sequence["PartFeatures"]) -> "PartFeatures":
        """One batch out of several."""
        return PartFeatures(torch.cat([p.maps for p in pieces]), torch.cat([p.content for p in pieces]))


class AbstractPartReader(ABC):
    """Hooks on an image tower: attach, run the tower once, then read."""

    def __init__(self, visual: nn.Module) -> None:
        self.visual: Any = visual
        self.seen: dict[str, Tensor] = {}

    @abstractmethod
    def hooked(self) -> dict[str, nn.Module]:
        """The modules whose outputs are kept, by key."""

    @abstractmethod
    def read(self) -> PartFeatures:
        """Part features of the last forward pass."""

    def _keep(self, key: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self.seen[key] = output

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks in place for one forward pass, removed after it."""
        handles = [module.register_forward_hook(partial(self._keep, key)) for key, module in self.hooked().items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class TransformerParts(AbstractPartReader):
    """open_clip's VisionTransformer: all tokens, the class token among them."""

    def hooked(self) -> dict[str, nn.Module]:
        """Output of the block before the last two, and of the whole transformer."""
        blocks = self.visual.transformer.resblocks
        return {"maps": blocks[max(len(blocks) - 3, 0)], "content": self.visual.transformer}

    def read(self) -> PartFeatures:
        """Content is layer-normalised and projected as CLIP does with its class token."""
        maps, tokens = self.seen.pop("maps"), self.seen.pop("content")
        if not getattr(self.visual.transformer, "batch_first", True):
            maps = maps.transpose(0, 1)
        content = self.visual.ln_post(tokens)
        if self.visual.proj is not None:
            content = content @ self.visual.proj
        return PartFeatures(maps.float(), content.float())


class ResNetParts(AbstractPartReader):
    """CLIP's ModifiedResNet: the last map, and its attention pool's value path at every position."""

    def hooked(self) -> dict[str, nn.Module]:
        """Output of the last stage."""
        return {"maps": self.visual.layer4}

    def read(self) -> PartFeatures:
        """The positional embedding is resized when the map has another size than in pre-training."""
        feature_map = self.seen.pop("maps")
        height, width = feature_map.shape[-2:]
        pool = self.visual.attnpool
        grid = pool.positional_embedding[1:]
        side = round(len(grid) ** 0.5)
        if (height, width) != (side, side):
            image = grid.T.reshape(1, -1, side, side)
            grid = interpolate(image, (height, width), mode="bilinear", align_corners=False).flatten(2)[0].T
        maps = feature_map.flatten(2).transpose(1, 2)
        content = pool.c_proj(pool.v_proj(maps + grid))
        return PartFeatures(maps.float(), content.float())


def part_reader(visual: nn.Module) -> AbstractPartReader | None:
    """The reader that fits an image tower, or None for towers whose positions cannot be read (timm models)."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, ModifiedResNet):
        return ResNetParts(visual)
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None and hasattr(visual.transformer, "resblocks"):
        return TransformerParts(visual)
    return None
