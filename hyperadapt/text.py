"""The text side: templates, frozen class features, and learned context vectors through a frozen text tower."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from hyperadapt.errors import InputError

ENCODE_CHUNK = 256
SPARE_TOKENS = 256
"""Room beyond the context in which a text that is too long shows its length, instead of being cut in silence."""
KEPT_TOKENIZATIONS = 8


class TextTower:
    """The text tower of a CLIP model, with sequences cut at the longest end-of-text position where that is exact.

    Works for open_clip's own text transformers, as part of the model (`CLIP`) or as `model.text` (`CustomTextCLIP`).
    A tower of another library (Hugging Face text models) encodes token ids but takes no learned contexts.

    Args:
        model: a frozen open_clip model.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: nn.Module, tokenizer: object) -> None:
        self.model: Any = model  # towers are typed loosely: they differ by library
        self.tokenizer: Any = tokenizer
        self.tower: Any = getattr(model, "text", model)
        self._tokenize = lru_cache(maxsize=KEPT_TOKENIZATIONS)(self._tokenize_now)
        self.context_length = int(getattr(model, "context_length", None) or getattr(self.tower, "context_length", 77))
        self.pool_type = getattr(self.tower, "pool_type", getattr(model, "text_pool_type", "argmax"))
        self.eos_id = getattr(self.tower, "eos_id", getattr(model, "text_eos_id", None))

    @property
    def takes_contexts(self) -> bool:
        """Whether learned context vectors can be put before the class name."""
        native = all(
            hasattr(self.tower, part) for part in ("token_embedding", "positional_embedding", "transformer", "ln_final")
        )
        return (
            native and getattr(self.tower, "cls_emb", None) is None and not getattr(self.tower, "use_pad_mask", False)
        )

    @property
    def width(self) -> int:
        """Width of a token embedding."""
        self._require_contexts()
        return self.tower.token_embedding.weight.shape[1]

    def _require_contexts(self) -> None:
        if not self.takes_contexts:
            raise InputError(
                f"learned prompts need an open_clip text transformer, got {type(self.tower).__name__}; "
                "use a method that works on text features"
            )

    def tokenize(self, texts: Sequence[str], reserve: int = 0) -> Int[Tensor, "n l"]:
        """Token ids of each text, padded to the context length.

        Args:
            texts: plain texts.
            reserve: context positions that the caller will put before each text.

        Raises:
            InputError: naming the first text that does not fit.
        """
        return self._tokenize(tuple(texts), reserve)

    def _tokenize_now(self, texts: tuple[str, ...], reserve: int) -> Int[Tensor, "n l"]:
        try:
            ids = self.tokenizer(list(texts), context_length=self.context_length + SPARE_TOKENS)
        except TypeError:
            return self.tokenizer(list(texts))
        room = self.context_length - reserve
        ends = self._end_positions(ids)
        if int(ends.max()) >= room:
            worst = int(ends.argmax())
            raise InputError(
                f"the text {texts[worst]!r} takes {int(ends[worst]) + 1} tokens with its start and end marks, but the "
                f"text tower has room for {room}; shorten the class name or the template"
            )
        return ids[:, : self.context_length]

    def _end_positions(self, ids: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Position of the end-of-text mark of each row."""
        if self.pool_type == "argmax":
            return ids.argmax(dim=-1)
        if self.pool_type == "eos" and self.eos_id is not None:
            return (ids == self.eos_id).int().argmax(dim=-1)
        padding = ids[:, -1:]
        return (ids != padding).int().cumsum(dim=-1).argmax(dim=-1)

    @property
    def _causal(self) -> bool:
        mask = getattr(self.tower, "attn_mask", None)
        return mask is not None and self.pool_type in ("argmax", "eos")

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """L2-normalised features of plain texts, on the tower's device."""
        ids = self.tokenize(texts).to(self.device)
        if self.takes_contexts and self._causal:
            parts = [
                self._forward(self.tower.token_embedding(chunk), self._end_positions(chunk))
                for chunk in ids.split(ENCODE_CHUNK)
            ]
        else:
            parts = [self.model.encode_text(chunk) for chunk in ids.split(ENCODE_CHUNK)]
        return normalize(torch.cat(parts).float(), dim=-1)

    @property
    def device(self) -> torch.device:
        """Where the tower's weights are."""
        return next(self.model.parameters()).device

    def prompts(self, contexts: Float[Tensor, "p k m w"], ids: Int[Tensor, "k l"]) -> Float[Tensor, "p k d"]:
        """Features of `[start][m context vectors][text]` for P prompts and K texts, with gradients to the contexts.

        Args:
            contexts: (P, K, M, W), or K = 1 to share a prompt among all texts.
            ids: (K, L) from `tokenize(texts, reserve=M)`; an empty text makes a prompt of context vectors alone.

        Returns:
            (P, K, D), L2-normalised.
        """
        self._require_contexts()
        p, _, m, w = contexts.shape
        k = ids.shape[0]
        with torch.no_grad():
            words = self.tower.token_embedding(ids)
        contexts = contexts.expand(p, k, m, w).to(words.dtype)
        start = words[None, :, :1].expand(p, k, 1, w)
        rest = words[None, :, 1 : self.context_length - m].expand(p, k, -1, w)
        embedded = torch.cat([start, contexts, rest], dim=2).flatten(0, 1)
        ends = (self._end_positions(ids) + m).repeat(p)
        return normalize(self._forward(embedded, ends).float(), dim=-1).view(p, k, -1)

    def _forward(self, embedded: Float[Tensor, "n l w"], ends: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The tower from token embeddings to pooled, projected features."""
        tower = self.tower
        if self._causal:
            embedded = embedded[:, : int(ends.max()) + 1]
        length = embedded.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        mask = getattr(tower, "attn_mask", None)
        x = embedded.to(dtype) + tower.positional_embedding[:length].to(dtype)
        x = tower.transformer(x, attn_mask=None if mask is None else mask[:length, :length])
        x = tower.ln_final(x)
        if self.pool_type in ("argmax", "eos"):
            x = x[torch.arange(len(x), device=x.device), ends]
        else:
            x = x[:, 0] if self.pool_type == "first" else x[:, -1]
        projection = tower.text_projection
        if projection is None:
            return x
        return projection(x) if isinstance(projection, nn.Module) else x @ projection


@dataclass(frozen=True)
class ClassText:
    """What the frozen text side says of a list of classes.

    Attributes:
        names: one readable name a class.
        templates: (T, K, D) L2-normalised text features, one row a template.
        weights: (K, D) L2-normalised class features that zero-shot scoring uses.
        tower: the text tower, for learned prompts; None where only stored features exist.
        attributes: (M, D) attribute features that an adapter attached, or None.
    """

    names: tuple[str, ...]
    templates: Float[Tensor, "t k d"]
    weights: Float[Tensor, "k d"]
    tower: TextTower | None = None
    attributes: Float[Tensor, "m d"] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def takes_contexts(self) -> bool:
        """Whether learned prompts can be made for these classes."""
        return self.tower is not None and self.tower.takes_contexts

    @property
    def prompt_tower(self) -> TextTower:
        """The text tower.

        Raises:
            InputError: where only stored features exist.
        """
        if self.tower is None:
            raise InputError("learned prompts need a text tower, and stored features have none; use images instead")
        return self.tower

    def select(self, classes: Sequence[int]) -> "ClassText":
        """The same for some of the classes, in the order given."""
        index = torch.as_tensor(list(classes), dtype=torch.long, device=self.weights.device)
        names = tuple(self.names[i] for i in classes)
        return replace(self, names=names, templates=self.templates[:, index], weights=self.weights[index])

    def with_weights(self, weights: Float[Tensor, "k d"]) -> "ClassText":
        """The same classes with adapted features."""
        return replace(self, weights=weights)

    def to(self, device: torch.device) -> "ClassText":
        """The same on another device; the tower stays where it is."""
        return replace(self, templates=self.templates.to(device), weights=self.weights.to(device))


def evenly_spaced(count: int, total: int) -> tuple[int, ...]:
    """`count` indices spaced evenly over `range(total)`; all of them when there are fewer.

    Example:
        >>> evenly_spaced(3, 9), evenly_spaced(4, 2)
        ((1, 4, 7), (0, 1))
    """
    count = min(count, total)
    return tuple((2 * i + 1) * total // (2 * count) for i in range(count))


def class_text(tower: TextTower, names: Sequence[str], templates: Sequence[str]) -> ClassText:
    """Encode every template for every class name; the class feature is the normalised mean over templates.

    Args:
        tower: the frozen text tower.
        names: class names; underscores become spaces, as in CoOp.
        templates: texts with one `{}`.

    Raises:
        InputError: for a template without `{}`, or a text that is too long for the tower.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(f"a prompt template needs exactly one {{}} for the class name, got {template!r}")
    readable = [name.replace("_", " ") for name in names]
    features = tower.encode([template.format(name) for template in templates for name in readable])
    stacked = features.view(len(templates), len(readable), -1)
    weights = normalize(stacked.mean(dim=0), dim=-1)
    return ClassText(tuple(readable), stacked, weights, tower)
