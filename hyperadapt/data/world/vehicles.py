"""Painter of the vehicles: side view, driving to the front."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from hyperadapt.data.world.canvas import Canvas
from hyperadapt.data.world.palette import ink_on, shade
from hyperadapt.data.world.shapes import band, box, convex, ellipse, marking

Corners = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Build:
    """Outlines of one kind: body box, roof polygon (clockwise), windows, wheels (place, radius) and the flag's foot."""

    body: tuple[float, float, float, float]
    roof: Corners
    windows: tuple[tuple[float, float, float, float], ...]
    wheels: tuple[tuple[float, float], ...]
    flag: tuple[float, float]
    mast: bool = False


_BUILDS: Final[dict[str, _Build]] = {
    "sedan": _Build((-0.75, -0.05, 0.75, 0.3), ((-0.5, -0.03), (-0.3, -0.38), (0.2, -0.38), (0.45, -0.03)),
                    ((-0.28, -0.3, -0.06, -0.06), (0.0, -0.3, 0.2, -0.06)), ((-0.45, 0.17), (0.45, 0.17)),
                    (-0.65, -0.05)),
    "van": _Build((-0.7, -0.2, 0.7, 0.35), ((-0.7, -0.18), (-0.7, -0.52), (0.45, -0.52), (0.66, -0.18)),
                  ((0.2, -0.44, 0.44, -0.2),), ((-0.42, 0.16), (0.45, 0.16)), (-0.6, -0.5)),
    "bus": _Build((-0.85, -0.12, 0.85, 0.38), ((-0.85, -0.1), (-0.85, -0.55), (0.85, -0.55), (0.85, -0.1)),
                  ((-0.7, -0.42, -0.45, -0.16), (-0.33, -0.42, -0.08, -0.16), (0.04, -0.42, 0.29, -0.16),
                   (0.41, -0.42, 0.72, -0.16)), ((-0.5, 0.15), (0.5, 0.15)), (-0.8, -0.55)),
    "truck": _Build((-0.85, -0.45, 0.3, 0.28), ((0.34, 0.28), (0.34, -0.25), (0.6, -0.25), (0.82, 0.28)),
                    ((0.42, -0.17, 0.58, 0.02),), ((-0.6, 0.17), (-0.2, 0.17), (0.55, 0.17)), (-0.8, -0.45)),
    "tractor": _Build((-0.3, -0.1, 0.72, 0.25), ((-0.5, 0.2), (-0.45, -0.6), (0.05, -0.6), (0.08, 0.2)),
                      ((-0.34, -0.5, -0.04, -0.14),), ((-0.4, 0.34), (0.52, 0.19)), (0.5, -0.1)),
    "ferry": _Build((-0.85, 0.02, 0.85, 0.42), ((-0.55, 0.04), (-0.55, -0.38), (0.4, -0.38), (0.5, 0.04)),
                    ((-0.45, -0.26, -0.25, -0.08), (-0.13, -0.26, 0.07, -0.08), (0.18, -0.26, 0.36, -0.08)), (),
                    (-0.45, -0.38)),
    "sailboat": _Build((-0.7, 0.25, 0.7, 0.55), ((-0.04, 0.18), (-0.04, -0.85), (0.62, 0.18)), (), (), (-0.6, 0.25),
                       mast=True),
    "tugboat": _Build((-0.65, 0.0, 0.7, 0.45), ((-0.05, 0.02), (-0.05, -0.5), (0.4, -0.5), (0.4, 0.02)),
                      ((0.06, -0.4, 0.3, -0.18),), (), (-0.5, 0.0)),
}  # fmt: skip


def paint_vehicle(canvas: Canvas, attributes: dict[str, str], rng: np.random.Generator) -> None:
    """Draw one vehicle of the attributes kind, body, roof, trim, marking and flag."""
    build = _BUILDS[attributes["kind"]]
    stray = 1.0 + 0.06 * rng.standard_normal(3)
    x, y = canvas.x * np.float32(stray[0]), canvas.y * np.float32(stray[1])
    if attributes["flag"] != "none":
        _flag(canvas, build, x, y, shade(attributes["flag"], rng))
    roof = shade(attributes["roof"], rng)
    canvas.fill(convex(x, y, build.roof), roof)
    if build.mast:
        canvas.fill(convex(x, y, ((-0.6, 0.18), (-0.1, -0.6), (-0.1, 0.18))), roof * 0.9)
    glass = np.array([0.75, 0.85, 0.92], np.float32) * np.float32(rng.uniform(0.4, 1.0))
    _hull(canvas, build, x, y, attributes, rng)
    for window in build.windows:
        canvas.fill(box(x, y, *window, round_by=0.03), glass)
    for place, radius in build.wheels:
        low = max(build.body[3], 0.3) + 0.02 - 0.6 * (radius - 0.17)
        size = radius * stray[2]
        canvas.fill(ellipse(x, y, place, low, size, size), np.array([0.07, 0.07, 0.08], np.float32))
        canvas.fill(ellipse(x, y, place, low, 0.45 * size, 0.45 * size), np.array([0.6, 0.6, 0.62], np.float32))


def _hull(
    canvas: Canvas,
    build: _Build,
    x: np.ndarray,
    y: np.ndarray,
    attributes: dict[str, str],
    rng: np.random.Generator,
) -> None:
    left, top, right, bottom = build.body
    body = shade(attributes["body"], rng)
    outline = box(x, y, left, top, right, bottom, 0.06)
    if not build.wheels:
        keel = ((left, top), (right, top), (right - 0.22, bottom), (left + 0.12, bottom))
        outline = convex(x, y, keel)
    hull = canvas.fill(outline, body)
    cover = marking(attributes["marking"], x, y, 0.24, rng.uniform(-0.06, 0.06))
    if cover is not None:
        canvas.paint(0.85 * hull * cover, ink_on(body))
    if attributes["trim"] != "none":
        level = top + 0.22 * (bottom - top)
        canvas.paint(hull * band(y, level, 0.07), shade(attributes["trim"], rng))


def _flag(canvas: Canvas, build: _Build, x: np.ndarray, y: np.ndarray, colour: np.ndarray) -> None:
    fx, fy = build.flag
    canvas.fill(box(x, y, fx - 0.015, fy - 0.42, fx + 0.015, fy), np.array([0.2, 0.2, 0.2], np.float32))
    canvas.fill(box(x, y, fx, fy - 0.42, fx + 0.26, fy - 0.2), colour)
