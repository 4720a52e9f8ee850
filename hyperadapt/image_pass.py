"""A frozen vision transformer from pixels to features with learned prompt tokens among the image's own."""

from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from hyperadapt.errors import InputError
from hyperadapt.prompt_pass import at_least_float32, replaced, through_blocks


@final
class ImagePass:
    """open_clip's own image transformer, run with prompts that it does not know of; the tower itself is not changed.

    Args:
        visual: image tower of a frozen CLIP model.

    Attributes:
        width: of a token.
        layers: number of blocks, before each of which a prompt can be replaced.

    Raises:
        InputError: for a tower of another kind (CLIP's ResNets, timm models).
    """

    def __init__(self, visual: Any) -> None:
        from open_clip.transformer import VisionTransformer

        if not isinstance(visual, VisionTransformer):
            raise InputError(
                f"learned prompts in the image tower need open_clip's VisionTransformer, got {type(visual).__name__}; "
                "use a ViT backbone, or a method whose prompts are in the text tower alone"
            )
        self.visual: Any = visual
        self.width: int = visual.class_embedding.shape[0]
        self.layers = len(visual.transformer.resblocks)

    def features(self, pixels: Float[Tensor, "n 3 h w"], prompts: Float[Tensor, "l m w"]) -> Float[Tensor, "n d"]:
        """Features of preprocessed images, with gradients to the prompts.

        M tokens come after those of the image, without positions; before each further block, as far as there are
        prompts, what has become of them is replaced. They are taken away before the tower pools, whichever way it does.

        Args:
            pixels: (N, 3, H, W).
            prompts: (L, M, W), for the first L blocks; with L or M of zero this is the tower's own pass.

        Returns:
            (N, D), L2-normalised, in float32 or wider; under autocast too.

        Raises:
            InputError: for more prompts than blocks.
        """
        if len(prompts) > self.layers:
            raise InputError(f"the image tower has {self.layers} blocks, got prompts for {len(prompts)}")
        x = self.visual._embeds(pixels.to(self.visual.conv1.weight.dtype))
        own = x.shape[1]
        if len(prompts):
            first = self.visual.ln_pre(prompts[:1].to(x.dtype))  # as the image's own tokens before the blocks
            x = torch.cat([x, first.expand(len(x), -1, -1).to(x.dtype)], dim=1)
        fresh = {i: partial(replaced, tokens=prompts[i : i + 1], first=own) for i in range(1, len(prompts))}
        pooled, _ = self.visual._pool(through_blocks(self.visual.transformer, x, None, fresh)[:, :own])
        projection = self.visual.proj
        return normalize(at_least_float32(pooled if projection is None else pooled @ projection), dim=-1)
