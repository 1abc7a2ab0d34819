"""A model of grids of queries, as LTE's ``lte-fast`` is one, made of a LIIF: what rows of queries give, as an image."""

from __future__ import annotations

from typing import Any

import torch
import training_files as files
from torch import Tensor, nn

import liif_fast
from liif_fast import registry


def weights() -> liif_fast.LIIF:
    """A small LIIF whose colours depend on the cell and on the border visibly; always the same."""
    torch.manual_seed(11)
    model = liif_fast.make(files.TINY_LIIF)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.mul_(2 if name.startswith("imnet") else 1.3)
    return model


class Grids(nn.Module):
    """``[B, h, w, 2], [B, 2] -> [B, 3, h, w]``, and rows as LIIF takes them.

    Args:
        split: say by ``grid_queries`` that each query is answered by itself.
    """

    def __init__(self, rows: nn.Module | None = None, split: bool = True, **args: Any) -> None:
        super().__init__()
        self.rows = liif_fast.make(files.TINY_LIIF) if rows is None else rows
        self.args = args
        if split:
            self.grid_queries = True
        self.asked: list[list[int]] = []

    def gen_feat(self, inp: Tensor) -> Tensor:
        return self.rows.gen_feat(inp)

    def query_rgb(self, coord: Tensor, cell: Tensor) -> Tensor:
        self.asked.append([*coord.shape])
        if coord.ndim == 3:
            return self.rows.query_rgb(coord, cell)
        size = coord.shape[1:3]
        each = cell[:, None].expand(len(cell), size.numel(), 2)
        return self.rows.query_rgb(coord.flatten(1, 2), each).transpose(1, 2).unflatten(2, size)

    def forward(self, inp: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        self.gen_feat(inp)
        return self.query_rgb(coord, cell)


def known(monkeypatch: Any) -> None:
    """The names that LTE's files use are registered: stand-ins for those that are not."""

    def encoder(no_upsampling: bool = True) -> nn.Module:
        return liif_fast.make(files.TINY_LIIF["args"]["encoder_spec"])

    for name, factory in {"swinir": encoder, "lte": Grids, "lte-fast": Grids}.items():
        if name not in registry.names():
            monkeypatch.setitem(registry._MODELS, name, factory)
