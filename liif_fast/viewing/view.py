"""What a page asks for: a rectangle of a photo's enlargement at a scale. Nothing here imports torch."""

from __future__ import annotations

import math
from typing import NamedTuple

LARGEST_SCALE = 1024.0  # output pixels for one of the photo's
LARGEST_TILE = 512  # side, output pixels


class ViewError(ValueError):
    """A view that cannot be: one line that names what is wrong. The one who asked is told, and nobody else."""


class View(NamedTuple):
    """A rectangle of the pixels into which a whole photo is divided at a scale; they are counted from its top left.

    Attributes:
        photo, method: their places in ``Desk.state()``'s lists.
        scale: output pixels for one of the photo's, a real number; the enlargement has ``extent(n, scale)`` of them.
        x, y: column and row of the first pixel. width, height: how many there are.
    """

    photo: int
    method: int
    scale: float
    x: int
    y: int
    width: int
    height: int

    def window(self) -> tuple[float, float, float, float]:
        """(top, left, height, width) in the photo's pixels."""
        top, left, height, width = (n / self.scale for n in (self.y, self.x, self.height, self.width))
        return top, left, height, width


def extent(n: int, scale: float) -> int:
    """Whole output pixels that n pixels become at a scale."""
    return max(1, math.floor(n * scale + 1e-6))


def least_scale(size: tuple[int, int]) -> float:
    """At which the shorter side of a photo is one pixel."""
    return 1 / min(size)
