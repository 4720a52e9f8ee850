"""CLIP-LoRA: low-rank changes of the query, key and value matrices in every block of both towers."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, scaled_dot_product_attention

from hyperadapt.adapters.base import AbstractAdapter, BuildContext, TrainingBatch
from hyperadapt.backbone import ImageFeatures
from hyperadapt.errors import InputError
from hyperadapt.registry import register
from hyperadapt.text import ClassText
from hyperadapt.tower_weights import (
    TEMPLATE,
    attending,
    check_template,
    image_transformer,
    text_transformer,
    with_weights,
)
from hyperadapt.training_config import TrainingConfig
from manifolds.regularizers import AbstractDraws

Mask = Callable[..., Float[Tensor, "3 b s w"]]


@dataclass(frozen=True)
class CLIPLoRAConfig:
    """Settings of CLIP-LoRA.

    Attributes:
        rank: of each change.
        alpha: changes are multiplied by alpha / rank.
        scaling: "rank" divides alpha by the rank, as the paper says; "root" by its square root, as the release does.
        dropout: share of the input of a change that is left out in training.
        towers: which towers change; "text" also serves backbones whose image tower is no plain vision transformer.
        template: the prompt of every class.
    """

    rank: int = 2
    alpha: float = 1.0
    scaling: Literal["rank", "root"] = "rank"
    dropout: float = 0.25
    towers: Literal["both", "text", "image"] = "both"
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise InputError(
                f"clip-lora needs rank >= 1, alpha > 0 and dropout in [0, 1), got {self.rank}, {self.alpha} and "
                f"{self.dropout}"
            )
        check_template("clip-lora", self.template)

    @property
    def factor(self) -> float:
        """What every change is multiplied by."""
        return self.alpha / (self.rank if self.scaling == "rank" else math.sqrt(self.rank))


class LowRank(nn.Module):
    """Changes of the packed query, key and value matrices of some blocks, zero before training.

    Args:
        transformer: whose blocks are changed; only its shapes are kept.
        config: rank, factor, dropout.
    """

    def __init__(self, transformer: Any, config: CLIPLoRAConfig) -> None:
        super().__init__()
        self.config = config
        blocks, width = len(transformer.resblocks), transformer.resblocks[0].attn.embed_dim
        bound = width**-0.5  # that of torch's linear layers
        self.down = nn.Parameter(torch.empty(blocks, 3, config.rank, width).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(blocks, 3, width, config.rank))

    def merged(self, transformer: Any) -> dict[str, Float[Tensor, "3w w"]]:
        """The packed matrices with their changes, by name inside the transformer."""
        changes = self.config.factor * (self.up @ self.down).flatten(1, 2)
        return {
            f"resblocks.{i}.attn.in_proj_weight": block.attn.in_proj_weight + change
            for i, (block, change) in enumerate(zip(transformer.resblocks, changes, strict=True))
        }

    @contextmanager
    def inside(self, transformer: Any, mask: Mask) -> Iterator[None]:
        """The transformer with changes whose input is masked, which no merged matrix can express.

        Args:
            transformer: the frozen one.
            mask: from shape to what the input of the three changes of a block is multiplied by.
        """
        blocks = transformer.resblocks
        attentions = [self._attention(i, block.attn, mask) for i, block in enumerate(blocks)]
        with attending(blocks, attentions):
            yield

    def _attention(self, i: int, attention: nn.MultiheadAttention, mask: Mask) -> Callable[..., tuple[Tensor, None]]:
        """Block i's attention as torch calls it, with queries, keys and values of frozen weights plus changes."""

        def attend(
            x: Float[Tensor, "b s w"], _keys: Tensor, _values: Tensor, *, need_weights: bool, attn_mask: Tensor | None
        ) -> tuple[Float[Tensor, "b s w"], None]:
            masked = x * mask(*x.shape).to(x.dtype)
            low = torch.einsum("jbsw,jrw->jbsr", masked, self.down[i].to(x.dtype))
            change = self.config.factor * torch.einsum("jbsr,jwr->bsjw", low, self.up[i].to(low.dtype)).flatten(2)
            heads = linear(x, attention.in_proj_weight, attention.in_proj_bias) + change
            heads = heads.unflatten(-1, (3, attention.num_heads, attention.head_dim)).permute(2, 0, 3, 1, 4)
            mixed = scaled_dot_product_attention(*heads.unbind(), attn_mask=attn_mask)
            return attention.out_proj(mixed.transpose(1, 2).flatten(2)), None

        return attend


