"""How large tiles are: what an encoder sees beyond them, what they cost, and what memory allows."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..base.shown import shown
from . import heap, overrides

if TYPE_CHECKING:
    from .liif import LIIF

# pixels of a batch's images that are encoded at a time, if one has fewer
TOGETHER_CPU, TOGETHER = 1 << 14, 1 << 17
SMALLEST = 32, 64  # input pixels: least sides of tiles, of encoders that see little and of those that see far


def halo(model: LIIF) -> int | None:
    """Input pixels around a tile that its hidden map depends on; None: the encoder sees the whole image."""
    radius = getattr(model.encoder, "receptive_field", None)
    return None if radius is None else radius + model.reach


def smallest(model: LIIF) -> int:
    """The least side of a tile that is worth its border: with EDSR-baseline's, 32 would cost ten times its pixels."""
    least, most = SMALLEST
    return max(least, min(most, 2 * (halo(model) or 0) // 16 * 16))


def chosen(model: LIIF, tile: int | str, device: torch.device, in_size: Sequence[int] = ()) -> int:
    """The side of the tiles for the argument ``tile`` of ``LIIF.upscale``, of images of ``in_size``; 0: none.

    Raises:
        ValueError: neither "auto" nor a whole number from 0, or tiles that would not be exact.
    """
    why = why_none(model)
    if tile == "auto":
        side = 0 if why else auto_tile(model, device)
        # what has no more pixels than a tile with its border is best encoded whole, whatever its shape
        fits = len(in_size) > 0 and math.prod(in_size) <= (side + 2 * (halo(model) or 0)) ** 2
        return max(side, *in_size) if side and fits else side
    if isinstance(tile, bool) or not isinstance(tile, numbers.Integral) or tile < 0:
        raise ValueError(f"tile: 'auto', 0 or a positive number of pixels is wanted, got {shown(tile)}")
    if tile and why:
        raise ValueError(f"tile: {why}, so there are no exact tiles; use tile=0")
    return max(int(tile), smallest(model)) if tile else 0


def why_none(model: LIIF) -> str | None:
    """Why a model has no exact tiles; None: it has."""
    if own := model._own(*overrides.COLOURS, "render"):
        return overrides.described(model, own)
    if halo(model) is None:
        return f"{type(model.encoder).__name__} sees the whole image (its receptive_field is unbounded or not given)"
    return None if model.head() is not None else "this model's imnet is not liif_fast's own MLP and does not fold"


def bytes_per_pixel(model: LIIF, itemsize: int = 4) -> int:
    """Estimated peak memory of encoding one input pixel and holding its hidden vector (widest convolution's input and
    output, three times over: torch's own buffers, residual branches; then the hidden map and a copy)."""
    convs = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    widest = max((m.in_channels + m.out_channels for m in convs), default=128)
    return itemsize * (3 * widest + 2 * max(model.hidden_width, 1))


def auto_tile(model: LIIF, device: torch.device, budget: int | None = None, itemsize: int = 4) -> int:
    """Side of the tiles (a multiple of 16, at least 32) with which an image is encoded fastest in ``budget`` bytes.

    Default budget: half of a GPU's free memory, with what torch holds of it and does not use; on the CPU 512 MiB,
    beyond which a larger tile is hardly faster, or as much of a quarter of the machine's memory as makes a tile as wide
    as its border. A larger tile spends less on the border; on the CPU a smaller one may keep its activations in the
    heap (see ``heap``).
    """
    border = 2 * (halo(model) or 0)

    def side(bytes_: int, per_pixel: int) -> int:
        return max(32, (math.isqrt(max(1, bytes_ // per_pixel)) - border) // 16 * 16)

    def rate(tile: int, in_heap: bool) -> float:
        # pixels wanted among those encoded; 1.3 times as many in a time in the heap (measured, EDSR-baseline)
        return (1.3 if in_heap else 1.0) * (tile / (tile + border)) ** 2

    per_pixel = bytes_per_pixel(model, itemsize)
    if budget is None and device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = (torch.cuda.mem_get_info(device)[0] + kept) // 2
    largest = side(512 << 20 if budget is None else budget, per_pixel)
    if device.type != "cpu":
        return largest
    if budget is None and largest < border:
        largest = max(largest, min(border // 16 * 16, side(_memory() // 4, per_pixel)))
    convs = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    widest = max((max(m.in_channels, m.out_channels) for m in convs), default=1)
    small = min(largest, side(heap.LARGEST_BLOCK, itemsize * widest))
    return small if rate(small, True) > rate(largest, False) else largest


def together(model: LIIF, pixels: int, device: torch.device) -> int:
    """How many images of a batch, each of so many pixels, are encoded at a time: one, so that a batch needs no more
    memory than an image; several where they are so small that one would leave processors idle."""
    budget = (auto_tile(model, device) + 2 * (halo(model) or 0)) ** 2
    return max(1, min(TOGETHER if device.type != "cpu" else TOGETHER_CPU, budget) // max(1, pixels))


def _memory() -> int:
    """Bytes of the machine, or what most machines have."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 << 30
