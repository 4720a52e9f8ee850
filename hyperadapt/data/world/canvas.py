"""A small picture that parts are painted on: posed coordinates, signed distances, soft edges."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np

SIZE: Final = 64
_GRID_Y, _GRID_X = np.meshgrid(
    (np.arange(SIZE, dtype=np.float32) + 0.5) / (SIZE / 2) - 1.0,
    (np.arange(SIZE, dtype=np.float32) + 0.5) / (SIZE / 2) - 1.0,
    indexing="ij",
)


@dataclass(frozen=True)
class Pose:
    """Where an object stands: turn in radians, size, stretch of the width, centre, mirrored or not."""

    angle: float = 0.0
    scale: float = 1.0
    stretch: float = 1.0
    centre_x: float = 0.0
    centre_y: float = 0.0
    mirrored: bool = False

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Object coordinates of every pixel: x to the front, y down, the object within about [-1, 1]."""
        x, y = _GRID_X - np.float32(self.centre_x), _GRID_Y - np.float32(self.centre_y)
        cos = np.float32(np.cos(self.angle) / self.scale)
        sin = np.float32(np.sin(self.angle) / self.scale)
        along, down = cos * x + sin * y, cos * y - sin * x
        sign = -1.0 if self.mirrored else 1.0
        return along * np.float32(sign / self.stretch), down


@final
class Canvas:
    """RGB picture (3, 64, 64) with the coverage of what has been painted on it.

    Attributes:
        rgb: float32 (3, 64, 64) in [0, 1].
        cover: float32 (64, 64), 1 where the object hides the background.
        x, y: float32 (64, 64), object coordinates of the current pose.
    """

    def __init__(self, background: np.ndarray, pose: Pose | None = None) -> None:
        self.rgb = background
        self.cover = np.zeros((SIZE, SIZE), np.float32)
        self.stand(pose or Pose())

    def stand(self, pose: Pose) -> None:
        """Take another pose; what is painted stays."""
        self.x, self.y = pose.coordinates()
        self._pixels_per_unit = np.float32(pose.scale * SIZE / 2)

    def alpha(self, distance: np.ndarray) -> np.ndarray:
        """Coverage in [0, 1] of a shape given by its signed distance (negative inside), one pixel soft."""
        return np.clip(np.float32(0.5) - distance * self._pixels_per_unit, 0.0, 1.0)

    def paint(self, alpha: np.ndarray, colour: np.ndarray) -> None:
        """Lay a colour (3,) over the picture with coverage `alpha` (64, 64)."""
        self.rgb += alpha * (colour[:, None, None] - self.rgb)
        np.maximum(self.cover, alpha, out=self.cover)

    def fill(self, distance: np.ndarray, colour: np.ndarray) -> np.ndarray:
        """Paint a shape given by its signed distance; returns its coverage for markings on top."""
        alpha = self.alpha(distance)
        self.paint(alpha, colour)
        return alpha
