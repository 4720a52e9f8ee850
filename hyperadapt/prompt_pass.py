"""A frozen text transformer from token embeddings to features: cut where that is exact, shared beginnings passed once.

What CoOp's lineage does at every step, 77 positions for every class, is mostly waste: in a causal tower nothing after
the end-of-text mark reaches the feature, and the start mark with the learned contexts is the same for all classes of a
prompt. Both savings are exact up to rounding, and both are probed on the tower at hand before they are used.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

PROBE_TOLERANCE = 1e-5
PROBE_PRIME = 7919
POOLED_AT_END = ("argmax", "eos")

BeforeBlock = Mapping[int, Callable[[Tensor], Tensor]]
"""What happens to hidden states (N, L, W) before some blocks, by the block's index."""
NOWHERE: BeforeBlock = {}


class Memory(NamedTuple):
    """Keys and values of a shared beginning in one layer.

    Attributes:
        keys: (P, T, H, C), for P beginnings of T tokens and H heads of width C.
        values: (P, T, H, C).
    """

    keys: Float[Tensor, "p t h c"]
    values: Float[Tensor, "p t h c"]


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision cast up; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def replaced(x: Float[Tensor, "n l w"], tokens: Float[Tensor, "n m w"], first: int) -> Float[Tensor, "n l w"]:
    """Hidden states with those at M positions from `first` taken out and others put in: one step of a deep prompt.

    Args:
        x: hidden states before a block.
        tokens: learned vectors; (1, M, W) serves all sequences.
        first: the first position that is replaced.
    """
    tokens = tokens.to(x.dtype).expand(len(x), -1, -1)
    return torch.cat([x[:, :first], tokens, x[:, first + tokens.shape[1] :]], dim=1)


def through_blocks(
    transformer: Any, x: Float[Tensor, "n l w"], mask: Tensor | None, before_block: BeforeBlock
) -> Float[Tensor, "n l w"]:
    """Hidden states after all blocks of an open_clip transformer, with something done before some of them."""
    if not before_block:
        return transformer(x, attn_mask=mask)
    batch_first = getattr(transformer, "batch_first", True)
    for index, block in enumerate(transformer.resblocks):
        if index in before_block:
            x = before_block[index](x)
        x = block(x, attn_mask=mask) if batch_first else block(x.transpose(0, 1), attn_mask=mask).transpose(0, 1)
    return x


def in_turn(blocks: Any, x: Float[Tensor, "n l w"], mask: Tensor | None = None) -> Float[Tensor, "n l w"]:
    """Hidden states after some plain blocks, one after another."""
    for block in blocks:
        x = block(x, attn_mask=mask)
    return x


