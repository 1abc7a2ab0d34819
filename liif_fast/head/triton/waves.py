"""The first layer of LTE's head (``head.fourier``): cosines and sines of angles that a pixel's frequencies make.

A row of the hidden map has 4 F = 2 D values: coefficients of F cosines, those of F sines, F frequencies along y, F
along x. Nothing is called and no table is read: a library's cosine keeps arrays for large angles in memory.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .configs import Config, candidates

PROPAGATE: tl.constexpr = tl.constexpr(tl.PropagateNan.ALL)


def fitted(config: Config, D: int) -> Config:
    """config as it runs with this first layer: a piece is all cosines or all sines. With larger pieces registers run
    out, and at the widest with ``chain``, where another structure runs."""
    if config.structure == "chain" and D == 256:
        config = next(c for c in candidates(90, "half", D) if c.structure == "pairs")
    return config._replace(piece=min(config.piece, 64, D // 2))


@triton.jit
def waves(angle, FINE: tl.constexpr):
    """cos(pi * angle) and sin(pi * angle) of float32: errors below 2e-7 if FINE, else below 7e-5 (2^-13). Angles beyond
    2^22 half turns, which float32 no longer resolves, give some value of -1 ... 1; NaN and infinite ones NaN.

    Polynomials in the angle less its nearest integer n, which is exact; (-1)^n is the sign. They are best in the
    largest error on [-1/2, 1/2].
    """
    shifted = angle + 12582912.0  # 1.5 * 2^23: leaves n in the low bits
    r = angle - (shifted - 12582912.0)
    r = tl.minimum(tl.maximum(r, -0.5, propagate_nan=PROPAGATE), 0.5, propagate_nan=PROPAGATE)
    sign = shifted.to(tl.int32, bitcast=True) << 31
    s = r * r
    if FINE:
        cosine = tl.fma(s, -0.024396727, 0.23493756)
        cosine = tl.fma(s, cosine, -1.3352121)
        cosine = tl.fma(s, cosine, 4.0587091)
        cosine = tl.fma(s, cosine, -4.934802)
        cosine = tl.fma(s, cosine, 1.0)
        sine = tl.fma(s, 0.07722013, -0.5980452)
        sine = tl.fma(s, sine, 2.5500314)
        sine = tl.fma(s, sine, -5.167707)
        sine = tl.fma(s, sine, 3.1415925)
    else:
        cosine = tl.fma(s, -1.2221291, 4.0412846)
        cosine = tl.fma(s, cosine, -4.933938)
        cosine = tl.fma(s, cosine, 0.9999933)
        sine = tl.fma(s, 2.299547, -5.136905)
        sine = tl.fma(s, sine, 3.14064)
    cosine = (cosine.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    sine = ((sine * r).to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    return cosine, sine


@triton.jit
def angles(along_y, along_x, rel_y, rel_x, cell_y, cell_x, w_phase, k, c: tl.constexpr):
    """Of the frequencies k in half turns, [rows, len(k)], with the phase that the cell makes. w_phase: [2, F], weights
    of cell_y and of cell_x."""
    F: tl.constexpr = c.D // 2
    angle = tl.fma(along_x, rel_x[:, None], along_y * rel_y[:, None])
    if c.cell:
        angle = tl.fma(cell_y[:, None], tl.load(w_phase + k)[None, :], angle)
        angle = tl.fma(cell_x[:, None], tl.load(w_phase + F + k)[None, :], angle)
    return angle


@triton.jit
def wave_layer(hidden, rows, rel_y, rel_x, cell_y, cell_x, w_phase, k, c: tl.constexpr):
    """Units k (cosines) and F + k (sines) of the hidden layers' input: [rows, len(k)] each."""
    F: tl.constexpr = c.D // 2
    row = hidden + rows[:, None] * (2 * c.D) + k[None, :]
    along_y = tl.load(row + 2 * F).to(tl.float32)
    along_x = tl.load(row + 3 * F).to(tl.float32)
    angle = angles(along_y, along_x, rel_y, rel_x, cell_y, cell_x, w_phase, k, c)
    cosine, sine = waves(angle, c.float32)
    cosine *= tl.load(row).to(tl.float32)
    sine *= tl.load(row + F).to(tl.float32)
    return cosine.to(hidden.dtype.element_ty), sine.to(hidden.dtype.element_ty)
