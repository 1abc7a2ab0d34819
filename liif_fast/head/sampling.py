"""Where an output's pixels lie in the image: all of it, or a window of real numbers; one ``Axis`` for each side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .reference import pixel_centres

_FARTHEST = 1 << 20  # images: how large a window may be
_MOST = 1 << 53  # pixels of which float64 still tells one from the next
_SNAP = 1e-9  # relative: a grid this close to one of whole pixels is that one, so that a window of it has its bits


@dataclass(frozen=True)
class Axis:
    """Output pixels along one side: ``count`` of those into which the whole image is divided, ``whole`` of them.

    ``whole`` and ``first`` are real numbers. Where both are whole numbers the coordinates are, bit for bit, those of
    that part of an image of ``whole`` pixels.

    Attributes:
        count: how many pixels there are.
        whole: length of the image in these pixels.
        first: where the first one begins; below 0, or with pixels beyond ``whole``, outside of the image.
        mirror: coordinates outside of the image are reflected at its border; else they are set to its border, up to
            where ``reference.liif`` looks for features. LIIF itself, asked beyond, would extrapolate to any colour.
        cell: size of a pixel as the MLP sees it, where the image spans 2; None: 2 / whole.
    """

    count: int
    whole: float
    first: float = 0
    mirror: bool = False
    cell: float | None = None

    @property
    def pixel(self) -> float:
        return 2 / self.whole if self.cell is None else self.cell

    @property
    def plain(self) -> bool:
        """Whether these are the pixels of the whole image and no others."""
        return self == Axis(self.count, self.count)

    def at(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        """Coordinates of the centres of pixels (integers in any shape), not yet reflected."""
        if self.first == int(self.first):
            return pixel_centres(index + int(self.first), self.whole, dtype=dtype)
        start = 2 * self.first / self.whole
        return pixel_centres(index, self.whole, (-1 + start, 1 + start), dtype)

    def centres(self, start: int, stop: int, device: torch.device | str | None, dtype: torch.dtype) -> Tensor:
        """Coordinates of the centres of the pixels from start to stop."""
        centres = self.at(torch.arange(start, stop, device=device), dtype)
        if self.mirror:
            return reflected(centres)
        inside = self.first >= 0 and self.first + self.count <= self.whole
        return centres if inside else centres.clamp(-1 + 1e-6, 1 - 1e-6)

    def ends(self, start: Tensor, stop: Tensor) -> Tensor:
        """The least and the largest coordinate of the pixels from start to stop: ``[n], [n] -> [n, 2]`` in float64."""
        ends = self.at(torch.stack([start, stop - 1], -1), torch.float64)
        if not self.mirror:
            return ends
        inner = reflected(ends).sort(-1).values
        # a span in which the coordinate turns round goes up to that border
        turns = [((ends[:, 0] - border) / 4).ceil() <= ((ends[:, 1] - border) / 4).floor() for border in (-1, 1)]
        return torch.stack([inner[:, 0].where(~turns[0], -1), inner[:, 1].where(~turns[1], 1)], -1)


Sampling = tuple[Axis, Axis]  # of rows and of columns


def of(size: Sequence[int] | Sequence[Axis]) -> Sampling:
    """Of the whole image at ``size`` (height, width); a sampling is itself."""
    rows, cols = (n if isinstance(n, Axis) else Axis(n, n) for n in size)
    return rows, cols


def window(in_size: Sequence[int], size: Sequence[int], part: Sequence[float]) -> Sampling:
    """Of a window of an image of ``in_size`` at ``size``.

    Args:
        part: (top, left, height, width) in the image's pixels, real numbers; beyond the border too.

    Raises:
        ValueError: so large, small or far away that its pixels cannot be told from each other.
    """
    for n, count, start, length in zip(in_size, size, part[:2], part[2:], strict=True):
        if length > n * _FARTHEST or not (abs(start) + n) / length * count < _MOST:
            raise ValueError(f"window: {start:g} and {length:g} are too far, too large or too small for {n} pixels")
    rows, cols = (
        Axis(count, snapped(count * n / length), snapped(start * count / length))
        for n, count, start, length in zip(in_size, size, part[:2], part[2:], strict=True)
    )
    return rows, cols


def limited(pixels: Sampling, in_size: Sequence[int], scale: float | None) -> Sampling:
    """The same pixels, of which the MLP is told no smaller size than that of those of an image enlarged by ``scale``;
    None: their own."""
    if scale is None:
        return pixels
    down, across = (
        replace(axis, cell=torch.sym_max(axis.pixel, 2 / (n * scale))) for axis, n in zip(pixels, in_size, strict=True)
    )
    return down, across


def blocks(
    size: Sequence[int] | Sampling,
    rows: tuple[int, int],
    cols: tuple[int, int],
    block: int,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Coordinates of the pixels rows x cols of an image of ``size``, or of a sampling, in pieces of about ``block``
    pixels, whole rows where they are no longer; while compiling in one.

    Yields: slice of rows, slice of columns, counted from rows[0] and cols[0]; coord ``[n, 2]``.
    """
    width = max(1, min(cols[1] - cols[0], block))
    height = max(1, block // width)
    down, across = of(size)
    for left, right in _steps(cols, width):
        xs = across.centres(left, right, device, dtype)
        for top, bottom in _steps(rows, height):
            ys = down.centres(top, bottom, device, dtype)
            lines, columns = slice(top - rows[0], bottom - rows[0]), slice(left - cols[0], right - cols[0])
            yield lines, columns, torch.cartesian_prod(ys, xs)


def _steps(span: tuple[int, int], step: int) -> list[tuple[int, int]]:
    """A span in parts; in one for compilers, who would write a loop out, for this length alone."""
    if torch.compiler.is_compiling():
        return [span]
    return [(start, min(span[1], start + step)) for start in range(*span, step)]


def reflected(coord: Tensor) -> Tensor:
    """Coordinates outside of [-1, 1] reflected at its ends, again and again where they are far."""
    turned = (coord + 1) % 4
    return torch.where(turned > 2, 4 - turned, turned) - 1


def snapped(x: float) -> float:
    """Without the roundings by which a length or a place in pixels may miss a whole number."""
    near = round(x)
    return near if abs(x - near) <= _SNAP * max(1, abs(x)) else x
