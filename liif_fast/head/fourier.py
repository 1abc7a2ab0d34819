"""LTE's head as functions: a feature pixel's coefficients and frequencies make what the MLP of a corner reads.

Lee, Jin: "Local Texture Estimator for Implicit Representation Function", CVPR 2022 (arXiv:2111.08918), equation 5:
``f(A_p * [cos(pi * (F_p . rel + phase(cell))), sin(pi * (F_p . rel + phase(cell)))])``. Coefficients A and
frequencies F are convolutions of the features, so they are computed once per feature pixel, as one map; hidden layers,
output layer and blend are LIIF's.

Sizes as in ``functional``; D = 2 F channels of the MLP's input, a multiple of 64. A row of the map has 4 F channels:
coefficients of the cosines, coefficients of the sines, frequencies along y, frequencies along x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import differentiable, transforms
from .precision import as_geometry, geometry_dtype

LANES = 32  # F is a multiple of it


class FourierHead(NamedTuple):
    """What ``functional.Head`` is for LIIF: the convolutions of the map and the layers of the MLP, all of its first
    layer among ``mlp``."""

    w_conv: Tensor  # [4 F, C, 3, 3]
    b_conv: Tensor  # [4 F]
    w_phase: Tensor  # [F, 2]: cell_y, cell_x
    mlp: tuple[tuple[Tensor, Tensor], ...]  # L x ([D', D], [D'])
    w_out: Tensor  # [O, D]
    b_out: Tensor  # [O]
    cell: tuple[float, float] | None = None  # of all queries, as ``functional.with_cell`` takes it


def fold(
    coefficients: tuple[Tensor, Tensor],
    frequencies: tuple[Tensor, Tensor],
    w_phase: Tensor,
    layers: Sequence[tuple[Tensor, Tensor]],
) -> FourierHead:
    """A head of LTE's layers, padded with zeros to as many frequencies as the operators take.

    Args:
        coefficients: weight ``[2 F, C, 3, 3]`` and bias ``[2 F]`` of the convolution; F of cosines, then F of sines.
        frequencies: likewise; F along y, then F along x.
        w_phase: ``[F, 2]``.
        layers: weight and bias of every linear layer of the MLP; the first takes 2 F inputs.

    A coefficient of zero, and an input whose weights are zero, change no sum. Differentiable.
    """
    (w_first, b_first), *rest = layers
    some = -w_phase.shape[0] % LANES

    def padded(t: Tensor, dim: int = 0) -> Tensor:
        """Two parts along dim, zeros behind each."""
        t = t.unflatten(dim, (2, -1))
        return F.pad(t, [0, 0] * (t.ndim - 2 - dim) + [0, some]).flatten(dim, dim + 1)

    weights = [(w_first, b_first), *rest]
    if some:
        coefficients, frequencies = ((padded(w), padded(b)) for w, b in (coefficients, frequencies))
        w_phase, weights[0] = F.pad(w_phase, (0, 0, 0, some)), (padded(w_first, 1), b_first)
    w_conv, b_conv = (torch.cat(pair) for pair in zip(coefficients, frequencies, strict=True))
    return FourierHead(w_conv, b_conv, w_phase, tuple(weights[:-1]), *weights[-1])


def widened(hidden: Tensor, head: FourierHead) -> tuple[Tensor, FourierHead]:
    """Map and head of as many channels as the MLP's widest layer, with zeros."""
    frequencies, widest = head.w_phase.shape[0], max([0, *(b.shape[0] for _, b in head.mlp)])
    some = max(0, -(-widest // (2 * LANES)) * LANES - frequencies)
    if not some:
        return hidden, head
    (w, b), *rest = [*head.mlp, (head.w_out, head.b_out)]
    w = F.pad(w.unflatten(1, (2, -1)), (0, some)).flatten(1)
    layers = [(w, b), *rest]
    hidden = F.pad(hidden.unflatten(-1, (4, -1)), (0, some)).flatten(-2)
    phase = F.pad(head.w_phase, (0, 0, 0, some))
    return hidden, head._replace(w_phase=phase, mlp=tuple(layers[:-1]), w_out=layers[-1][0])


def check(hidden: Tensor, w_phase: Tensor, w_out: Tensor) -> None:
    """RuntimeError unless the arguments of ``render_fourier`` have the channels of one number of frequencies."""
    frequencies, channels = w_phase.shape[0], hidden.shape[-1]
    if frequencies % LANES or channels != 4 * frequencies or w_out.shape[-1] != 2 * frequencies:
        raise RuntimeError(
            f"liif_fast: hidden [B, h, w, 4 F], w_phase [F, 2] and w_out [O, 2 F] with F a multiple of {LANES} are "
            f"wanted, got {channels} channels, w_phase {list(w_phase.shape)} and w_out {list(w_out.shape)}"
        )


def features(rows: Tensor, rel: Tensor, cell: Tensor | None, w_phase: Tensor) -> Tensor:
    """What the MLP reads of gathered rows: ``[..., 4 F] -> [..., 2 F]``, in the precision of the geometry.

    Args:
        rel: ``[..., 2]`` in feature pixels; cell: likewise, or None for no phase.
    """
    coef_cos, coef_sin, along_y, along_x = rows.to(w_phase.dtype).unflatten(-1, (4, -1)).unbind(-2)
    angle = along_y * rel[..., :1] + along_x * rel[..., 1:]
    if cell is not None:
        angle = angle + cell @ w_phase.t()
    angle = angle * math.pi
    return torch.cat([coef_cos * angle.cos(), coef_sin * angle.sin()], -1)


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
    """``functional.query`` for this head, in differentiable steps around the raw gather."""
    coord, cell = as_geometry(hidden, coord, cell)
    cell = cell_of_all(head, coord, size) if cell is None else cell
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
    hidden, head = widened(hidden, head)
    D = hidden.shape[-1] // 2
    w_mlp, b_mlp = head.w_out.new_empty(0, D, D), head.w_out.new_empty(0, D)
    if head.mlp:
        w_mlp = torch.stack([F.pad(w, (0, D - w.shape[1], 0, D - w.shape[0])) for w, _ in head.mlp])
        b_mlp = torch.stack([F.pad(b, (0, D - b.shape[0])) for _, b in head.mlp])
    w_phase = head.w_phase.to(geometry_dtype(hidden.dtype))
    w_out = F.pad(head.w_out, (0, D - head.w_out.shape[1]))

    def colours(coord: Tensor, cell: Tensor | None = None) -> Tensor:
        coord, cell = as_geometry(hidden, coord, cell)
        cell = cell_of_all(head, coord, size) if cell is None else cell
        return torch.ops.liif_fast.render_fourier(
            hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, head.b_out, size, origin, ensemble
        )

    return colours
