"""Queries of LTE's head (``fourier``): with gradients, and for inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import differentiable, transforms
from .fourier import LANES, FourierHead, features
from .ops import CPU_KERNELS
from .precision import as_geometry, geometry_dtype


def uniform(hidden: Tensor, head: FourierHead) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """hidden, w_phase, w_mlp [L, D, D], b_mlp [L, D], w_out, all of the widest layer's D: zeros in what is added change
    no sum."""
    widest = max([2 * head.w_phase.shape[0], *(b.shape[0] for _, b in head.mlp)])
    some = -(-widest // (2 * LANES)) * LANES - head.w_phase.shape[0]
    layers, w_phase = [*head.mlp, (head.w_out, head.b_out)], head.w_phase.to(geometry_dtype(hidden.dtype))
    if some:  # behind each part of what the first layer gives
        hidden = F.pad(hidden.unflatten(-1, (4, -1)), (0, some)).flatten(-2)
        w_phase = F.pad(w_phase, (0, 0, 0, some))
        layers[0] = F.pad(layers[0][0].unflatten(1, (2, -1)), (0, some)).flatten(1), layers[0][1]
    D = 2 * len(w_phase)
    w_mlp, b_mlp = head.w_out.new_empty(0, D, D), head.w_out.new_empty(0, D)
    if head.mlp:
        w_mlp = torch.stack([F.pad(w, (0, D - w.shape[1], 0, D - w.shape[0])) for w, _ in layers[:-1]])
        b_mlp = torch.stack([F.pad(b, (0, D - b.shape[0])) for _, b in layers[:-1]])
    return hidden, w_phase, w_mlp, b_mlp, F.pad(layers[-1][0], (0, D - layers[-1][0].shape[1]))


def cell_of_all(head: FourierHead, coord: Tensor, size: Sequence[int]) -> Tensor | None:
    """The head's one cell as a tensor like coord, in its units."""
    if head.cell is None:
        return None
    # filled, not copied from the host, which a CUDA graph cannot record
    sides = [
        torch.full((), c / n, device=coord.device, dtype=coord.dtype) for c, n in zip(head.cell, size, strict=True)
    ]
    return torch.stack(sides).expand_as(coord)


def query(
    hidden: Tensor,
    head: FourierHead,
    coord: Tensor,
    cell: Tensor | None,
    size: Sequence[int],
    origin: Sequence[int],
    ensemble: bool,
) -> Tensor:
    """``functional.query`` for this head: of whole maps on a CPU by one operator, else in steps on the raw gather."""
    coord, cell = as_geometry(hidden, coord, cell)
    cell = cell_of_all(head, coord, size) if cell is None else cell
    moved = any(t is not None and t.requires_grad for t in (coord, cell)) and torch.is_grad_enabled()
    whole = tuple(size) == tuple(hidden.shape[1:3])  # the operator knows of no part
    if hidden.device.type == "cpu" and CPU_KERNELS and whole and not moved and not transforms.active():
        hidden, w_phase, w_mlp, b_mlp, w_out = uniform(hidden, head)
        return torch.ops.liif_fast.decode_fourier(
            hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, head.b_out, ensemble
        )
    gathered = differentiable.gather_corners if transforms.active() else torch.ops.liif_fast.gather_corners
    rows, rel, weight = gathered(hidden, coord, size, origin, ensemble)
    with torch.autocast(hidden.device.type, enabled=False):  # geometry is never in half precision
        if cell is not None:
            cell = torch.stack([cell[..., 0] * size[0], cell[..., 1] * size[1]], -1).unsqueeze(-2)
        h = features(rows, rel, cell, head.w_phase.to(coord.dtype))
    return differentiable.colours(h.to(hidden.dtype), weight, head)


def renderer(
    hidden: Tensor, head: FourierHead, size: Sequence[int], origin: Sequence[int], ensemble: bool
) -> Callable[..., Tensor]:
    """``functional.renderer`` for this head: (coord, cell=None) -> colours. No gradient."""
    if transforms.active():
        cast = [(w.to(hidden.dtype), b.to(hidden.dtype)) for w, b in (*head.mlp, (head.w_out, head.b_out))]
        like = head._replace(mlp=tuple(cast[:-1]), w_out=cast[-1][0], b_out=cast[-1][1])
        return lambda coord, cell=None: query(hidden, like, coord, cell, size, origin, ensemble)
    hidden, w_phase, w_mlp, b_mlp, w_out = uniform(hidden, head)

    def colours(coord: Tensor, cell: Tensor | None = None) -> Tensor:
        coord, cell = as_geometry(hidden, coord, cell)
        cell = cell_of_all(head, coord, size) if cell is None else cell
        return torch.ops.liif_fast.render_fourier(
            hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, head.b_out, size, origin, ensemble
        )

    return colours
