"""The colours of the world: words, their mean values and how far one image strays from them."""

from typing import Final

import numpy as np

COLOURS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.80, 0.12, 0.12),
    "orange": (0.92, 0.50, 0.10),
    "yellow": (0.93, 0.83, 0.20),
    "green": (0.20, 0.58, 0.22),
    "teal": (0.10, 0.58, 0.60),
    "blue": (0.16, 0.30, 0.80),
    "purple": (0.48, 0.20, 0.66),
    "pink": (0.93, 0.55, 0.70),
    "brown": (0.45, 0.27, 0.13),
    "black": (0.10, 0.10, 0.12),
    "grey": (0.52, 0.53, 0.55),
    "white": (0.93, 0.93, 0.91),
}

SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "red": ("red", "scarlet"),
    "orange": ("orange", "amber"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "teal": ("teal",),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "brown": ("brown", "chestnut"),
    "black": ("black", "sable"),
    "grey": ("grey", "ashen"),
    "white": ("white", "snowy"),
}


def shade(colour: str, rng: np.random.Generator, spread: float = 0.055) -> np.ndarray:
    """One image's value of a colour word.

    Args:
        colour: A key of `COLOURS`.
        rng: Draws the deviation: a brightness factor and an independent step of each channel.
        spread: Standard deviation of the channel steps, in units of full scale.

    Returns:
        float32 (3,) in [0, 1].

    Example:
        >>> shade("red", np.random.default_rng(0)).shape
        (3,)
    """
    gain = 1.0 + 0.10 * rng.standard_normal()
    value = np.asarray(COLOURS[colour]) * gain + spread * rng.standard_normal(3)
    return np.clip(value, 0.0, 1.0).astype(np.float32)


def grey(level: float) -> np.ndarray:
    """A grey of this level in [0, 1] as float32 (3,)."""
    return np.full(3, level, np.float32)


def ink_on(colour: np.ndarray) -> np.ndarray:
    """What markings are drawn with: dark on a light colour, light on a dark one; float32 (3,)."""
    return grey(0.08 if colour.mean() > 0.35 else 0.92)
