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
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from . import functional, heap, reference
from .ops import HALF
from .out_of_memory import out_of_memory

if TYPE_CHECKING:
    from .liif import LIIF

Span = tuple[int, int]


class Tile(NamedTuple):
    """Spans of rows and columns, one pair for each resolution or map."""

    out: tuple[Span, Span]  # of the output image
    hidden: tuple[Span, Span]  # of the hidden map: every pixel that these outputs read
    inp: tuple[Span, Span]  # of the input: hidden's with the halo


def _axis_spans(n: int, out_n: int, tile: int, halo: int) -> list[tuple[Span, Span, Span]]:
    """Tile spans (out, hidden, inp) along one axis of n input and out_n output pixels."""
    spans = []
    count = max(1, math.ceil(n / tile))
    edges = [round(k * out_n / count) for k in range(count + 1)]
    centres = functional.make_coord([out_n], dtype=torch.float64, device="cpu")[:, 0]
    for start, stop in itertools.pairwise(edges):
        if start == stop:  # fewer output pixels than tiles
            continue
        ends = centres[[start, stop - 1]].float()
        index, _, _ = reference.corners(torch.stack([ends, ends], -1), (n, n))
        # float32 rounding of a centre may choose the neighbour: one pixel to spare
        hidden = max(0, int(index.min()) - 1), min(n, int(index.max()) + 2)
        spans.append(((start, stop), hidden, (max(0, hidden[0] - halo), min(n, hidden[1] + halo))))
    return spans


def plan(in_size: Span, out_size: Span, tile: int, halo: int) -> list[Tile]:
    """Tiles of about ``tile`` x ``tile`` input pixels, row by row; ``tile`` 0: one tile for the whole."""
    if not tile:
        whole = ((0, in_size[0]), (0, in_size[1]))
        return [Tile(((0, out_size[0]), (0, out_size[1])), whole, whole)]
    rows, cols = (_axis_spans(n, m, tile, halo) for n, m in zip(in_size, out_size, strict=True))
    return [Tile(*zip(r, c, strict=True)) for r in rows for c in cols]


def halo(model: LIIF) -> int | None:
    """Input pixels around a tile that its hidden map depends on; None: the encoder sees the whole image."""
    radius = getattr(model.encoder, "receptive_field", None)
    return None if radius is None else radius + int(model.feat_unfold)


def bytes_per_pixel(model: LIIF, itemsize: int = 4) -> int:
    """Estimated peak memory of encoding one input pixel and holding its hidden vector (widest convolution's input and
    output, three times over: torch's own buffers, residual branches; then the hidden map and a copy)."""
    convs = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    widest = max((m.in_channels + m.out_channels for m in convs), default=128)
    return itemsize * (3 * widest + 2 * max(model.hidden_width, 1))


