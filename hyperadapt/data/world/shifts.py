"""Shifted domains: the same scenes seen through another medium, labels untouched."""

from collections.abc import Callable
from typing import Final

import numpy as np

from hyperadapt.data.world.canvas import SIZE
from hyperadapt.data.world.scene import Rendering
from hyperadapt.data.world.shapes import checks, spots, stripes

Shift = Callable[[Rendering, np.random.Generator], np.ndarray]
"""Takes a rendering and its own source of chance, returns float32 RGB (3, 64, 64)."""

_Y, _X = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(-1, 1, SIZE), indexing="ij")
_X, _Y = _X.astype(np.float32), _Y.astype(np.float32)
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


def _grey(rgb: np.ndarray) -> np.ndarray:
    return np.tensordot(_LUMA, rgb, axes=1)


def _blur(rgb: np.ndarray) -> np.ndarray:
    padded = np.pad(rgb, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4


def sketch(seen: Rendering, rng: np.random.Generator) -> np.ndarray:
    """A coloured drawing: soft pencil lines where the colour changes, a pale wash between them, paper grain."""
    smooth = _blur(seen.rgb)
    down, along = np.gradient(smooth, axis=(1, 2))
    line = np.clip(6.0 * np.sqrt(down**2 + along**2).max(axis=0) - 0.3, 0.0, 1.0)
    wash = 0.75 * smooth + 0.25
    paper = np.array([0.97, 0.96, 0.92], np.float32)[:, None, None]
    grain = np.float32(0.03) * rng.standard_normal(line.shape, dtype=np.float32)
    return (wash * paper) * (1.0 - 0.7 * line) + grain


def washed_out(seen: Rendering, rng: np.random.Generator) -> np.ndarray:
    """An overexposed, faded print: little colour, little contrast, slightly out of focus."""
    soft = _blur(seen.rgb)
    grey = _grey(soft)[None]
    faded = grey + np.float32(rng.uniform(0.55, 0.8)) * (soft - grey)
    return np.float32(rng.uniform(0.18, 0.28)) + np.float32(0.72) * faded


def texture_swapped(seen: Rendering, rng: np.random.Generator) -> np.ndarray:
    """The object's surface is woven over with a foreign texture in two brightnesses."""
    period, phase, turn = rng.uniform(0.12, 0.22), rng.uniform(0, 1), rng.uniform(0, np.pi)
    along = np.float32(np.cos(turn)) * _X + np.float32(np.sin(turn)) * _Y
    across = np.float32(np.cos(turn)) * _Y - np.float32(np.sin(turn)) * _X
    weave = (stripes(along, period, phase), spots(along, across, 1.3 * period, phase), checks(along, across, period, 0))
    cover = weave[int(rng.integers(3))] * seen.cover
    ink = rng.uniform(0.1, 0.9, 3).astype(np.float32)[:, None, None]
    return seen.rgb + np.float32(0.55) * cover * (ink - seen.rgb)


def noisy(seen: Rendering, rng: np.random.Generator) -> np.ndarray:
    """A poor sensor in the dark: less light, strong noise, some dead pixels."""
    dim = np.float32(rng.uniform(0.6, 0.85)) * seen.rgb
    grain = dim + np.float32(0.09) * rng.standard_normal(dim.shape, dtype=np.float32)
    dead = rng.random(dim.shape[1:]) < 0.02
    return np.where(dead, np.float32(rng.random() < 0.5), grain)


SHIFTS: Final[dict[str, tuple[int, Shift]]] = {
    "sketch": (1, sketch),
    "washed-out": (2, washed_out),
    "texture-swapped": (3, texture_swapped),
    "noisy": (4, noisy),
}
"""Name of a domain to the number that seeds it and the shift."""
