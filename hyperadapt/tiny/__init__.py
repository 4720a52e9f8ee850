"""The embedded CLIP: a real open_clip model small enough to ship, trained on the embedded world."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import open_clip
from open_clip import CLIP, SimpleTokenizer
from PIL import Image
from torch import Tensor

from hyperadapt.tiny.weights import unpack

FOLDER: Final = Path(__file__).parent
WEIGHTS: Final = FOLDER / "model.safetensors"

__all__ = ["FOLDER", "WEIGHTS", "card", "load_tiny"]

Preprocess = Callable[[Image.Image], Tensor]


def load_tiny(weights: Path = WEIGHTS) -> tuple[CLIP, Preprocess, Preprocess, SimpleTokenizer]:
    """Build the embedded CLIP through open_clip's factory and load its weights, float32 on the CPU.

    Args:
        weights: Another file of the same architecture, as the training script writes.

    Returns:
        The model in evaluation mode, preprocessing for training, preprocessing for evaluation, the tokenizer (context
        32). Images are 64 by 64, features have 192 numbers.

    Example:
        >>> model, _, preprocess, tokenizer = load_tiny()
        >>> model.encode_text(tokenizer(["a photo of a duck, a type of bird."])).shape
        torch.Size([1, 192])
    """
    address = f"local-dir:{FOLDER}"
    with _quiet():
        built: Any = open_clip.create_model_and_transforms(address, load_weights=False)
        tokenizer: Any = open_clip.get_tokenizer(address)
    model, train_transform, transform = built
    model.load_state_dict(unpack(weights, model.vocab_size))
    return model.eval(), train_transform, transform, tokenizer


def card() -> dict[str, Any]:
    """What is known of the shipped weights: data, training, sizes and measured accuracies (in [0, 1]).

    Example:
        >>> sorted(card()["zero_shot"])
        ['birds', 'fish', 'flowers', 'patterns', 'vehicles']
    """
    return json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns that no weights were loaded; here they are loaded right after, from a smaller file."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
