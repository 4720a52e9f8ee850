"""Painter of the patterns: a piece of cloth, turned and creased, seen from above."""

from typing import Final

import numpy as np

from hyperadapt.data.world.canvas import Canvas
from hyperadapt.data.world.palette import shade
from hyperadapt.data.world.shapes import box, checks, spots, stripes

_PERIOD: Final = {"narrow": 0.26, "broad": 0.46}


def paint_pattern(canvas: Canvas, attributes: dict[str, str], rng: np.random.Generator) -> None:
    """Draw one cloth of the attributes kind, ground, figure, accent, size and hem."""
    crease = rng.uniform(0.0, 0.06)
    x = canvas.x + np.float32(crease) * np.sin(np.float32(rng.uniform(3, 6)) * canvas.y + np.float32(rng.uniform(0, 6)))
    y = canvas.y + np.float32(crease) * np.sin(np.float32(rng.uniform(3, 6)) * canvas.x + np.float32(rng.uniform(0, 6)))
    wide, high = rng.uniform(0.8, 1.0, 2)
    cloth = canvas.fill(box(x, y, -wide, -high, wide, high, 0.08), shade(attributes["ground"], rng))
    period = _PERIOD[attributes["size"]] * rng.uniform(0.9, 1.1)
    first, second = _figure(attributes["kind"], x, y, period, rng)
    canvas.paint(cloth * first, shade(attributes["figure"], rng))
    if attributes["accent"] != "none":
        canvas.paint(cloth * second, shade(attributes["accent"], rng))
    if attributes["hem"] != "none":
        inner = canvas.alpha(box(x, y, -wide + 0.16, -high + 0.16, wide - 0.16, high - 0.16, 0.04))
        canvas.paint(cloth * (1.0 - inner), shade(attributes["hem"], rng))


def _figure(
    kind: str, x: np.ndarray, y: np.ndarray, period: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of the figure, and of the thin accent that goes with it."""
    phase = rng.uniform(0, period)
    half = phase + 0.5 * period
    if kind == "pinstripe":
        return stripes(x, period, phase, 0.4), stripes(x, period, half, 0.2)
    if kind == "zigzag":
        bent = x + np.float32(0.35) * np.abs((y / np.float32(0.7)) % np.float32(1.0) - np.float32(0.5)) * np.float32(2)
        return stripes(bent, period, phase, 0.45), stripes(bent, period, half, 0.2)
    if kind == "wave":
        bent = x + np.float32(0.1) * np.sin(y * np.float32(9.0))
        return stripes(bent, period, phase, 0.45), stripes(bent, period, half, 0.2)
    if kind == "polka":
        return spots(x, y, 1.25 * period, 0.0, 0.33), spots(x, y, 1.25 * period, 0.0, 0.14)
    if kind == "ring":
        disc, hole = spots(x, y, 1.4 * period, 0.0, 0.42), spots(x, y, 1.4 * period, 0.0, 0.26)
        return disc - hole, spots(x, y, 1.4 * period, 0.0, 0.15)
    if kind == "checker":
        first = checks(x, y, period, 0.0)
        return first, (1.0 - first) * spots(x, y, period, 0.0, 0.2)
    if kind == "diamond":
        a, b = x + y, x - y
        return checks(a, b, 1.2 * period, 0.0), stripes(a, 2.4 * period, 0.0, 0.14)
    bars = np.maximum(stripes(x, 1.5 * period, phase, 0.4), stripes(y, 1.5 * period, phase, 0.4))
    thin = np.maximum(stripes(x, 1.5 * period, phase + 0.75 * period, 0.12),
                      stripes(y, 1.5 * period, phase + 0.75 * period, 0.12))  # fmt: skip
    return 0.65 * bars, thin