@final
class TextPass:
    """The frozen layers of an open_clip text transformer, run on embeddings instead of token ids.

    Args:
        tower: a `CLIP` model, or the `text` part of a `CustomTextCLIP`.
        pool_type: which position becomes the feature, by open_clip's names.
    """

    def __init__(self, tower: Any, pool_type: str) -> None:
        self.tower = tower
        self.pool_type = pool_type

    @cached_property
    def cuts(self) -> bool:
        """Whether nothing after the end-of-text mark reaches the feature; looked up in the tower, then probed."""
        if getattr(self.tower, "attn_mask", None) is None or self.pool_type not in POOLED_AT_END:
            return False
        words, ends = self._probe_words()
        return self._agree(
            lambda: self.features(words, ends), lambda: self.features(words[:, : int(ends.max()) + 1], ends)
        )

    @cached_property
    def shares_beginnings(self) -> bool:
        """Whether keys and values of a shared beginning can stand for it in every layer; checked, then probed."""
        if (
            getattr(self.tower, "attn_mask", None) is None
            or self.pool_type == "first"
            or not plain_transformer(self.tower.transformer)
        ):
            return False
        words, ends = self._probe_words()
        first = words.shape[1] // 3
        words = torch.cat([words[:1, :first].expand(len(words), -1, -1), words[:, first:]], dim=1)
        return self._agree(
            lambda: self.features(words, ends),
            lambda: self.features_after(self.remember(words[:1, :first]), words[:, first:], ends)[0],
        )

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.tower.transformer.resblocks)

    def features(
        self, embedded: Float[Tensor, "n l w"], ends: Int[Tensor, " n"], before_block: BeforeBlock = NOWHERE
    ) -> Float[Tensor, "n d"]:
        """The tower's own pass over whole sequences.

        Args:
            embedded: token embeddings, without positions.
            ends: position of each end-of-text mark.
            before_block: what happens before some blocks; each position by itself, for a cut to stay exact.

        Returns:
            Pooled and projected, not normalised.
        """
        x, mask = self._placed(embedded, 0), self._mask(embedded.shape[1])
        return self._pooled(through_blocks(self.tower.transformer, x, mask, before_block), ends)

    def states(self, embedded: Float[Tensor, "n l w"], until: int) -> Float[Tensor, "n l w"]:
        """Tokens before block `until`."""
        blocks = self.tower.transformer.resblocks[:until]
        return in_turn(blocks, self._placed(embedded, 0), self._mask(embedded.shape[1]))

    def features_from(
        self, states: Float[Tensor, "n l w"], first: int, ends: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Pooled and projected features of sequences whose tokens before block `first` are known; not normalised."""
        x = in_turn(self.tower.transformer.resblocks[first:], states, self._mask(states.shape[1]))
        return self._pooled(x, ends)

    def _mask(self, length: int) -> Float[Tensor, "l l"] | None:
        mask = getattr(self.tower, "attn_mask", None)
        return None if mask is None else mask[:length, :length]

    def remember(self, beginning: Float[Tensor, "p t w"], before_block: BeforeBlock = NOWHERE) -> list[Memory]:
        """What the layers must know of shared beginnings: one memory a layer.

        Args:
            beginning: token embeddings, without positions.
            before_block: what happens before some blocks, to the beginnings alone.
        """
        length, blocks = beginning.shape[1], list(self.tower.transformer.resblocks)
        mask = self.tower.attn_mask[:length, :length]
        x, memories = self._placed(beginning, 0), []
        for index, block in enumerate(blocks):
            if index in before_block:
                x = before_block[index](x)
            memories.append(_memory(block, x))
            if block is not blocks[-1]:
                x = block(x, attn_mask=mask)
        return memories

    def features_after(
        self, memories: Sequence[Memory], rest: Float[Tensor, "k s w"], ends: Int[Tensor, " k"]
    ) -> Float[Tensor, "p k d"]:
        """Features of every rest after every beginning.

        Args:
            memories: of P beginnings of T tokens, from `remember`.
            rest: token embeddings of what follows, without positions.
            ends: position of each end-of-text mark in the whole sequence, T included.

        Returns:
            Pooled and projected, not normalised.
        """
        prompts, first = memories[0].keys.shape[:2]
        total = first + rest.shape[1]
        mask = self.tower.attn_mask[first:total, :total]
        x = self._placed(rest, first).expand(prompts, -1, -1, -1)
        for block, memory in zip(self.tower.transformer.resblocks, memories, strict=True):
            x = _block_after(block, x, memory, mask)
        pooled = self._pooled(x.flatten(0, 1), (ends - first).repeat(prompts))
        return pooled.unflatten(0, (prompts, -1))

    def _placed(self, embedded: Float[Tensor, "... l w"], first: int) -> Float[Tensor, "... l w"]:
        """Embeddings at positions from `first`, in the type of the weights."""
        dtype = self.tower.transformer.get_cast_dtype()
        return embedded.to(dtype) + self.tower.positional_embedding[first : first + embedded.shape[-2]].to(dtype)

    def _pooled(self, x: Float[Tensor, "n l w"], ends: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        if self.pool_type in POOLED_AT_END:
            x = x[torch.arange(len(x), device=x.device), ends]
        else:
            x = x[:, 0] if self.pool_type == "first" else x[:, -1]
        x, projection = self.tower.ln_final(x), self.tower.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Module) else x @ projection

    def _probe_words(self) -> tuple[Float[Tensor, "2 l w"], Int[Tensor, " 2"]]:
        """Two sequences of unlike words at full length, ending at unlike places."""
        table = self.tower.token_embedding.weight.detach()
        length = len(self.tower.positional_embedding)
        ids = torch.arange(1, 2 * length + 1, device=table.device) * PROBE_PRIME % len(table)
        ends = torch.tensor([length // 2, 2 * length // 3], device=table.device)
        return table[ids].view(2, length, -1), ends

    @torch.no_grad()
    def _agree(self, plain: Any, short: Any) -> bool:
        """Whether two ways to the same features differ by rounding alone."""
        device = self.tower.token_embedding.weight.device
        with torch.autocast(device.type, enabled=False):
            expected, got = plain(), short()
        tolerance = max(PROBE_TOLERANCE, 4 * torch.finfo(expected.dtype).eps)
        gap = normalize(at_least_float32(expected), dim=-1) - normalize(at_least_float32(got), dim=-1)
        return float(gap.abs().max()) <= tolerance


def plain_transformer(transformer: Any) -> bool:
    """Whether every block is open_clip's own with torch's attention, so that its parts may be called one by one."""
    from open_clip.transformer import ResidualAttentionBlock, Transformer

    return (
        type(transformer) is Transformer
        and transformer.batch_first
        and all(
            type(block) is ResidualAttentionBlock
            and type(block.attn) is nn.MultiheadAttention
            and block.attn.in_proj_weight is not None
            and block.attn.in_proj_bias is not None
            and block.attn.bias_k is None
            and not block.attn.add_zero_attn
            and not hasattr(block, "ln_1_kv")
            for block in transformer.resblocks
        )
    )


def _memory(block: Any, x: Float[Tensor, "p t w"]) -> Memory:
    """Keys and values of a block's input."""
    attention, width = block.attn, x.shape[-1]
    both = linear(block.ln_1(x), attention.in_proj_weight[width:], attention.in_proj_bias[width:])
    keys, values = both.unflatten(-1, (2, attention.num_heads, attention.head_dim)).unbind(dim=-3)
    return Memory(keys, values)


def _block_after(
    block: Any, x: Float[Tensor, "p k s w"], memory: Memory, mask: Float[Tensor, "s ts"]
) -> Float[Tensor, "p k s w"]:
    """One residual attention block on texts that also attend to their prompt's beginning.

    The K texts of a prompt share the keys and values of its beginning as they are: no copy a text is made.
    """
    attention = block.attn
    heads = linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    queries, keys, values = heads.unflatten(-1, (3, attention.num_heads, attention.head_dim)).unbind(dim=-3)
    queries = queries * attention.head_dim**-0.5
    to_beginning = torch.einsum("pkshc,pthc->phkst", queries, memory.keys)
    to_own = torch.einsum("pkshc,pkuhc->phksu", queries, keys)
    scores = torch.cat([to_beginning, to_own], dim=-1)
    weights = (scores + mask.to(scores.dtype)).softmax(dim=-1)
    on_beginning, on_own = weights.split([to_beginning.shape[-1], to_own.shape[-1]], dim=-1)
    mixed = torch.einsum("phkst,pthc->pkshc", on_beginning, memory.values)
    mixed = mixed + torch.einsum("phksu,pkuhc->pkshc", on_own, values)
    x = x + block.ls_1(attention.out_proj(mixed.flatten(-2)))
    return x + block.ls_2(block.mlp(block.ln_2(x)))