def auto_tile(model: LIIF, device: torch.device, budget: int | None = None, itemsize: int = 4) -> int:
    """Side of the tiles (a multiple of 16, at least 32) with which an image is encoded fastest in ``budget`` bytes.

    Default budget: half of a GPU's free memory; on the CPU 512 MiB, beyond which a larger tile is hardly faster, or as
    much of a quarter of the machine's memory as makes a tile as wide as its border. A larger tile spends less on the
    border; on the CPU a smaller one may keep its activations in the heap (see ``heap``).
    """
    border = 2 * (halo(model) or 0)

    def side(bytes_: int, per_pixel: int) -> int:
        return max(32, (math.isqrt(max(1, bytes_ // per_pixel)) - border) // 16 * 16)

    def rate(tile: int, in_heap: bool) -> float:
        # pixels wanted among those encoded; 1.3 times as many in a time in the heap (measured, EDSR-baseline)
        return (1.3 if in_heap else 1.0) * (tile / (tile + border)) ** 2

    per_pixel = bytes_per_pixel(model, itemsize)
    if budget is None and device.type == "cuda":
        budget = torch.cuda.mem_get_info(device)[0] // 2
    largest = side(512 << 20 if budget is None else budget, per_pixel)
    if device.type != "cpu":
        return largest
    if budget is None and largest < border:
        largest = max(largest, min(border // 16 * 16, side(_memory() // 4, per_pixel)))
    convs = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    widest = max((max(m.in_channels, m.out_channels) for m in convs), default=1)
    small = min(largest, side(heap.LARGEST_BLOCK, itemsize * widest))
    return small if rate(small, True) > rate(largest, False) else largest


def _memory() -> int:
    """Bytes of the machine, or what most machines have."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def upscale(
    model: LIIF,
    image: Tensor,
    out: Tensor,
    *,
    tile: int,
    dtype: torch.dtype,
    progress: Callable[[float], None] | None = None,
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
    """
    if dtype == torch.float32:
        model = _in_float32(model)
    with heap.kept() if model.device is None or model.device.type == "cpu" else contextlib.nullcontext():
        return _upscale(model, image, out, tile, dtype, progress)


def _upscale(
    model: LIIF, image: Tensor, out: Tensor, tile: int, dtype: torch.dtype, progress: Callable[[float], None] | None
) -> Tensor:
    in_size, out_size = tuple(image.shape[-2:]), tuple(out.shape[-2:])
    border = halo(model) or 0
    pending = plan(in_size, out_size, tile, border)
    while pending:
        done = 0
        try:
            for t in pending:
                _upscale_tile(model, image, out, t, dtype, _scaled(progress, _area(t.out) / math.prod(out_size)))
                done += 1
            return out
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            pending = pending[done:]
            side = max(b - a for t in pending for a, b in t.hidden) // 2
            if side < 16 or model._why_no_tiles() is not None:
                raise
            warnings.warn(f"out of memory: trying again with tiles of {side} pixels", stacklevel=2)
        if model.device is not None and model.device.type == "cuda":
            torch.cuda.empty_cache()
        pending = list(_split(pending, in_size, out_size, side, border))
    return out


def _in_float32(model: LIIF) -> LIIF:
    """The model itself, or a copy if its weights are of half precision."""
    return copy.deepcopy(model).float() if any(p.dtype in HALF for p in model.parameters()) else model


def _split(pending: list[Tile], in_size: Span, out_size: Span, side: int, border: int) -> Iterator[Tile]:
    """The tiles of a finer plan that lie in what is still to do; parts may be done twice, none is left out."""
    for t in plan(in_size, out_size, side, border):
        if any(all(a < d and c < b for (a, b), (c, d) in zip(t.out, old.out, strict=True)) for old in pending):
            yield t


def _scaled(progress: Callable[[float], None] | None, share: float) -> Callable[[float], None] | None:
    return None if progress is None else lambda part: progress(part * share)


def _area(spans: tuple[Span, Span]) -> int:
    return (spans[0][1] - spans[0][0]) * (spans[1][1] - spans[1][0])


def _upscale_tile(
    model: LIIF,
    image: Tensor,
    out: Tensor,
    tile: Tile,
    dtype: torch.dtype,
    progress: Callable[[float], None] | None = None,
) -> None:
    colours = _tile_colours(model, image, out.shape[-2:], tile, dtype, progress)
    if not colours.isfinite().all() and dtype in HALF:
        warnings.warn(f"a result in {dtype} is not finite: computed again in float32", stacklevel=3)
        colours = _tile_colours(_in_float32(model), image, out.shape[-2:], tile, torch.float32)
    if not colours.isfinite().all():
        raise ValueError("the result is not finite in float32: the model's weights or the image are damaged")
    colours = colours.clamp_(0, 1)
    if out.shape[1] == 1:
        colours = colours.mean(1, keepdim=True)
    rows, cols = tile.out
    out[:, :, slice(*rows), slice(*cols)] = to_dtype(colours, out.dtype)


def _tile_colours(
    model: LIIF,
    image: Tensor,
    out_size: Span,
    tile: Tile,
    dtype: torch.dtype,
    progress: Callable[[float], None] | None = None,
) -> Tensor:
    """[B, 3, rows, cols], float32, not yet clamped to [0, 1], on the model's device."""
    device = model.device or image.device
    rows, cols = tile.inp
    x = normalised(model, image[:, :, slice(*rows), slice(*cols)].to(device))
    gt = {k: _channels(v, x) for k, v in model.data_norm["gt"].items()}
    origin = rows[0], cols[0]
    if model._own("render"):  # then the tile is the whole
        y = model.render(x, out_size, **({"dtype": dtype} if dtype in HALF else {}))
    else:
        y = model.render_part(x, image.shape[-2:], origin, tile.hidden, out_size, tile.out, dtype, progress)
    check_channels(y.shape[1])
    return y * gt["div"] + gt["sub"]


def check_channels(number: int) -> None:
    """ValueError unless a model puts out as many channels as an image has."""
    if number != 3:
        raise ValueError(f"this model puts out {number} channels, an image has 3: use render() for what is no image")


def normalised(model: LIIF, image: Tensor) -> Tensor:
    """An image [B, 3 or 1, H, W] of any dtype as the network's input: [B, 3, H, W] float32, channels last."""
    x = from_dtype(image).expand(-1, 3, -1, -1)
    inp = {k: _channels(v, x) for k, v in model.data_norm["inp"].items()}
    return ((x - inp["sub"]) / inp["div"]).contiguous(memory_format=torch.channels_last)


def _channels(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def from_dtype(image: Tensor) -> Tensor:
    """Integer images to float32 in [0, 1]; floating point as float32."""
    if image.is_floating_point():
        return image.float()
    return image.float() / torch.iinfo(image.dtype).max


def to_dtype(image: Tensor, dtype: torch.dtype) -> Tensor:
    """float32 in [0, 1] to ``dtype``: integers are rounded, half to even."""
    if dtype.is_floating_point:
        return image.to(dtype)
    return (image * torch.iinfo(dtype).max).round_().to(dtype)
