"""The instruction sets that the compiled library can be forced to use here, and samples for the operators."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import liif_fast  # noqa: F401 - loads the library
from liif_fast import reference
from liif_fast.head import ops, precision

COMPILED = hasattr(torch.ops.liif_fast, "cpu_info")
WHY = "the compiled library is not loaded: `liif-fast doctor` says why"


info = ops.cpu_kernels
# those of the processor, and those in plain C++ that stand in for what it may lack (a released wheel has none)
PATHS = [name for key in ("available", "on_request") for name in info()[key].split(",") if name] if COMPILED else []


@contextlib.contextmanager
def forced(path: str) -> Iterator[None]:
    """One instruction set; afterwards what LIIF_FAST_CPU asks for, as at the start."""
    torch.ops.liif_fast.cpu_use(path)
    try:
        yield
    finally:
        asked = os.environ.get("LIIF_FAST_CPU")
        torch.ops.liif_fast.cpu_use(asked if asked in PATHS else "auto")


class Sample(NamedTuple):
    """Arguments of render; gather() are those of corner_gather."""

    hidden: Tensor
    coord: Tensor
    cell: Tensor | None
    w_pos: Tensor
    w_mlp: Tensor
    b_mlp: Tensor
    w_out: Tensor
    b_out: Tensor
    size: tuple[int, int]
    origin: tuple[int, int]
    ensemble: bool

    def gather(self):
        return *self[:4], *self[-3:]


def sample(dtype=torch.float32, *, B=2, h=5, w=7, D=16, Q=37, L=3, out=3, cell=True, ensemble=True) -> Sample:
    """Random numbers of about unit size in every layer."""
    geometry = precision.geometry_dtype(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return Sample(
        torch.randn(B, h, w, D).to(dtype),
        torch.rand(B, Q, 2, dtype=geometry) * 2 - 1,
        torch.rand(B, Q, 2, dtype=geometry) * 0.3 if cell else None,
        torch.randn(D, 4, dtype=geometry),
        (torch.randn(L, D, D) * (2 / D) ** 0.5).to(wide),
        (torch.randn(L, D) * 0.1).to(wide),
        (torch.randn(out, D) / D**0.5).to(wide),
        torch.randn(out).to(wide),
        (h, w),
        (0, 0),
        ensemble,
    )


def exact(s: Sample) -> Tensor:
    """render in float64 after the geometry, which is float32's own."""
    index, rel, weight = reference.corners(s.coord, s.size, s.ensemble)
    rows = torch.arange(len(s.coord)).view(-1, 1, 1), index[..., 0] - s.origin[0], index[..., 1] - s.origin[1]
    x = s.hidden[rows].double() + rel.double() @ s.w_pos[:, :2].double().T
    if s.cell is not None:
        cell = torch.stack([s.cell[..., 0] * s.size[0], s.cell[..., 1] * s.size[1]], -1)
        x = x + (cell.double() @ s.w_pos[:, 2:].double().T).unsqueeze(-2)
    x = x.relu()
    for w, b in zip(s.w_mlp.double(), s.b_mlp.double(), strict=True):
        x = (x @ w.T + b).relu()
    x = (x * weight.double().unsqueeze(-1)).sum(-2)
    return x @ s.w_out.double().T + s.b_out.double()
