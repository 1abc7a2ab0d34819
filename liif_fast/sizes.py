"""Sizes of images as callers give them."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from .base.shown import shown

# of pictures in files: larger ones are refused unless a caller raises the limit
MAX_PIXELS = 2**28
MAX_OUTPUT_PIXELS = 2**28


def checked_size(size: Sequence[int], name: str = "size") -> tuple[int, int]:
    """(height, width); ValueError for anything but two integers above 0."""
    try:
        pair = tuple(size)
        ok = len(pair) == 2 and all(isinstance(n, numbers.Integral) and not isinstance(n, bool) and n > 0 for n in pair)
    except TypeError:
        ok = False
    if not ok:
        raise ValueError(f"{name}: (height, width), two integers above 0, is wanted, got {shown(size)}")
    return int(pair[0]), int(pair[1])


def output_size(in_size: Sequence[float], scale: float | None, size: Sequence[int] | None) -> tuple[int, int]:
    """(height, width) of an image or a window of ``in_size`` at ``scale`` (rounded, at least 1) or at ``size``."""
    if (scale is None) == (size is None):
        raise ValueError(f"give either scale or size, got scale={shown(scale)} and size={shown(size)}")
    if size is not None:
        return checked_size(size)
    if isinstance(scale, bool) or not isinstance(scale, numbers.Real) or not _finite(scale) or scale <= 0:
        raise ValueError(f"scale: a number above 0 is wanted, got {shown(scale)}")
    if scale < 1 << 53 and scale == int(scale):
        scale = int(scale)  # whose products need no rounding, which the files of torch.export do not hold
    try:
        return max(1, round(in_size[0] * scale)), max(1, round(in_size[1] * scale))
    except OverflowError:  # of infinity
        raise ValueError(f"scale: {shown(scale)} is too large") from None


def checked_window(window: Sequence[float], name: str = "window") -> tuple[float, float, float, float]:
    """(top, left, height, width) in pixels; ValueError for anything but four real numbers, the last two above 0."""
    try:
        part = tuple(window)
        real = all(isinstance(n, numbers.Real) and not isinstance(n, bool) and _finite(n) for n in part)
        ok = len(part) == 4 and real and part[2] > 0 and part[3] > 0
    except TypeError:
        ok = False
    if not ok:
        raise ValueError(
            f"{name}: (top, left, height, width) in the image's pixels, real numbers, the last two above 0, is wanted, "
            f"got {shown(window)}"
        )
    top, left, height, width = map(float, part)
    return top, left, height, width


def _finite(x: float) -> bool:
    """By comparison, which compilers can follow where sizes are symbols; false for NaN."""
    try:
        return abs(float(x)) <= sys.float_info.max
    except OverflowError:  # an integer
        return False


class Target(NamedTuple):
    """What ``LIIF.upscale`` is asked to make of an image; see its arguments there.

    Attributes:
        alpha: ``[1, 1, H, W]``, by which the colours of the image count when it is reduced; None: all alike.
    """

    scale: float | None = None
    size: Sequence[int] | None = None
    window: Sequence[float] | None = None
    point: bool = False
    alpha: Any = None

    @property
    def enlarges(self) -> bool:
        """Whether no side becomes smaller, as is known without one."""
        return self.window is None and self.scale is not None and self.scale >= 1

    def result_size(self, in_size: Sequence[int]) -> tuple[int, int]:
        """(height, width) of the result of an image of ``in_size``."""
        return output_size(in_size if self.window is None else checked_window(self.window)[2:], self.scale, self.size)
