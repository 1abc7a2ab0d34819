"""The index arithmetic of LIIF for Triton: ``reference.corners`` in its own operations and roundings.

Kernels that use it must be compiled with ``enable_fp_fusion=False``: a * b + c contracted to one rounding flips pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl


class Axis(NamedTuple):
    """Constants of one axis of the feature map, all as floats, so that no value of them is compiled in; those below
    2^24 are exact."""

    size: float  # pixels of the whole map
    lower: float  # shift towards the lower corner, with the epsilon that breaks ties
    upper: float
    step: float  # pixel i's centre is step * i + first
    first: float
    origin: float  # where the part of the map at hand starts
    extent: float  # and how many pixels it has

    @classmethod
    def of(cls, size: int, origin: int, extent: int, ensemble: bool) -> Axis:
        """Scalars are computed in float64 and rounded once at the launch, as Python does before torch sees them."""
        v, epsilon = (1, 1e-6) if ensemble else (0, 0.0)
        return cls(
            float(size), -v / size + epsilon, v / size + epsilon, 2 / size, -1 + 1 / size, float(origin), float(extent)
        )


@triton.jit
def nearest(c, upper, axis):
    """The pixel nearest to coordinates c shifted to one side (upper: which): its index in the part of the map at hand,
    always inside it, and c relative to its centre, in pixels; both float32. A pixel that is not at hand is NaN away:
    its colours become NaN, as the gather's on CUDA do."""
    s = c + tl.where(upper, axis.upper, axis.lower)
    s = tl.where(s < -1 + 1e-6, -1 + 1e-6, s)
    s = tl.where(s > 1 - 1e-6, 1 - 1e-6, s)
    t = ((s + 1) * axis.size - 1) * 0.5
    t = (t + 12582912.0) - 12582912.0  # 1.5 * 2^23: rounds to an integer, ties to even
    rel = (c - (axis.step * t + axis.first)) * axis.size
    i = tl.where(t > 0, tl.where(t < axis.size - 1, t, axis.size - 1), 0.0)  # NaN becomes 0
    i -= axis.origin
    rel = tl.where(i >= 0, rel, float("nan"))
    rel = tl.where(i < axis.extent, rel, float("nan"))
    return tl.where(i > 0, tl.where(i < axis.extent - 1, i, axis.extent - 1), 0.0), rel


@triton.jit
def place(coord, strides, query, corner, valid, y, x):
    """Where queries look towards corners 2 * (lower side) + (right side): (row, column in hidden, rel_y, rel_x)."""
    p = coord + query * strides.coord_query
    row, rel_y = nearest(tl.load(p, mask=valid, other=0.0), corner >= 2, y)
    column, rel_x = nearest(tl.load(p + strides.coord_axis, mask=valid, other=0.0), corner % 2 == 1, x)
    return row.to(tl.int32), column.to(tl.int32), rel_y, rel_x


@triton.jit
def rows_of(coord, cell, cell_offset, query, corner, valid, width, strides, y, x, c: tl.constexpr):
    """What the first layer of queries' corners reads: (row of the flat hidden map, rel_y, rel_x, cell_y, cell_x), the
    cell in feature pixels; without c.cell the last two are not used."""
    rows, columns, rel_y, rel_x = place(coord, strides, query, corner, valid, y, x)
    if c.wide:
        rows = rows.to(tl.int64)
    cell_y = rel_y
    cell_x = rel_x
    if c.cell:
        p = cell + cell_offset + query * strides.cell_query
        cell_y = tl.load(p, mask=valid, other=0.0) * y.size
        cell_x = tl.load(p + strides.cell_axis, mask=valid, other=0.0) * x.size
    return rows * width + columns, rel_y, rel_x, cell_y, cell_x
