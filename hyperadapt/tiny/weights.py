"""The weights file: half precision, and of the token embedding only the rows that training has seen."""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

EMBEDDING: Final = "token_embedding.weight"
ROWS, IDS = "token_embedding.rows", "token_embedding.ids"
_UNSEEN_SEED: Final = 64


def pack(state: dict[str, Tensor], ids: Int[Tensor, " V"], path: Path) -> None:
    """Write the state of a model whose vocabulary is `ids`, atomically.

    Args:
        state: State dict of the model; its token embedding has one row for each of `ids`.
        ids: Ascending ids of the tokenizer.
        path: The safetensors file to write or replace.
    """
    tensors = {name: value.half().contiguous() for name, value in state.items() if name != EMBEDDING}
    tensors[ROWS] = state[EMBEDDING].half().contiguous()
    tensors[IDS] = ids.to(torch.int32)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        save_file(tensors, str(fresh))
        fresh.chmod(0o644)
        fresh.replace(path)


def unpack(path: Path, vocab_size: int) -> dict[str, Tensor]:
    """Read a state dict in float32 with the whole vocabulary.

    Words that training never saw get rows that depend on their id alone: uniform numbers of the seen rows' spread
    from numpy's legacy generator, whose stream is frozen for good. So unknown words stay apart from each other, and
    every version of torch sees the same ones.

    Args:
        path: A file that `pack` wrote.
        vocab_size: Rows of the whole token embedding.
    """
    tensors = load_file(str(path))
    rows, ids = tensors.pop(ROWS).float(), tensors.pop(IDS).long()
    table = unseen_rows(rows, vocab_size)
    table[ids] = rows
    return {**{name: value.float() for name, value in tensors.items()}, EMBEDDING: table}


def unseen_rows(rows: Float[Tensor, "V D"], vocab_size: int) -> Float[Tensor, "W D"]:
    """One row for every id of the vocabulary, with the spread of `rows` and no relation to their words."""
    spread = round(float(rows.double().std()), 4) * 3**0.5
    stream = np.random.RandomState(_UNSEEN_SEED)  # the legacy stream, which never changes
    table = stream.random_sample((vocab_size, rows.shape[1])).astype(np.float32)
    return torch.from_numpy(table).mul_(2 * spread).sub_(spread)
