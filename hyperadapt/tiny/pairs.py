"""The pretraining stream: pictures and captions of the world that no data set's parts contain."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import open_clip
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from hyperadapt.data.world.captions import captions_of
from hyperadapt.data.world.images import world_pixels
from hyperadapt.data.world.taxonomy import FAMILIES

CAPTIONS_EACH: Final = 6
CONTEXT: Final = 32


@dataclass(frozen=True)
class Pairs:
    """Pictures with several tokenised captions each.

    Attributes:
        images: uint8 (N, 3, 64, 64).
        tokens: int64 (N, C, 32), ids of the tokenizer, C captions a picture.
        texts: The captions themselves, N rows of C.
    """

    images: UInt8[Tensor, "N 3 64 64"]
    tokens: Int[Tensor, "N C L"]
    texts: tuple[tuple[str, ...], ...]


def _render_class(task: tuple[str, int, int]) -> np.ndarray:
    name, label, count = task
    return np.stack([world_pixels(FAMILIES[name], "pretrain", label, index) for index in range(count)])


def build_pairs(per_class: int, workers: int = 2) -> Pairs:
    """Render the pretraining pictures of all classes of all data sets and write their captions.

    Args:
        per_class: Pictures a class.
        workers: Processes that render; the result does not depend on it.
    """
    tasks = [(name, label, per_class) for name, family in FAMILIES.items() for label in range(len(family.fine))]
    with ProcessPoolExecutor(workers) as pool:
        blocks = list(pool.map(_render_class, tasks, chunksize=4))
    images = torch.from_numpy(np.concatenate(blocks)).permute(0, 3, 1, 2).contiguous()
    texts = tuple(
        captions_of(FAMILIES[name], "pretrain", label, index, CAPTIONS_EACH)
        for name, label, count in tasks
        for index in range(count)
    )
    return Pairs(images, tokenize([text for row in texts for text in row]).view(len(texts), CAPTIONS_EACH, -1), texts)


def tokenize(texts: Sequence[str]) -> Int[Tensor, "N L"]:
    """Token ids of CLIP's byte-pair vocabulary, padded with 0 to the context of 32."""
    return open_clip.SimpleTokenizer(context_length=CONTEXT)(list(texts))
