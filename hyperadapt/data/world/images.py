"""The picture at a world address: (data set, split, class, index) to pixels, the same on every call."""

from typing import Final

import numpy as np

from hyperadapt.data.world.scene import render
from hyperadapt.data.world.shifts import SHIFTS
from hyperadapt.data.world.taxonomy import Family

WORLD_SEED: Final = 20240229
SPLIT_CODES: Final = {"train": 0, "val": 1, "test": 2, "pretrain": 3}
"""The pretraining stream has its own code, so its images are none of a data set's."""


def world_pixels(family: Family, split: str, label: int, index: int, shift: str | None = None) -> np.ndarray:
    """Draw one picture.

    Args:
        family: The data set.
        split: "train", "val", "test" or "pretrain".
        label: Position in `family.fine`.
        index: Number of the picture within its class and split.
        shift: Name of a domain in `shifts.SHIFTS`, or None for the plain world. The scene stays the same.

    Returns:
        uint8 (64, 64, 3), RGB. It depends on the arguments alone, never on what was drawn before.

    Raises:
        KeyError: Unknown split or shift.

    Example:
        >>> from hyperadapt.data.world.taxonomy import FAMILIES
        >>> world_pixels(FAMILIES["birds"], "test", 0, 0).shape
        (64, 64, 3)
    """
    address = (WORLD_SEED, family.code, SPLIT_CODES[split], label, index)
    attributes = dict(family.fine[label].attributes)
    seen = render(family.painter, attributes, family.turn, np.random.default_rng(np.random.SeedSequence(address)))
    rgb = seen.rgb
    if shift is not None:
        code, change = SHIFTS[shift]
        rgb = change(seen, np.random.default_rng(np.random.SeedSequence((*address, code))))
    pixels = np.clip(rgb * np.float32(255.0) + np.float32(0.5), 0.0, 255.0).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
