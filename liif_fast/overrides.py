"""Rendering by a model's own methods: a subclass, or an instance, with a ``query_rgb`` of its own is asked by that."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from . import functional

if TYPE_CHECKING:
    from .liif import LIIF

COLOURS = ("gen_feat", "query_rgb", "query", "forward")  # what decides the colours
_BLOCK = 1 << 16  # queries at a time


def own(model: nn.Module, base: type, names: Sequence[str]) -> list[str]:
    """Those of base's methods that a subclass or the instance itself has replaced."""
    kind, instance = type(model), vars(model)
    return [name for name in names if name in instance or getattr(kind, name) is not getattr(base, name)]


def described(model: nn.Module, names: Sequence[str]) -> str:
    """For messages."""
    return f"{type(model).__name__} has a {', '.join(names)} of its own"


def render(
    model: LIIF,
    inp: Tensor,
    size: Sequence[int],
    rows: tuple[int, int],
    cols: tuple[int, int],
    precision: contextlib.AbstractContextManager,
    whole: bool,
) -> Tensor:
    """The pixels rows x cols of the image at ``size`` by the model's methods: ``[B, 3, H, W] -> [B, O, rows, cols]``.

    Args:
        precision: autocast, or nothing.
        whole: by ``forward``, all coordinates at once, since each call encodes; else by ``gen_feat`` and ``query_rgb``.
    """
    kept = model.feat, model._hidden
    width = cols[1] - cols[0]
    block = max(1, (rows[1] - rows[0]) * width) if whole else _BLOCK
    cell = torch.tensor([2 / n for n in size], dtype=torch.float32, device=inp.device)
    try:
        with precision:
            if not whole:
                model.gen_feat(inp)
            parts = []
            for _, coord in functional.grid_blocks(size, rows, cols, block, inp.device, torch.float32):
                at = coord.expand(len(inp), -1, -1)
                given = at, cell.expand_as(at)
                parts.append(_image(model, model.forward(inp, *given) if whole else model.query_rgb(*given), at, width))
        return torch.cat(parts, 2)
    finally:
        model.feat, model._hidden = kept  # as ``render`` leaves them


def _image(model: LIIF, colours: Tensor, coord: Tensor, width: int) -> Tensor:
    """[B, n * width, O] -> [B, O, n, width]"""
    if not isinstance(colours, Tensor) or colours.ndim != 3 or colours.shape[:2] != coord.shape[:2]:
        got = list(colours.shape) if isinstance(colours, Tensor) else type(colours).__name__
        raise ValueError(
            f"{type(model).__name__}: colours {[*coord.shape[:2], 'O']} are wanted from its own methods, got {got}"
        )
    colours = colours.to(functional.geometry_dtype(colours.dtype))
    return colours.transpose(1, 2).unflatten(-1, (-1, width))
