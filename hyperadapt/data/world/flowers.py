"""Painter of the flowers: the blossom from the front (tulips and bells from the side), stem and leaves below."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from hyperadapt.data.world.canvas import Canvas
from hyperadapt.data.world.palette import ink_on, shade
from hyperadapt.data.world.shapes import capsule, ellipse, marking


@dataclass(frozen=True)
class _Build:
    """Proportions of one kind: petal count and half axes, centre radius, rings of petals, side view or not."""

    petals: int
    reach: float
    width: float
    centre: float
    rings: int = 1
    side: bool = False


_BUILDS: Final[dict[str, _Build]] = {
    "daisy": _Build(13, 0.27, 0.07, 0.16),
    "poppy": _Build(4, 0.27, 0.25, 0.13),
    "bluet": _Build(5, 0.26, 0.15, 0.09),
    "rose": _Build(7, 0.24, 0.2, 0.1, rings=3),
    "tulip": _Build(3, 0.42, 0.17, 0.1, side=True),
    "pansy": _Build(5, 0.23, 0.21, 0.12),
    "lily": _Build(6, 0.32, 0.1, 0.11),
    "lotus": _Build(9, 0.28, 0.1, 0.13, rings=2),
}


def paint_flower(canvas: Canvas, attributes: dict[str, str], rng: np.random.Generator) -> None:
    """Draw one flower of the attributes kind, petal, tip, centre, marking, leaf and stem."""
    build = _BUILDS[attributes["kind"]]
    x, y = canvas.x, canvas.y + np.float32(0.22)
    _stem(canvas, attributes, rng)
    petal, tip = shade(attributes["petal"], rng), shade(attributes["tip"], rng)
    cover = marking(attributes["marking"], x, y, 0.17, rng.uniform(-0.05, 0.05))
    stray = 1.0 + 0.07 * rng.standard_normal(3)
    start = rng.uniform(0, 2 * np.pi)
    for ring in range(build.rings):
        size = stray[0] * (1.0 - 0.3 * ring)
        for number in range(build.petals):
            turn = start + 0.4 * ring + 2 * np.pi * number / build.petals
            if build.side:
                turn = -np.pi / 2 + 0.42 * (0, 1, -1)[(number + 1) % 3] + 0.05 * rng.standard_normal()
            _petal(canvas, (x, y), (build.reach * size, build.width * size * stray[1], turn), (petal, tip), cover,
                   build.side)  # fmt: skip
    heart = shade(attributes["centre"], rng)
    radius = build.centre * stray[2]
    low = 0.3 if build.side else 0.0
    canvas.fill(ellipse(x, y, 0.0, low, 1.6 * radius if build.side else radius, radius), heart)
    if not build.side:
        canvas.fill(ellipse(x, y, 0.0, 0.0, 0.45 * radius, 0.45 * radius), heart * 0.6)


def _petal(
    canvas: Canvas,
    plane: tuple[np.ndarray, np.ndarray],
    shape: tuple[float, float, float],
    colours: tuple[np.ndarray, np.ndarray],
    cover: np.ndarray | None,
    side: bool,
) -> None:
    x, y = plane
    reach, width, turn = shape
    petal, tip = colours
    cos, sin = np.cos(turn), np.sin(turn)
    foot = 0.3 if side else 0.0
    middle = 0.6 if side else 0.95
    cx, cy = middle * reach * cos, middle * reach * sin + foot
    outline = ellipse(x, y, cx, cy, reach, width, turn)
    alpha = canvas.fill(outline, petal)
    along = np.float32(cos) * x + np.float32(sin) * (y - np.float32(foot))
    canvas.paint(alpha * canvas.alpha(np.float32((middle + 0.42) * reach) - along), tip)
    if cover is not None:
        canvas.paint(0.75 * alpha * cover, ink_on(petal))
    canvas.paint(0.35 * np.clip(1.0 - np.abs(outline) * 40.0, 0.0, 1.0), petal * 0.5)


def _stem(canvas: Canvas, attributes: dict[str, str], rng: np.random.Generator) -> None:
    colour = shade(attributes["stem"], rng)
    bend = 0.12 * rng.standard_normal()
    canvas.fill(capsule(canvas.x, canvas.y, (0.0, 0.0), (bend, 1.0), 0.045, 0.055), colour)
    broad = attributes["leaf"] == "broad"
    for side in (-1.0, 1.0):
        turn = side * (0.5 + 0.1 * rng.standard_normal())
        cx, cy = 0.5 * bend + side * 0.24, 0.64 + 0.05 * rng.standard_normal()
        wide = 0.13 if broad else 0.045
        canvas.fill(ellipse(canvas.x, canvas.y, cx, cy, 0.27, wide, -turn), colour * np.float32(0.85))
