"""Signed distances of the parts (negative inside, in object units) and coverages of the markings.

Distances are first-order exact at the outline, which is all that a one-pixel soft edge needs.
"""

from collections.abc import Sequence

import numpy as np

Field = np.ndarray
"""float32 (64, 64): one number a pixel."""


def ellipse(x: Field, y: Field, cx: float, cy: float, rx: float, ry: float, turn: float = 0.0) -> Field:
    """Ellipse at (cx, cy) with half axes rx, ry, turned by `turn` radians (front end down)."""
    dx, dy = x - np.float32(cx), y - np.float32(cy)
    if turn:
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    radius = np.sqrt((dx / np.float32(rx)) ** 2 + (dy / np.float32(ry)) ** 2)
    return (radius - np.float32(1.0)) * np.float32(min(rx, ry))


def capsule(x: Field, y: Field, start: Sequence[float], end: Sequence[float], r0: float, r1: float) -> Field:
    """Line from `start` to `end` whose radius runs from r0 to r1 (a limb, a neck, a pointed beak at r1 = 0)."""
    dx, dy = x - np.float32(start[0]), y - np.float32(start[1])
    ax, ay = end[0] - start[0], end[1] - start[1]
    t = np.clip((dx * np.float32(ax) + dy * np.float32(ay)) / np.float32(ax * ax + ay * ay + 1e-9), 0.0, 1.0)
    off = np.sqrt((dx - t * np.float32(ax)) ** 2 + (dy - t * np.float32(ay)) ** 2)
    return off - (np.float32(r0) + t * np.float32(r1 - r0))


def convex(x: Field, y: Field, corners: Sequence[Sequence[float]]) -> Field:
    """Convex polygon, corners listed clockwise on the screen (y down)."""
    if not corners:
        raise ValueError("convex needs at least one corner, got none; pass the corners clockwise")
    distance = np.full_like(x, -np.inf)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        length = float(np.hypot(x1 - x0, y1 - y0)) + 1e-9
        nx, ny = (y1 - y0) / length, (x0 - x1) / length
        np.maximum(distance, np.float32(nx) * x + np.float32(ny) * y - np.float32(nx * x0 + ny * y0), out=distance)
    return distance


def box(x: Field, y: Field, left: float, top: float, right: float, bottom: float, round_by: float = 0.0) -> Field:
    """Upright rectangle with corners rounded by `round_by`."""
    dx = np.abs(x - np.float32((left + right) / 2)) - np.float32((right - left) / 2 - round_by)
    dy = np.abs(y - np.float32((top + bottom) / 2)) - np.float32((bottom - top) / 2 - round_by)
    outside = np.sqrt(np.maximum(dx, 0.0) ** 2 + np.maximum(dy, 0.0) ** 2)
    return outside + np.minimum(np.maximum(dx, dy), 0.0) - np.float32(round_by)


def _soft(field: Field, sharpness: float = 3.0) -> Field:
    return np.clip(field * np.float32(sharpness) + np.float32(0.5), 0.0, 1.0)


def stripes(along: Field, period: float, phase: float, share: float = 0.45) -> Field:
    """Coverage of bars across `along`: `share` of every period is covered."""
    wave = np.cos((along - np.float32(phase)) * np.float32(2 * np.pi / period))
    return _soft(wave - np.float32(np.cos(np.pi * share)), 2.0)


def spots(x: Field, y: Field, period: float, phase: float, radius: float = 0.3) -> Field:
    """Coverage of round spots on a staggered grid; `radius` is in units of the period."""
    row = np.floor(y / np.float32(period) + np.float32(phase))
    sx = x / np.float32(period) + np.float32(phase) + row * np.float32(0.5)
    sy = y / np.float32(period) + np.float32(phase)
    dx, dy = sx - np.floor(sx) - np.float32(0.5), sy - np.floor(sy) - np.float32(0.5)
    return _soft(np.float32(radius) - np.sqrt(dx * dx + dy * dy), 8.0)


def checks(x: Field, y: Field, period: float, phase: float) -> Field:
    """Coverage of a chequerboard."""
    turn = np.float32(np.pi / period)
    return _soft(np.sin(x * turn + np.float32(phase)) * np.sin(y * turn + np.float32(phase)), 4.0)


def band(along: Field, centre: float, half_width: float) -> Field:
    """Coverage of one bar across `along`."""
    return _soft(np.float32(half_width) - np.abs(along - np.float32(centre)), 16.0)


def marking(kind: str, x: Field, y: Field, period: float, phase: float) -> Field | None:
    """Coverage of a named marking on the plane; None for a plain surface.

    Args:
        kind: "plain", "striped" (bars across x), "lined" (bars along x), "spotted", "checked" or "banded" (one bar).
        x: Coordinate across the bars, object units.
        y: Coordinate along the bars, object units.
        period: Distance of bars or spots in object units.
        phase: Where the pattern starts.

    Raises:
        ValueError: An unknown marking.
    """
    if kind == "plain":
        return None
    if kind == "striped":
        return stripes(x, period, phase)
    if kind == "lined":
        return stripes(y, period, phase)
    if kind == "spotted":
        return spots(x, y, period, phase)
    if kind == "checked":
        return checks(x, y, 0.7 * period, phase)
    if kind == "banded":
        return band(x, 0.0, 0.5 * period)
    raise ValueError(f"marking needs plain, striped, lined, spotted, checked or banded, got {kind!r}")
