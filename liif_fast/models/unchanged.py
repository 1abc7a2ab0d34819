"""Which tiles of a frame depend on pixels that differ from those of the frame before, and what computing them costs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .tiles import Tile

if TYPE_CHECKING:
    from .liif import LIIF

_WORTH = 0.8  # of the time with large tiles: what small ones must save, since costs are estimates
_FIRST = 30  # frames over which that of the first one, all of whose tiles are computed, is spread


def differing(one: Tensor, other: Tensor) -> Tensor | None:
    """Which pixels of two frames ``[B, C, H, W]`` are not the same bits: ``[H, W]``, on the CPU; None: none."""
    if torch.equal(one, other):
        return None
    return (one != other).flatten(0, 1).any(0).cpu()


def touched(plan: Iterable[Tile], changed: Tensor | None) -> list[Tile]:
    """The tiles that depend on one of these pixels."""
    if changed is None:
        return []
    # how many there are above and left of each pixel
    count = torch.nn.functional.pad(changed.cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32), (1, 0, 1, 0))

    def inside(tile: Tile) -> bool:
        (top, bottom), (left, right) = tile.inp
        return bool(count[bottom, right] - count[top, right] - count[bottom, left] + count[top, left])

    return [tile for tile in plan if inside(tile)]


def cheapest(model: LIIF, plans: Sequence[list[Tile]], frames: Sequence[Tensor]) -> int:
    """With which of these plans frames, one after the other, are computed fastest; the first, of large tiles, unless
    another is much faster."""
    costs = [_cost(model, plan) / _FIRST for plan in plans]
    for one, other in itertools.pairwise(frames):
        if (one.shape, one.dtype, one.device) != (other.shape, other.dtype, other.device):
            break
        changed = differing(one, other)
        costs = [cost + _cost(model, touched(plan, changed)) for cost, plan in zip(costs, plans, strict=True)]
    least = min(costs)
    return costs.index(least) if least < _WORTH * costs[0] else 0


def _cost(model: LIIF, plan: Iterable[Tile]) -> float:
    """Multiplications, about: each weight of the encoder once for an input pixel (those of one that does not change the
    size), each of the MLP's hidden layers once for a corner of an output pixel."""
    encoder = sum(p.numel() for p in model.encoder.parameters())
    imnet = 0 if model.imnet is None else sum(p.numel() for p in model.imnet.parameters())
    per_query = 4 * max(0, imnet - model._in_dim() * model.hidden_width)  # the first layer runs in the hidden map
    return sum(_area(tile.inp) * encoder + _area(tile.out) * per_query for tile in plan)


def _area(spans: tuple[tuple[int, int], tuple[int, int]]) -> int:
    (top, bottom), (left, right) = spans
    return (bottom - top) * (right - left)
