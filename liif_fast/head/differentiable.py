"""The head in PyTorch's own operations, of which each has every kind of derivative: see ``transforms``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from . import reference
from .precision import as_geometry

if TYPE_CHECKING:
    from .fourier import FourierHead
    from .functional import Head


def query(
    hidden: Tensor,
    head: Head,
    coord: Tensor,
    cell: Tensor | None,
    size: Sequence[int],
    origin: Sequence[int],
    ensemble: bool,
) -> Tensor:
    """``functional.query``; arguments as of ``functional.render``: ``[B, h, w, D], [B, Q, 2] -> [B, Q, O]``."""
    coord, cell = as_geometry(hidden, coord, cell)
    w_pos = head.w_pos.to(coord.dtype)
    rows, pos, weight = gather_corners(hidden, coord, size, origin, ensemble)
    if cell is not None:
        scaled = torch.stack([cell[..., 0] * size[0], cell[..., 1] * size[1]], -1)
        pos = torch.cat([pos, scaled.unsqueeze(-2).expand_as(pos)], -1)
    with torch.autocast(hidden.device.type, enabled=False):  # geometry is never in half precision
        h = rows.to(w_pos.dtype) + pos @ w_pos[:, : pos.shape[-1]].t()
    return colours(h.relu().to(hidden.dtype), weight, head)


def gather_corners(
    hidden: Tensor, coord: Tensor, size: Sequence[int], origin: Sequence[int], ensemble: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The operator of that name, for coord in the geometry's dtype: rows [B, Q, K, D], rel and weight."""
    index, rel, weight = reference.corners(coord, size, ensemble)
    number = (index[..., 0] - origin[0]) * hidden.shape[2] + (index[..., 1] - origin[1])  # [B, Q, K]
    rows = hidden.flatten(1, 2).gather(1, number.flatten(1).unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
    return rows.unflatten(1, number.shape[1:]), rel, weight


def colours(h: Tensor, weight: Tensor, head: Head | FourierHead) -> Tensor:
    """[B, Q, K, D], [B, Q, K] -> [B, Q, O]: hidden layers, output layer, blend."""
    for w, b in head.mlp:
        h = F.relu(F.linear(h, w, b))
    # The output layer before the blend: [B, Q, K, O] is small, a blend of [B, Q, K, D] in float32 is not.
    out = F.linear(h, head.w_out, head.b_out).to(weight.dtype)
    return (out * weight.unsqueeze(-1)).sum(-2)
