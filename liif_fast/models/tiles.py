"""Exact tiles: an image of any size in bounded memory, equal to the whole image to float32 rounding.

A tile is encoded with a halo of the encoder's receptive field and its pixels are rendered at their coordinates in the
whole image, so there are no seams and nothing to blend. What an encoder sees must be bounded for that: see
``receptive_field`` in ``liif_fast.encoders``.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..base.out_of_memory import out_of_memory
from ..head import reference, sampling
from ..head.precision import HALF
from . import heap, overrides, tile_size, values
from .overrides import Piece, Spans
from .tile_size import halo, why_none

if TYPE_CHECKING:
    from .liif import LIIF

Span = tuple[int, int]
_Model = TypeVar("_Model", bound="LIIF")

_PIECE = 1 << 22  # output pixels that exist as float32 at a time


class Tile(NamedTuple):
    """Spans of rows and columns, one pair for each resolution or map."""

    out: Spans  # of the output image
    hidden: Spans  # of the hidden map: every pixel that these outputs read
    inp: Spans  # of the input: hidden's with the halo


class Grid(NamedTuple):
    """What tiles are cut from."""

    in_size: Span
    out: sampling.Sampling
    halo: int
    align: int = 1  # tiles of the input begin at its multiples, and end there or with the image (``LIIF.pad_to``)

    def tiles(self, side: int, out: Spans | None = None) -> Iterator[Tile]:
        """Tiles of about ``side`` x ``side`` input pixels, row by row, over ``out``; None: the whole output.

        ``side`` 0: one tile for the whole input.
        """
        everything = ((0, self.out[0].count), (0, self.out[1].count))
        if not side:
            whole = ((0, self.in_size[0]), (0, self.in_size[1]))
            return iter([Tile(everything, whole, whole)])
        out = everything if out is None else out
        rows, cols = (_axis_spans(self, axis, side, out[axis]) for axis in (0, 1))
        return (Tile(*zip(r, c, strict=True)) for r in rows for c in cols)


def _axis_spans(grid: Grid, axis: int, side: int, within: Span) -> list[tuple[Span, Span, Span]]:
    """Tile spans (out, hidden, inp) along one axis, for the output pixels ``within``."""
    n, along, length = grid.in_size[axis], grid.out[axis], within[1] - within[0]
    count = int(min(length, max(1, -(-length * n // (along.whole * side)))))
    edges = [within[0] + round(k * length / count) for k in range(count + 1)]
    outs = list(itertools.pairwise(edges))
    ends = along.ends(*torch.tensor(outs, device="cpu").unbind(-1)).float()  # [count, 2]
    index, _, _ = reference.corners(torch.stack([ends, ends], -1), (n, n))
    least, most = index.flatten(1).aminmax(dim=1)
    spans: list[tuple[Span, Span, Span]] = []
    for out, low, high in zip(outs, least.tolist(), most.tolist(), strict=True):
        # float32 rounding of a centre may choose the neighbour: one pixel to spare
        hidden = max(0, low - 1), min(n, high + 2)
        if spans and spans[-1][1] == hidden:  # far outside of the image all read its border
            out = spans.pop()[0][0], out[1]
        spans.append((out, hidden, with_halo(hidden, n, grid.halo, grid.align)))
    return spans


def with_halo(hidden: Span, n: int, halo: int, align: int) -> Span:
    """Input pixels from which an encoder makes the map's ``hidden``."""
    start, stop = max(0, hidden[0] - halo), min(n, hidden[1] + halo)
    start, stop = start // align * align, min(n, -(-stop // align) * align)
    if stop == n:  # what the padding reflects belongs to the tile
        start = min(start, max(0, n - -n % align) // align * align)
    return start, stop


def plan(
    in_size: Span, out_size: Sequence[int] | sampling.Sampling, tile: int, halo: int, align: int = 1
) -> Iterator[Tile]:
    """Tiles of the whole image, see ``Grid``."""
    return Grid(in_size, sampling.of(out_size), halo, align).tiles(tile)


def upscale(
    model: LIIF,
    image: Tensor,
    out: Tensor,
    *,
    tile: int,
    dtype: torch.dtype,
    progress: Callable[[float], None] | None = None,
    pixels: sampling.Sampling | None = None,
    only: Sequence[Tile] | None = None,
) -> Tensor:
    """Fill ``out [B, 3, OH, OW]`` with the upscaled ``image [B, 3, H, W]``; grey images have one channel in both.

    Both are in [0, 1] if floating point, else cover their integer type's range. ``image`` may be on another device
    than the model; ``out`` is filled where it is. Out of memory: the tile is halved and the work goes on.

    Args:
        tile: side of a tile in input pixels, 0: the whole image at once.
        dtype: of the computation; half precision runs under autocast, and a tile with a result that is not finite is
            computed again in float32, with a warning.
        progress: called with the share of the output that is done, in parts that add up to 1 (to more, if memory
            runs out in the middle of a tile).
        pixels: where those of ``out`` lie; None: they are the whole image.
        only: tiles to compute, the rest of ``out`` stays as it is; None: all, of side ``tile``.
    """
    if dtype == torch.float32:
        model = in_float32(model)
    with heap.kept() if model.device is None or model.device.type == "cpu" else contextlib.nullcontext():
        return _upscale(model, image, out, pixels or sampling.of(out.shape[-2:]), tile, dtype, progress, only)


def at_once(model: LIIF, image: Tensor, out: Tensor, pixels: sampling.Sampling, dtype: torch.dtype) -> Tensor:
    """``upscale`` as compilers follow it: the whole batch in one piece, without a second try. Where eager mode looks at
    values, the graph does when it runs, and raises a RuntimeError."""
    if dtype == torch.float32 and any(p.dtype in HALF for p in model.parameters()):
        raise ValueError("dtype: to compile float32 with weights of half precision, convert them first: model.float()")
    (tile,) = Grid((image.shape[-2], image.shape[-1]), pixels, 0).tiles(0)
    colours = _renderer(model, image, pixels, tile, dtype)(tile.out, None)
    wrong = f"the result is not finite in {dtype}: compile with dtype=torch.float32"
    torch._assert_async(colours.isfinite().all(), wrong if dtype in HALF else str(values.not_finite()))
    return out.copy_(values.finished(colours, out.shape[1], out.dtype))


def _upscale(
    model: LIIF,
    image: Tensor,
    out: Tensor,
    pixels: sampling.Sampling,
    tile: int,
    dtype: torch.dtype,
    progress: Callable[[float], None] | None,
    only: Sequence[Tile] | None,
) -> Tensor:
    h, w = image.shape[-2:]
    grid = Grid((h, w), pixels, halo(model) or 0, model.pad_to)
    border = 2 * grid.halo
    pixels_each = math.prod(min(n, tile + border) if tile else n for n in grid.in_size)
    step = tile_size.together(model, pixels_each, model.device or image.device)
    groups = [slice(i, i + step) for i in range(0, len(image), step)]
    work: Iterator[tuple[slice, Tile]] = (
        (images, t) for images in groups for t in (grid.tiles(tile) if only is None else only)
    )
    while (item := next(work, None)) is not None:
        images, t = item
        try:
            share = _scaled(progress, len(image[images]) / len(image))
            _upscale_tile(model, image[images], out[images], pixels, t, dtype, share)
            continue
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            side = max(b - a for a, b in t.hidden) // 2
            single = len(range(len(image))[images]) == 1
            if single and (side < 16 or why_none(model) is not None):
                raise
            cure = f"tiles of {side} pixels" if single else "one image at a time"
            warnings.warn(f"out of memory: trying again with {cure}", stacklevel=2)
        if model.device is not None and model.device.type == "cuda":
            torch.cuda.empty_cache()
        work = _finer(itertools.chain([item], work), len(image), grid, side if single else 0)
    return out


def _finer(work: Iterator[tuple[slice, Tile]], batch: int, grid: Grid, side: int) -> Iterator[tuple[slice, Tile]]:
    """The same work image by image, and in tiles of ``side`` (0: the same tiles)."""
    for images, t in work:
        for i in range(batch)[images]:
            for part in grid.tiles(side, t.out) if side else [t]:
                yield slice(i, i + 1), part


def _scaled(progress: Callable[[float], None] | None, share: float) -> Callable[[float], None] | None:
    """Reports parts of what is itself a part."""
    return None if progress is None else lambda part: progress(part * share)


def in_float32(model: _Model) -> _Model:
    """The model itself, or a copy if its weights are of half precision."""
    return copy.deepcopy(model).float() if any(p.dtype in HALF for p in model.parameters()) else model


def _upscale_tile(
    model: LIIF,
    image: Tensor,
    out: Tensor,
    pixels: sampling.Sampling,
    tile: Tile,
    dtype: torch.dtype,
    progress: Callable[[float], None] | None,
) -> None:
    """Fill a tile of ``out``, in pieces that bound the memory however large it is; ``progress`` with shares of it."""
    render, wide = _renderer(model, image, pixels, tile, dtype), None
    for rows, cols in _pieces(tile.out, max(1, _PIECE // len(image))):
        part = out[:, :, slice(*rows), slice(*cols)]
        colours = render((rows, cols), _scaled(progress, part.numel() / out.numel()))
        finite = _finite(colours)
        if not finite and dtype in HALF:
            if wide is None:
                warnings.warn(f"a result in {dtype} is not finite: computed again in float32", stacklevel=4)
                wide = _renderer(in_float32(model), image, pixels, tile, torch.float32)
            colours = wide((rows, cols), None)
            finite = _finite(colours)
        if not finite:
            raise values.not_finite()
        part.copy_(values.finished(colours, out.shape[1], out.dtype))


def _finite(t: Tensor) -> bool:
    """Whether all values are: in one pass and, on a device, with one wait for it."""
    low, high = t.aminmax()  # NaN is both
    return bool(low * 0 + high * 0 == 0)


def _pieces(out: Spans, pixels: int) -> Iterator[Spans]:
    """A tile of the output in pieces of at most so many pixels: rows, or parts of rows where they are longer."""
    (top, bottom), (left, right) = out
    width = min(right - left, pixels)
    height = pixels // width
    for y in range(top, bottom, height):
        for x in range(left, right, width):
            yield (y, min(bottom, y + height)), (x, min(right, x + width))


def _renderer(
    model: LIIF, image: Tensor, pixels: sampling.Sampling, tile: Tile, dtype: torch.dtype
) -> Callable[[Spans, Callable[[float], None] | None], Tensor]:
    """Encodes a tile; the result makes [B, 3, rows, cols] of it: float32, not yet clamped to [0, 1], on the model's
    device."""
    device = model.device or image.device
    rows, cols = tile.inp
    x = values.normalised(model, image[:, :, slice(*rows), slice(*cols)].to(device))
    part: Piece
    if model._own("render"):  # then the tile is the whole
        part = overrides.by_render(model, x, pixels, dtype if dtype in HALF else None)
    else:
        part = model.encode_part(x, image.shape[-2:], (rows[0], cols[0]), tile.hidden, pixels, dtype)

    def render(out: Spans, progress: Callable[[float], None] | None) -> Tensor:
        colours = part(out, progress)
        values.check_channels(colours.shape[1])
        return values.denormalised(model, colours)

    return render
