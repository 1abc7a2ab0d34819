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


def touched(plan: list[Tile], one: Tensor, other: Tensor) -> list[Tile]:
    """The tiles that depend on pixels in which two frames ``[B, C, H, W]`` differ."""
    if len(plan) > 1:
        return _touched(plan, _differing(one, other))
    (rows, cols) = plan[0].inp  # the quick way to the same, which a GPU waits for
    parts = (frame[:, :, slice(*rows), slice(*cols)] for frame in (one, other))
    return [] if torch.equal(*parts) else plan


def _differing(one: Tensor, other: Tensor) -> Tensor | None:
    """How many pixels that differ there are above and left of each corner of one: [H + 1, W + 1], on the CPU; None:
    none."""
    if torch.equal(one, other):
        return None
    changed = (one != other).flatten(0, 1).any(0).cpu()
    down = changed.cumsum(0, dtype=torch.int32)
    return torch.nn.functional.pad(down.cumsum(1, dtype=torch.int32), (1, 0, 1, 0))


def _touched(plan: list[Tile], count: Tensor | None) -> list[Tile]:
    if count is None:
        return []
    top, bottom, left, right = torch.tensor([(*rows, *cols) for *_, (rows, cols) in plan], device="cpu").unbind(1)
    inside = count[bottom, right] - count[top, right] - count[bottom, left] + count[top, left]
    return [tile for tile, n in zip(plan, inside.tolist(), strict=True) if n]


def cheapest(model: LIIF, plans: Sequence[list[Tile]], frames: Sequence[Tensor]) -> int:
    """With which of these plans frames, one after the other, are computed fastest; the first, of large tiles, unless
    another is much faster."""
    costs = [_cost(model, plan) / _FIRST for plan in plans]
    for one, other in itertools.pairwise(frames):
        if (one.shape, one.dtype, one.device) != (other.shape, other.dtype, other.device):
            break
        count = _differing(one, other)
        costs = [cost + _cost(model, _touched(plan, count)) for cost, plan in zip(costs, plans, strict=True)]
    least = min(costs)
    return costs.index(least) if least < _WORTH * costs[0] else 0


def _cost(model: LIIF, plan: Iterable[Tile]) -> float:
    """Multiplications, about: each weight of the encoder once for an input pixel (those of one that does not change the
    size), each of the MLP's hidden layers once for a corner of an output pixel."""
    encoder = sum(p.numel() for p in model.encoder.parameters())
    if (head := model.head()) is not None:
        per_query = 4 * sum(w.numel() for w in (*(w for w, _ in head.mlp), head.w_out))
    else:
        per_query = 0 if model.imnet is None else 4 * sum(p.numel() for p in model.imnet.parameters())
    return sum(_area(tile.inp) * encoder + _area(tile.out) * per_query for tile in plan)


def _area(spans: tuple[tuple[int, int], tuple[int, int]]) -> int:
    (top, bottom), (left, right) = spans
    return (bottom - top) * (right - left)
