"""The text tower: plain texts and learned context vectors through it, frozen."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from hyperadapt.errors import InputError
from hyperadapt.prompt_pass import BeforeBlock, TextPass, at_least_float32, replaced
from hyperadapt.transfer import sent

ENCODE_CHUNK = 256
KEPT_TEXTS = 32768
ACTIVATION_BUDGET_BYTES = 2 * 2**30
ACTIVATION_WIDTHS = 14
"""What a block keeps for the way back, in numbers a token and unit of width; measured: 10 (GELU), 14 (QuickGELU)."""
SPARE_TOKENS = 256
"""Room beyond the context in which a text that is too long shows its length, instead of being cut in silence."""
KEPT_TOKENIZATIONS, KEPT_IDS = 8, 8192
"""Lists of texts whose token ids are kept, and single texts; taking a caption apart costs up to 2 ms."""
NOT_DEEPER: Mapping[int, Tensor] = {}


@final
class TextTower:
    """The text tower of a CLIP model, with sequences cut at the longest end-of-text position where that is exact.

    Works for open_clip's own text transformers, as part of the model (`CLIP`) or as `model.text` (`CustomTextCLIP`).
    A tower of another library (Hugging Face text models) encodes token ids but takes no learned contexts.

    Args:
        model: a frozen open_clip model.
        tokenizer: its tokenizer.
        activation_budget_bytes: activations that one `prompts` call may keep for its gradient; beyond it classes pass
            in chunks whose activations are made again on the way back.
    """

    def __init__(
        self, model: nn.Module, tokenizer: object, activation_budget_bytes: int = ACTIVATION_BUDGET_BYTES
    ) -> None:
        self.model: Any = model  # towers are typed loosely: they differ by library
        self.tokenizer: Any = tokenizer
        self.tower: Any = getattr(model, "text", model)
        self.activation_budget_bytes = activation_budget_bytes
        self._tokenize = lru_cache(maxsize=KEPT_TOKENIZATIONS)(self._tokenize_now)
        self._ids = lru_cache(maxsize=KEPT_IDS)(self._ids_now)
        self._kept: OrderedDict[tuple[str, bool], Tensor] = OrderedDict()
        self._kept_of: tuple[object, ...] = ()
        self._places: OrderedDict[tuple[object, ...], tuple[Tensor, Tensor, Tensor, int]] = OrderedDict()
        self.context_length = int(getattr(model, "context_length", None) or getattr(self.tower, "context_length", 77))
        self.pool_type = getattr(self.tower, "pool_type", getattr(model, "text_pool_type", "argmax"))
        self.eos_id = getattr(self.tower, "eos_id", getattr(model, "text_eos_id", None))
        self._pass = TextPass(self.tower, self.pool_type)

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

    @property
    def layers(self) -> int:
        """Number of blocks, before each of which a prompt can be replaced."""
        self._require_contexts()
        return self._pass.layers

    @property
    def device(self) -> torch.device:
        """Where the tower's weights are."""
        return next(self.model.parameters()).device

    def _require_contexts(self) -> None:
        if not self.takes_contexts:
            raise InputError(
                f"learned prompts need an open_clip text transformer, got {type(self.tower).__name__}; "
                "use a method that works on text features"
            )

    def _require_blocks(self, wanted: Iterable[int]) -> None:
        layers = self.layers
        beyond = [index for index in wanted if not 0 <= index < layers]
        if beyond:
            raise InputError(f"the text tower has blocks 0 to {layers - 1}, got a prompt before block {beyond[0]}")

    def tokenize(self, texts: Sequence[str], reserve: int = 0, cut: bool = False) -> Int[Tensor, "n l"]:
        """Token ids of each text, padded to the context length.

        Args:
            texts: plain texts.
            reserve: context positions that the caller will put before each text.
            cut: let go of the last words of a text that does not fit, as is done with captions.

        Raises:
            InputError: naming the first text that does not fit, unless it is cut.
        """
        return self._tokenize(tuple(texts), reserve, cut)

    def too_long(self, texts: Sequence[str]) -> int:
        """How many texts would have to be cut."""
        ids = self.tokenizer(list(texts), context_length=self.context_length + SPARE_TOKENS)
        return int((self._end_positions(ids) >= self.context_length).sum())

    def _tokenize_now(self, texts: tuple[str, ...], reserve: int, cut: bool) -> Int[Tensor, "n l"]:
        try:
            ids = torch.stack([self._ids(text) for text in texts])
        except TypeError:
            return self.tokenizer(list(texts))
        room = self.context_length - reserve
        ends = self._end_positions(ids)
        if cut:
            ids = _cut(ids, ends, room)
        elif int(ends.max()) >= room:
            worst = int(ends.argmax())
            raise InputError(
                f"the text {texts[worst]!r} takes {int(ends[worst]) + 1} tokens with its start and end marks, but the "
                f"text tower has room for {room}; shorten the class name or the template"
            )
        return ids[:, : self.context_length]

    def _ids_now(self, text: str) -> Int[Tensor, " l"]:
        return self.tokenizer([text], context_length=self.context_length + SPARE_TOKENS)[0]

    def _end_positions(self, ids: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Position of the end-of-text mark of each row."""
        if self.pool_type == "argmax":
            return ids.argmax(dim=-1)
        if self.pool_type == "eos" and self.eos_id is not None:
            return (ids == self.eos_id).int().argmax(dim=-1)
        padding = ids[:, -1:]
        return (ids != padding).int().cumsum(dim=-1).argmax(dim=-1)

    @cached_property
    def _start_marks(self) -> int:
        """How many tokens begin every text: one, or none where the tokenizer writes no start mark (SigLIP's)."""
        first, second = self.tokenize(["a", "b"])[:, 0].tolist()
        return int(first == second)

    def encode(self, texts: Sequence[str], cut: bool = False) -> Float[Tensor, "n d"]:
        """L2-normalised features of plain texts, on the tower's device; texts seen lately are not encoded again.

        Args:
            texts: plain texts.
            cut: let go of the last words of a text that does not fit.
        """
        self._forget_if_changed()
        rows = {text: self._kept[text, cut] for text in texts if (text, cut) in self._kept}
        missing = [text for text in dict.fromkeys(texts) if text not in rows]
        if missing:
            rows.update(zip(missing, self._encode_now(missing, cut), strict=True))
        for text, row in rows.items():
            self._kept[text, cut] = row
            self._kept.move_to_end((text, cut))
        while len(self._kept) > KEPT_TEXTS:
            self._kept.popitem(last=False)
        return torch.stack([rows[text] for text in texts])

    def _forget_if_changed(self) -> None:
        """Drop kept features when the weights were moved, cast or written to since."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        written = sum(0 if tensor.is_inference() else tensor._version for tensor in tensors)
        now = (self.device, tensors[0].dtype, written)
        if now != self._kept_of:
            self._kept.clear()
            self._kept_of = now

    @torch.no_grad()
    def _encode_now(self, texts: Sequence[str], cut: bool) -> list[Float[Tensor, " d"]]:
        """Outside any autocast of the caller's, for the rows are kept for later callers."""
        ids = self.tokenize(texts, cut=cut)
        with torch.autocast(self.device.type, enabled=False):
            parts = [self._encode_ids(*self._place(chunk, self.device)) for chunk in ids.split(ENCODE_CHUNK)]
        features = normalize(at_least_float32(torch.cat(parts)), dim=-1)
        return [row.clone() for row in features]  # a view would keep the whole batch alive

    def pass_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """L2-normalised features of plain texts through the tower as it is now, with gradients; nothing is kept."""
        features = self._encode_ids(*self._placed(self.tokenize(texts), self.device))
        return normalize(at_least_float32(features), dim=-1)

    @torch.no_grad()
    def states(self, text: str, until: int) -> Float[Tensor, "l w"]:
        """Tokens of a text, up to its end-of-text mark where that is exact, before block `until`."""
        self._require_contexts()
        ids, _, longest = self._place(self.tokenize([text]), self.device)
        return self._pass.states(self.tower.token_embedding(ids[:, :longest] if self._pass.cuts else ids), until)[0]

    def features_from(self, texts: Sequence[str], states: Sequence[Tensor], first: int) -> Float[Tensor, "n d"]:
        """L2-normalised features of texts whose `states` before block `first` are known, with gradients to the tower.

        Args:
            texts: plain texts.
            states: (L, W) each, of any lengths.
            first: the block that they enter.
        """
        ends = sent(self._end_positions(self.tokenize(texts)), self.device)
        features = self._pass.features_from(pad_sequence(list(states), batch_first=True), first, ends)
        return normalize(at_least_float32(features), dim=-1)

    def _encode_ids(self, ids: Int[Tensor, "n l"], ends: Int[Tensor, " n"], longest: int) -> Float[Tensor, "n d"]:
        if not (self.takes_contexts and self._pass.cuts):
            return self.model.encode_text(ids)
        return self._pass.features(self.tower.token_embedding(ids[:, :longest]), ends)

    def prompts(
        self,
        contexts: Float[Tensor, "p k m w"],
        ids: Int[Tensor, "k l"],
        deeper: Mapping[int, Tensor] = NOT_DEEPER,
        factors: Float[Tensor, "p k l"] | None = None,
    ) -> Float[Tensor, "p k d"]:
        """Features of `[start][m context vectors][text]` for P prompts and K texts, with gradients to the contexts.

        Args:
            contexts: (P, K, M, W), or (P, 1, M, W) to share a prompt among all texts: the start mark and the contexts
                then pass the tower once a prompt, whatever K is.
            ids: (K, L) from `tokenize(texts, reserve=M)`, best as they come from it: they are moved to the contexts'
                device once, and no step waits for a device to learn how long they are. An empty text makes a prompt of
                context vectors alone.
            deeper: by the index of a block, vectors that replace whatever stands at the M positions of the contexts
                before that block: (P, K, M, W), or (P, 1, M, W) for all texts. Vectors of each text's own end the
                sharing.
            factors: what the embedding of each token of the texts is multiplied with; (1, K, L) serves all prompts.

        Returns:
            (P, K, D), L2-normalised, in float32 or wider; under autocast too.

        Raises:
            InputError: for a block that the tower does not have.
        """
        self._require_blocks(deeper)
        prompts, m = contexts.shape[0], contexts.shape[2]
        ids, ends, longest = self._placed(ids, contexts.device)
        ends = ends + m
        ids = ids[:, : min(longest, self.context_length - m) if self._pass.cuts else self.context_length - m]
        shared = all(own.shape[1] == 1 for own in (contexts, *deeper.values())) and len(ids) > 1
        if shared and factors is None and self._pass.shares_beginnings:
            encode, tokens = self._after_shared(contexts[:, 0], ids, ends, deeper), ids.shape[1] - self._start_marks
        else:
            encode, tokens = self._apart(contexts, ids, ends, deeper, factors), ids.shape[1] + m
        size = max(1, self.activation_budget_bytes // self._activation_bytes(prompts * tokens))
        if size >= len(ids):
            features = encode(slice(None))
        else:
            learned = any(own.requires_grad for own in (contexts, *deeper.values()))
            remade = torch.is_grad_enabled() and learned
            run = partial(checkpoint, encode, use_reentrant=False, preserve_rng_state=False) if remade else encode
            features = torch.cat([run(slice(at, at + size)) for at in range(0, len(ids), size)], dim=1)
        return normalize(at_least_float32(features), dim=-1)

    def _placed(
        self, ids: Int[Tensor, "k l"], device: torch.device
    ) -> tuple[Int[Tensor, "k l"], Int[Tensor, " k"], int]:
        """Token ids and positions of their end marks on a device, and how many tokens the longest text has."""
        key = (id(ids), ids._version, device)
        known = self._places.get(key)
        if known is None:
            known = (ids, *self._place(ids, device))  # ids is held, so its id stays its own
            self._places[key] = known
            while len(self._places) > KEPT_TOKENIZATIONS:
                self._places.popitem(last=False)
        return known[1:]

    def _place(self, ids: Int[Tensor, "k l"], device: torch.device) -> tuple[Tensor, Tensor, int]:
        """The same, of ids that come but once."""
        ends = self._end_positions(ids)
        return sent(ids, device), sent(ends, device), int(ends.max()) + 1

    def _after_shared(
        self,
        contexts: Float[Tensor, "p m w"],
        ids: Int[Tensor, "k l"],
        ends: Int[Tensor, " k"],
        deeper: Mapping[int, Tensor],
    ) -> Callable[[slice], Tensor]:
        """Encodes some of the texts after prompts that they share."""
        marks = self._start_marks
        start = self._words(ids[:1, :marks]).expand(len(contexts), -1, -1)
        beginning = torch.cat([start, contexts.to(start.dtype)], dim=1)
        memories = self._pass.remember(beginning, self._replacing({i: own[:, 0] for i, own in deeper.items()}))
        return lambda chunk: self._pass.features_after(memories, self._words(ids[chunk, marks:]), ends[chunk])

    def _apart(
        self,
        contexts: Float[Tensor, "p k m w"],
        ids: Int[Tensor, "k l"],
        ends: Int[Tensor, " k"],
        deeper: Mapping[int, Tensor],
        factors: Float[Tensor, "p k l"] | None,
    ) -> Callable[[slice], Tensor]:
        """Encodes some of the texts, each with its own contexts, as whole sequences."""
        marks = self._start_marks

        def encode(chunk: slice) -> Tensor:
            words = self._words(ids[chunk]).expand(len(contexts), -1, -1, -1)
            if factors is not None:
                words = words * factors[:, chunk, : words.shape[2], None].to(words.dtype)

            def each(vectors: Tensor) -> Tensor:
                own = vectors if vectors.shape[1] == 1 else vectors[:, chunk]
                return own.expand(-1, words.shape[1], -1, -1)

            embedded = torch.cat([words[:, :, :marks], each(contexts).to(words.dtype), words[:, :, marks:]], dim=2)
            before = self._replacing({i: each(own).flatten(0, 1) for i, own in deeper.items()})
            features = self._pass.features(embedded.flatten(0, 1), ends[chunk].repeat(len(contexts)), before)
            return features.unflatten(0, (len(contexts), -1))

        return encode

    def _replacing(self, vectors: Mapping[int, Float[Tensor, "n m w"]]) -> BeforeBlock:
        """Puts vectors in the place of the contexts before some blocks."""
        return {i: partial(replaced, tokens=own, first=self._start_marks) for i, own in vectors.items()}

    def holds_words(self, ids: Int[Tensor, "k l"]) -> Bool[Tensor, "k l"]:
        """Which positions lie between the start and the end mark of their text."""
        places = torch.arange(ids.shape[1], device=ids.device)
        return (places >= self._start_marks) & (places < self._end_positions(ids)[:, None])

    def token_features(self, tokens: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """L2-normalised features of single tokens, each between a start and an end mark."""
        alone = self._words(sent(tokens, self.device))[None, :, None]
        return self.prompts(alone, self.tokenize([""], reserve=1).expand(len(tokens), -1))[0]

    def word_vectors(self, text: str) -> Float[Tensor, "n w"]:
        """Token embeddings of a text without its marks, from which learned contexts can start."""
        ids = self.tokenize([text])
        return self._words(ids[:, self._start_marks : int(self._end_positions(ids)[0])].to(self.device))[0]

    @torch.no_grad()
    def nearest_words(self, vectors: Float[Tensor, "n w"], count: int) -> list[list[str]]:
        """Words whose token embeddings are nearest to each vector; numbers where the tokenizer knows no words."""
        table = self.tower.token_embedding.weight
        nearest = torch.cdist(vectors.to(table), table).topk(count, largest=False).indices.tolist()
        decode = getattr(self.tokenizer, "decode", None) or getattr(
            getattr(self.tokenizer, "tokenizer", None), "decode", lambda ids: str(ids[0])
        )
        return [[str(decode([i])).strip() for i in row] for row in nearest]

    @torch.no_grad()
    def _words(self, ids: Int[Tensor, "n l"]) -> Float[Tensor, "n l w"]:
        return self.tower.token_embedding(ids)

    def _activation_bytes(self, tokens: int) -> int:
        """Estimated memory that the way back needs of a pass over this many tokens."""
        weight = self.tower.token_embedding.weight
        return max(1, round(ACTIVATION_WIDTHS * tokens * weight.shape[1] * self._pass.layers * weight.element_size()))


def _cut(ids: Int[Tensor, "n l"], ends: Int[Tensor, " n"], room: int) -> Int[Tensor, "n l"]:
    """Texts of `room` tokens at most, their end marks among these."""
    last = ends.clamp(max=room - 1)[:, None]
    shorter = ids.scatter(1, last, ids.gather(1, ends[:, None]))
    return torch.where(torch.arange(ids.shape[1]) > last, ids[:, -1:], shorter)
