"""Queries of a LIIF module, and its answers by the official computation."""

from __future__ import annotations

import torch

import liif_fast
from liif_fast import reference


def queries(B, Q, dtype=torch.float32):
    return torch.rand(B, Q, 2, dtype=dtype) * 2 - 1, torch.rand(B, Q, 2, dtype=dtype) / 8


def grid_of(size: tuple[int, int], batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    coord = liif_fast.make_coord(size).expand(batch, -1, -1)
    return coord, torch.tensor([2 / size[0], 2 / size[1]]).expand_as(coord)


def by_reference(model, inp, coord, cell):
    """The official computation with the model's own parts."""
    feat = model.encoder(inp)
    cell = cell if model.cell_decode else None
    flags = {"local_ensemble": model.local_ensemble, "feat_unfold": model.feat_unfold}
    return reference.liif(feat, coord.to(feat.dtype), cell, model.imnet, **flags)
