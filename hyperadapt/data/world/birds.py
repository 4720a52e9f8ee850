"""Painter of the birds: side view, beak to the front."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from hyperadapt.data.world.canvas import Canvas
from hyperadapt.data.world.palette import grey, ink_on, shade
from hyperadapt.data.world.shapes import capsule, convex, ellipse, marking


@dataclass(frozen=True)
class _Build:
    """Proportions of one kind, object units: body half axes and tilt, neck, head, beak, tail, legs."""

    length: float = 0.42
    depth: float = 0.27
    tilt: float = -0.25
    neck: tuple[float, float] = (0.36, -0.3)
    neck_width: float = 0.14
    head: float = 0.19
    beak: float = 0.18
    beak_width: float = 0.06
    hook: bool = False
    tail: float = 0.4
    tail_width: float = 0.1
    forked: bool = False
    legs: float = 0.2
    ears: bool = False


_BUILDS: Final[dict[str, _Build]] = {
    "finch": _Build(length=0.36, depth=0.29, neck=(0.28, -0.3), head=0.21, beak=0.14, beak_width=0.1, tail=0.32),
    "thrush": _Build(length=0.4, depth=0.24, tilt=-0.6, neck=(0.3, -0.42), head=0.17, beak=0.2, beak_width=0.04),
    "swallow": _Build(length=0.44, depth=0.17, tilt=-0.1, neck=(0.4, -0.15), head=0.15, beak=0.09, tail=0.62,
                      tail_width=0.06, forked=True, legs=0.08),
    "duck": _Build(length=0.5, depth=0.25, tilt=0.0, neck=(0.46, -0.4), neck_width=0.1, head=0.17, beak=0.24,
                   beak_width=0.08, tail=0.2, tail_width=0.12, legs=0.0),
    "heron": _Build(length=0.36, depth=0.2, tilt=-0.4, neck=(0.42, -0.66), neck_width=0.07, head=0.12, beak=0.34,
                    beak_width=0.05, tail=0.2, legs=0.5),
    "gull": _Build(length=0.52, depth=0.2, tilt=-0.05, neck=(0.46, -0.22), head=0.16, beak=0.2, beak_width=0.06,
                   tail=0.3, tail_width=0.08, legs=0.16),
    "owl": _Build(length=0.34, depth=0.31, tilt=-1.2, neck=(0.1, -0.5), head=0.28, beak=0.07, beak_width=0.06,
                  tail=0.24, tail_width=0.12, legs=0.1, ears=True),
    "hawk": _Build(length=0.42, depth=0.24, tilt=-0.85, neck=(0.26, -0.5), head=0.18, beak=0.15, beak_width=0.09,
                   hook=True, tail=0.5, tail_width=0.13, legs=0.16),
}  # fmt: skip


def paint_bird(canvas: Canvas, attributes: dict[str, str], rng: np.random.Generator) -> None:
    """Draw one bird of the attributes kind, body, wing, crown, belly, marking and beak."""
    build = _BUILDS[attributes["kind"]]
    stray = 1.0 + 0.07 * rng.standard_normal(6)
    tilt = build.tilt + 0.1 * rng.standard_normal()
    length, depth = build.length * stray[0], build.depth * stray[1]
    head = build.head * stray[2]
    hx, hy = build.neck[0] * stray[3], build.neck[1] * stray[3] + 0.1
    body = shade(attributes["body"], rng)
    beak = shade(attributes["beak"], rng)
    _tail_and_legs(canvas, build, (length, depth, tilt), body, beak, stray[4])
    trunk = canvas.fill(ellipse(canvas.x, canvas.y, 0.0, 0.1, length, depth, tilt), body)
    _belly(canvas, attributes, (length, depth, tilt), trunk, rng)
    canvas.fill(capsule(canvas.x, canvas.y, (0.45 * length, 0.05), (hx, hy), 0.6 * depth, build.neck_width), body)
    _head(canvas, build, attributes, (hx, hy, head, build.beak * stray[5]), (body, beak), rng)
    _wing(canvas, attributes["wing"], (length, depth, tilt), rng)


def _tail_and_legs(
    canvas: Canvas,
    build: _Build,
    trunk: tuple[float, float, float],
    body: np.ndarray,
    legs: np.ndarray,
    stray: float,
) -> None:
    length, depth, tilt = trunk
    rx, ry = -0.8 * length * np.cos(tilt), 0.1 - 0.8 * length * np.sin(tilt)
    for side in (-0.22, 0.22) if build.forked else (0.0,):
        reach = build.tail * stray
        tip = (rx - reach * np.cos(tilt + side), ry - reach * np.sin(tilt + side))
        canvas.fill(capsule(canvas.x, canvas.y, (rx, ry), tip, build.tail_width, 0.7 * build.tail_width), body * 0.8)
    for foot in (-0.05, 0.08) if build.legs else ():
        start = (foot, 0.1 + 0.6 * depth)
        canvas.fill(capsule(canvas.x, canvas.y, start, (foot, start[1] + build.legs + 0.1), 0.03, 0.03), legs * 0.9)


def _belly(
    canvas: Canvas,
    attributes: dict[str, str],
    trunk: tuple[float, float, float],
    inside: np.ndarray,
    rng: np.random.Generator,
) -> None:
    length, depth, tilt = trunk
    cx, cy = 0.22 * length - 0.35 * depth * np.sin(tilt), 0.1 + 0.38 * depth * np.cos(tilt)
    belly = inside * canvas.alpha(ellipse(canvas.x, canvas.y, cx, cy, 0.85 * length, 0.72 * depth, tilt))
    colour = shade(attributes["belly"], rng)
    canvas.paint(belly, colour)
    cover = marking(attributes["marking"], canvas.x - np.float32(0.15), canvas.y, 0.2, rng.uniform(-0.05, 0.05))
    if cover is not None:
        canvas.paint(0.85 * belly * cover, ink_on(colour))


def _head(
    canvas: Canvas,
    build: _Build,
    attributes: dict[str, str],
    place: tuple[float, float, float, float],
    colours: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> None:
    hx, hy, head, beak = place
    body, bill = colours
    x, y = canvas.x, canvas.y
    tip = (hx + 0.8 * head + beak, hy + (0.14 if build.hook else 0.03))
    canvas.fill(capsule(x, y, (hx + 0.7 * head, hy), tip, build.beak_width, 0.015), bill)
    skull = canvas.fill(ellipse(x, y, hx, hy, 1.05 * head, head), body)
    crown = shade(attributes["crown"], rng)
    canvas.paint(skull * canvas.alpha(y - np.float32(hy - 0.12 * head)), crown)
    for side in (-0.6, 0.5) if build.ears else ():
        ear = [(hx + (side - 0.2) * head, hy - 0.6 * head), (hx + side * head, hy - 1.45 * head),
               (hx + (side + 0.3) * head, hy - 0.7 * head)]  # fmt: skip
        canvas.fill(convex(x, y, ear), crown)
    eye = 0.3 if build.ears else 0.2
    canvas.fill(ellipse(x, y, hx + 0.4 * head, hy - 0.02, eye * head + 0.02, eye * head + 0.02), grey(0.9))
    canvas.fill(ellipse(x, y, hx + 0.43 * head, hy - 0.02, 0.12 * head + 0.01, 0.12 * head + 0.01),
                grey(0.05))  # fmt: skip


def _wing(canvas: Canvas, colour: str, trunk: tuple[float, float, float], rng: np.random.Generator) -> None:
    length, depth, tilt = trunk
    lift = tilt + 0.15 + 0.15 * rng.standard_normal()
    cx, cy = -0.18 * length, 0.1 - 0.12 * depth
    value = shade(colour, rng)
    wing = canvas.fill(ellipse(canvas.x, canvas.y, cx, cy, 0.72 * length, 0.56 * depth, lift), value)
    low = ellipse(canvas.x, canvas.y, cx + 0.05, cy - 0.16 * depth, 0.7 * length, 0.5 * depth, lift)
    canvas.paint(0.5 * wing * (1.0 - canvas.alpha(low)), value * 0.55)
