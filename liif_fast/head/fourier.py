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
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

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


def check(hidden: Tensor, w_phase: Tensor, w_out: Tensor) -> None:
    """RuntimeError unless the arguments of ``render_fourier`` have the channels of one number of frequencies."""
    frequencies, channels = w_phase.shape[0], hidden.shape[-1]
    fits = channels == 4 * frequencies and w_phase.shape[1:] == (2,) and w_out.shape[-1] == 2 * frequencies
    if frequencies % LANES or not fits:
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


def features_backward(
    grad: Tensor, rows: Tensor, rel: Tensor, cell: Tensor | None, w_phase: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of rows ``[n, 4 F]`` and of the angles, in units of pi, ``[n, F]``, from that of ``features``."""
    coef_cos, coef_sin, along_y, along_x = rows.unflatten(-1, (4, -1)).unbind(-2)
    angle = along_y * rel[:, :1] + along_x * rel[:, 1:]
    if cell is not None:
        angle = angle + cell @ w_phase.t()
    cos, sin = (angle * math.pi).cos(), (angle * math.pi).sin()
    of_cos, of_sin = grad.chunk(2, -1)
    of_angle = math.pi * (of_sin * coef_sin * cos - of_cos * coef_cos * sin)
    return torch.cat([of_cos * cos, of_sin * sin, of_angle * rel[:, :1], of_angle * rel[:, 1:]], -1), of_angle
