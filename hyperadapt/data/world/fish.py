"""Painter of the fish: side view, snout to the front."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from hyperadapt.data.world.canvas import Canvas
from hyperadapt.data.world.palette import grey, ink_on, shade
from hyperadapt.data.world.shapes import band, convex, ellipse, marking


@dataclass(frozen=True)
class _Build:
    """Proportions of one kind, object units: half axes, back fin (foot, height, length), tail (reach, half height)."""

    length: float
    depth: float
    fin: tuple[float, float, float]
    under: float
    tail: tuple[float, float]
    forked: bool = False
    snout: float = 0.0
    whiskers: bool = False


_BUILDS: Final[dict[str, _Build]] = {
    "angelfish": _Build(0.42, 0.42, (0.1, 0.5, 0.5), 0.5, (0.28, 0.22), snout=0.08),
    "damselfish": _Build(0.45, 0.32, (0.0, 0.16, 0.7), 0.12, (0.3, 0.26), forked=True),
    "puffer": _Build(0.5, 0.46, (-0.2, 0.14, 0.2), 0.0, (0.2, 0.12)),
    "trout": _Build(0.6, 0.23, (-0.02, 0.2, 0.28), 0.14, (0.24, 0.22)),
    "carp": _Build(0.54, 0.32, (0.05, 0.18, 0.6), 0.12, (0.3, 0.28), forked=True, whiskers=True),
    "pike": _Build(0.72, 0.16, (-0.5, 0.2, 0.22), 0.18, (0.2, 0.2), snout=0.14),
    "tuna": _Build(0.6, 0.26, (0.05, 0.34, 0.14), 0.3, (0.2, 0.42), forked=True),
    "shark": _Build(0.7, 0.2, (0.1, 0.4, 0.3), 0.1, (0.26, 0.36), forked=True, snout=0.1),
}


def paint_fish(canvas: Canvas, attributes: dict[str, str], rng: np.random.Generator) -> None:
    """Draw one fish of the attributes kind, body, belly, fin, tail, marking and mask."""
    build = _BUILDS[attributes["kind"]]
    stray = 1.0 + 0.07 * rng.standard_normal(4)
    length, depth = build.length * stray[0], build.depth * stray[1]
    x, y = canvas.x - np.float32(0.08), canvas.y + np.float32(0.06 * rng.standard_normal()) * canvas.x
    _tail(canvas, build, x, y, length, shade(attributes["tail"], rng), stray[2])
    _fins(canvas, build, x, y, (length, depth), shade(attributes["fin"], rng), stray[3])
    body = shade(attributes["body"], rng)
    outline = ellipse(x, y, 0.0, 0.0, length, depth)
    if build.snout:
        corners = [(0.5 * length, -0.6 * depth), (length + build.snout, 0.0), (0.5 * length, 0.6 * depth)]
        outline = np.minimum(outline, convex(x, y, corners))
    trunk = canvas.fill(outline, body)
    belly = trunk * canvas.alpha(np.float32(0.22 * depth) - y)
    canvas.paint(belly, shade(attributes["belly"], rng))
    cover = marking(attributes["marking"], x, y, 0.22, rng.uniform(-0.05, 0.05))
    if cover is not None:
        canvas.paint(0.85 * trunk * cover * canvas.alpha(x - np.float32(0.45 * length)), ink_on(body))
    _face(canvas, build, x, y, (length, depth), trunk, attributes["mask"], rng)


def _tail(
    canvas: Canvas, build: _Build, x: np.ndarray, y: np.ndarray, length: float, colour: np.ndarray, stray: float
) -> None:
    reach, half = build.tail[0] * stray, build.tail[1] * stray
    root, end = -0.85 * length, -length - reach
    if not build.forked:
        canvas.fill(convex(x, y, [(root, -0.06), (root, 0.06), (end, half), (end, -half)]), colour)
        return
    notch = end + 0.55 * reach
    canvas.fill(convex(x, y, [(root, -0.08), (root, 0.02), (notch, 0.02), (end, -half)]), colour)
    canvas.fill(convex(x, y, [(root, -0.02), (root, 0.08), (end, half), (notch, -0.02)]), colour)


def _fins(
    canvas: Canvas,
    build: _Build,
    x: np.ndarray,
    y: np.ndarray,
    trunk: tuple[float, float],
    colour: np.ndarray,
    stray: float,
) -> None:
    length, depth = trunk
    foot, height, wide = build.fin
    front, back, top = foot + wide / 2, foot - wide / 2, -depth - height * stray
    foot_y = -0.45 * depth
    canvas.fill(convex(x, y, [(back, foot_y), (back - 0.06, top), (back + 0.3 * wide, top), (front, foot_y)]), colour)
    if build.under:
        low = depth + build.under * stray
        canvas.fill(convex(x, y, [(back, -foot_y), (0.3 * length, -foot_y), (back + 0.2, low), (back, low)]), colour)


def _face(
    canvas: Canvas,
    build: _Build,
    x: np.ndarray,
    y: np.ndarray,
    trunk: tuple[float, float],
    inside: np.ndarray,
    mask: str,
    rng: np.random.Generator,
) -> None:
    length, depth = trunk
    ex, ey, dark = 0.66 * length, -0.16 * depth, grey(0.05)
    if mask != "none":
        canvas.paint(inside * band(x, ex, 0.11), shade(mask, rng))
    canvas.fill(ellipse(x, y, ex, ey, 0.065, 0.065), grey(0.95))
    canvas.fill(ellipse(x, y, ex + 0.01, ey, 0.035, 0.035), dark)
    canvas.fill(ellipse(x, y, 0.12 * length, 0.2 * depth, 0.13, 0.06, -0.5), grey(0.25))
    if build.whiskers:
        canvas.fill(convex(x, y, [(0.9 * length, 0.08), (length + 0.02, 0.3), (length - 0.04, 0.3)]), dark)
