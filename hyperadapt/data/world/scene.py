"""The world around an object: background, clutter, pose, light and what stands in front."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hyperadapt.data.world.canvas import SIZE, Canvas, Pose
from hyperadapt.data.world.shapes import capsule, ellipse

Painter = Callable[[Canvas, dict[str, str], np.random.Generator], None]
"""Draws one object of the given attributes on a canvas that already has its pose."""

_RAMP_Y, _RAMP_X = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(-1, 1, SIZE), indexing="ij")
_RAMP_X, _RAMP_Y = _RAMP_X.astype(np.float32), _RAMP_Y.astype(np.float32)


@dataclass(frozen=True)
class Rendering:
    """What a painter left: float32 RGB (3, 64, 64) in [0, 1] and the object's visible coverage (64, 64)."""

    rgb: np.ndarray
    cover: np.ndarray


def _cloud(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise (64, 64) with unit-free values around 0, from a bilinear blow-up of a coarse grid."""
    grid = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
    at = np.linspace(0, cells, SIZE, endpoint=False)
    low = at.astype(np.int64)
    weight = (at - low).astype(np.float32)
    rows = grid[low] + weight[:, None] * (grid[low + 1] - grid[low])
    return rows[:, low] + weight[None, :] * (rows[:, low + 1] - rows[:, low])


def _background(rng: np.random.Generator) -> np.ndarray:
    """Two muted colours run into each other across the picture, with clouds on top: float32 (3, 64, 64)."""
    tones = rng.uniform(0.15, 0.9, (2, 3)).astype(np.float32)
    grey = tones.mean(axis=1, keepdims=True)
    tones = grey + np.float32(rng.uniform(0.2, 0.9)) * (tones - grey)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.float32(np.cos(angle)) * _RAMP_X + np.float32(np.sin(angle)) * _RAMP_Y
    blend = np.clip(0.5 + 0.4 * ramp + 0.25 * _cloud(rng, 4), 0.0, 1.0)
    picture = tones[0][:, None, None] + blend * (tones[1] - tones[0])[:, None, None]
    return picture + np.float32(0.05) * _cloud(rng, 16)


def _clutter(canvas: Canvas, rng: np.random.Generator, count: int, reach: float) -> None:
    """Twigs and stones in random colours, at distances from the centre of about `reach`."""
    for _ in range(count):
        turn = rng.uniform(0, 2 * np.pi)
        cx, cy = reach * np.cos(turn), reach * np.sin(turn)
        colour = rng.uniform(0.1, 0.9, 3).astype(np.float32)
        if rng.random() < 0.5:
            lean, half = rng.uniform(0, np.pi), rng.uniform(0.2, 0.6)
            dx, dy = half * np.cos(lean), half * np.sin(lean)
            wide = rng.uniform(0.03, 0.09)
            canvas.fill(capsule(canvas.x, canvas.y, (cx - dx, cy - dy), (cx + dx, cy + dy), wide, 0.6 * wide), colour)
        else:
            rx, ry = rng.uniform(0.08, 0.25, 2)
            canvas.fill(ellipse(canvas.x, canvas.y, cx, cy, rx, ry, rng.uniform(0, np.pi)), colour)


def _light(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sunlight: a tint, a slope of brightness across the picture, a gamma and a little sensor noise."""
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.25)
    ramp = np.float32(slope * np.cos(angle)) * _RAMP_X + np.float32(slope * np.sin(angle)) * _RAMP_Y
    tint = (rng.uniform(0.8, 1.15) * (1.0 + 0.06 * rng.standard_normal(3))).astype(np.float32)
    lit = np.clip(rgb * (1.0 + ramp) * tint[:, None, None], 0.0, 1.0) ** np.float32(rng.uniform(0.8, 1.25))
    return lit + np.float32(0.02) * rng.standard_normal(rgb.shape, dtype=np.float32)


def random_pose(rng: np.random.Generator, turn: float, mirror: bool = True) -> Pose:
    """A pose near the centre of the picture; `turn` is the standard deviation of the angle in radians."""
    return Pose(
        angle=float(turn * rng.standard_normal()),
        scale=float(rng.uniform(0.82, 1.15)),
        stretch=float(rng.uniform(0.9, 1.1)),
        centre_x=float(rng.uniform(-0.15, 0.15)),
        centre_y=float(rng.uniform(-0.15, 0.15)),
        mirrored=bool(mirror and rng.random() < 0.5),
    )


def render(painter: Painter, attributes: dict[str, str], turn: float, rng: np.random.Generator) -> Rendering:
    """One picture of an object with these attributes; everything else is drawn from `rng`.

    Args:
        painter: The data set's painter.
        attributes: Attribute name to value, as the class lists them.
        turn: How far objects of this data set tilt, standard deviation in radians.
        rng: The only source of chance.

    Returns:
        The lit picture, values in [0, 1], and the coverage of the visible part of the object.
    """
    canvas = Canvas(_background(rng))
    _clutter(canvas, rng, int(rng.integers(0, 5)), float(rng.uniform(0.55, 0.95)))
    canvas.cover[:] = 0.0
    canvas.stand(random_pose(rng, turn))
    painter(canvas, attributes, rng)
    cover = canvas.cover.copy()
    canvas.cover[:] = 0.0
    canvas.stand(Pose())
    if rng.random() < 0.4:
        _clutter(canvas, rng, int(rng.integers(1, 3)), float(rng.uniform(0.25, 0.6)))
    visible = cover * (1.0 - canvas.cover)
    return Rendering(np.clip(_light(canvas.rgb, rng), 0.0, 1.0), visible)
