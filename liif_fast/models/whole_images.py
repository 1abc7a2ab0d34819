"""Whole images and windows of them: what ``LIIF.render`` and ``LIIF.upscale`` do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..base.shown import shown
from ..head import sampling
from ..head.precision import HALF
from ..sizes import Target, checked_window
from . import overrides, parts, reduction, tile_size, tiles, values

if TYPE_CHECKING:
    from .liif import LIIF


def sampled(in_size: Sequence[int], size: Sequence[int], window: Sequence[float] | None) -> sampling.Sampling:
    """Where the pixels of a result of ``size`` lie in an image of ``in_size``: in ``window`` of it, or in all."""
    return sampling.of(size) if window is None else sampling.window(in_size, size, checked_window(window))


def render(
    model: LIIF,
    inp: Tensor,
    pixels: sampling.Sampling,
    dtype: torch.dtype | None,
    encoder: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """``LIIF.render`` at these pixels; of a window only what it depends on is encoded, where that is known.

    Args:
        encoder: as of ``parts.encode_part``.
    """
    in_size = inp.shape[-2:]
    whole = torch.compiler.is_compiling() or all(axis.plain for axis in pixels)
    whole = whole or tile_size.why_none(model) is not None
    grid = tiles.Grid((in_size[0], in_size[1]), pixels, tile_size.halo(model) or 0, model.pad_to)
    (tile,) = grid.tiles(0 if whole else max(1 << 62, *in_size))
    (top, bottom), (left, right) = tile.inp
    part = inp if whole else inp[:, :, top:bottom, left:right]
    hidden = None if whole else tile.hidden

    def rendered(images: Tensor) -> Tensor:
        return model.encode_part(images, in_size, (top, left), hidden, pixels, dtype, encoder=encoder)(tile.out)

    step = inp.shape[0]
    if not torch.compiler.is_compiling() and step > 1:
        step = tile_size.together(model, part.shape[-2] * part.shape[-1], inp.device)
    if step >= inp.shape[0]:
        return rendered(part)
    first = rendered(part[:step])
    out = first.new_empty(len(inp), *first.shape[1:])
    out[:step] = first
    del first
    for start in range(step, len(inp), step):
        out[start : start + step] = rendered(part[start : start + step])
    return out


@parts.no_gradients
def upscale(
    model: LIIF,
    image: Tensor,
    target: Target,
    tile: int | str,
    dtype: torch.dtype | None,
    progress: Callable[[float], None] | None,
) -> Tensor:
    """[B, 3 or 1, H, W] -> [B, 3 or 1, OH, OW] of the same dtype; see ``LIIF.upscale``."""
    pixels = sampled(image.shape[-2:], target.result_size(image.shape[-2:]), target.window)
    device = model.device or image.device
    dtype = chosen_dtype(model, dtype, device)
    if not model._own(*overrides.COLOURS, "render"):  # those are asked later
        values.check_channels(model._out_dim())
    compiling = torch.compiler.is_compiling()
    if compiling:
        _check_for_graph(tile, progress)
    side = 0 if compiling else tile_size.chosen(model, tile, device, image.shape[-2:])
    layout = torch.channels_last if image.stride(1) == 1 else torch.contiguous_format
    shape = (*image.shape[:2], *(axis.count for axis in pixels))
    out = torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=layout)
    if not image.shape[0]:
        return out
    if not (target.point or target.enlarges):
        image = reduction.reduced(image, pixels, target.alpha)
    if compiling:
        return tiles.at_once(model, image, out, pixels, dtype)
    return tiles.upscale(model, image, out, tile=side, dtype=dtype, progress=progress, pixels=pixels)


def _check_for_graph(tile: int | str, progress: Callable[[float], None] | None) -> None:
    """ValueError for what ``upscale`` cannot do in a graph of torch.compile or torch.export."""
    if tile not in ("auto", 0):
        raise ValueError(f"tile: a graph has the whole image at once, so 'auto' or 0 is wanted, got {shown(tile)}")
    if progress is not None:
        raise ValueError("progress: a graph cannot call it: give none, or call upscale without compiling it")


def chosen_dtype(model: LIIF, dtype: torch.dtype | None, device: torch.device) -> torch.dtype:
    """Of the computation; ValueError unless a LIIF computes in it (int8 is a model of its own)."""
    if dtype is None:
        own = next((p.dtype for p in model.parameters()), torch.float32)
        dtype = model._precision(device) or (own if own in HALF else torch.float32)
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"dtype: torch.float32, bfloat16, float16 or int8 is wanted, got {dtype}")
    return dtype
