"""Arguments of the operators, and what they must give: in float64, from the reference."""

from __future__ import annotations

import torch

from liif_fast import reference
from liif_fast.head import precision


def sample(shape, dtype=torch.float32, cell=True, ensemble=True, strided=False):
    """(gather arguments, render arguments)"""
    B, (h, w), D, Q, L, out = shape
    geometry = precision.geometry_dtype(dtype)
    hidden = torch.randn(B, h, w, D).to(dtype)
    coord = torch.rand(B, Q, 2, dtype=geometry) * 2 - 1
    if strided:
        hidden = torch.randn(B, D, w, h).to(dtype).permute(0, 3, 2, 1)
        coord = (torch.rand(2, Q, B, dtype=geometry) * 2 - 1).permute(2, 1, 0)
    c = torch.rand(B, Q, 2, dtype=geometry) if cell else None
    w_pos = torch.randn(D, 4, dtype=geometry)
    mlp = [torch.randn(*s, dtype=geometry) / D**0.5 for s in ((L, D, D), (L, D), (out, D), (out,))]
    return (hidden, coord, c, w_pos, (h, w), (0, 0), ensemble), (
        hidden,
        coord,
        c,
        w_pos,
        *mlp,
        (h, w),
        (0, 0),
        ensemble,
    )


def expected_gather(hidden, coord, cell, w_pos, size, origin, ensemble):
    index, rel, weight = reference.corners(coord, size, ensemble)
    b = torch.arange(hidden.shape[0]).view(-1, 1, 1)
    rows = hidden[b, index[..., 0] - origin[0], index[..., 1] - origin[1]].to(w_pos.dtype)
    h = rows + rel @ w_pos[:, :2].T
    if cell is not None:
        h = h + ((cell * torch.tensor(size)) @ w_pos[:, 2:].T).unsqueeze(-2)
    return h.relu().to(hidden.dtype), weight


def expected_render(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble):
    h, weight = expected_gather(hidden, coord, cell, w_pos, size, origin, ensemble)
    for w, b in zip(w_mlp, b_mlp, strict=True):
        h = (h.to(w.dtype) @ w.T + b).relu()
    return ((h.to(w_out.dtype) @ w_out.T + b_out) * weight.unsqueeze(-1)).sum(-2)