@register(
    "clip-lora",
    "adapter",
    CLIPLoRAConfig,
    summary="low-rank changes of queries, keys and values in every block of both towers",
    source="Zanella and Ben Ayed 2024, arXiv 2405.18541",
    training=TrainingConfig(
        optimizer="adamw",
        learning_rate=2e-4,
        weight_decay=1e-2,
        steps_per_shot=500,
        batch_size=32,
        warmup_epochs=0,
        final_rate=1e-6,
    ),
    novel="the changed towers with new names",
    needs_tower=True,
)
class CLIPLoRA(AbstractAdapter):
    """Both towers with changed attention; images and texts pass them anew.

    One setting and one template for all data sets, no validation. The logit scale is the backbone's, 100 for OpenAI's
    weights as in the paper; the release trains in mixed precision, here `training.precision` says.
    """

    reads_pixels = True

    def __init__(self, config: CLIPLoRAConfig, context: BuildContext) -> None:
        super().__init__()
        self.config = config
        tower = context.classes.prompt_tower
        of_text, of_image = config.towers != "image", config.towers != "text"
        text = text_transformer(tower, "clip-lora") if of_text else None
        visual = image_transformer(tower, "clip-lora") if of_image else None
        self.text = LowRank(text.transformer, config) if text is not None else None
        self.image = LowRank(visual.transformer, config) if visual is not None else None
        self._step: tuple[AbstractDraws, slice, int] | None = None

    @contextmanager
    def drawing(self, draws: AbstractDraws, own: slice, count: int) -> Iterator[None]:
        """Dropout draws within it, and is at rest outside."""
        self._step = (draws, own, count) if self.config.dropout > 0 else None
        try:
            yield
        finally:
            self._step = None

    def _mask(self, of_images: bool) -> Mask:
        """Dropout on the inputs of a block's three changes, each with numbers of its own."""
        assert self._step is not None
        draws, own, count = self._step
        kept = 1 - self.config.dropout

        def mask(rows: int, positions: int, width: int) -> Float[Tensor, "3 b s w"]:
            numbers = draws.rand(3, count if of_images else rows, positions, width)
            return (numbers[:, own] if of_images else numbers).lt(kept) / kept

        return mask

    def _passed(self, change: LowRank, transformer: Any, run: Callable[[], Tensor], of_images: bool) -> Tensor:
        """What `run` gives through a changed transformer."""
        if self._step is None:
            return with_weights(transformer, change.merged(transformer), run)
        with change.inside(transformer, self._mask(of_images)):
            return run()

    def adapt_classes(self, classes: ClassText) -> ClassText:
        """The one template through the changed text tower."""
        tower = classes.prompt_tower

        texts = [self.config.template.format(name) for name in classes.names]
        if self.text is None:
            return classes.with_weights(tower.encode(texts))
        run = lambda: tower.pass_texts(texts)  # noqa: E731
        return classes.with_weights(self._passed(self.text, tower.tower.transformer, run, of_images=False))

    def adapt_images(self, images: ImageFeatures, classes: ClassText) -> ImageFeatures:
        """Images through the changed image tower; as they are where it is not changed."""
        if self.image is None:
            return images
        model = classes.prompt_tower.model
        run = lambda: model.encode_image(images.tower_input)  # noqa: E731
        found = self._passed(self.image, model.visual.transformer, run, of_images=True)
        return ImageFeatures(normalize(found.float(), dim=-1))

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        return {}
