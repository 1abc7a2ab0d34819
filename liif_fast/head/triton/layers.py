"""The parts that every structure of the fused kernel is made of; ``c`` is its ``configs.Constants``.

Rows are queries x corners: row r of a tile is corner r % K of query r // K. kind "float": bfloat16, float16 or float32
multiplied in their own precision and summed in float32, the bias being what the sums start with. kind "int8": the
arithmetic of ``liif_fast.head.int8``, operation by operation, with u8 activations stored as signed bytes x - 128.

``vectors`` holds float32 values of each unit. float: the bias, [L, 1, D]. int8: (offset, multiplier, addend),
[L, 3, D], where the offset is 128 * the sum of the unit's weights, less START.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .geometry import place

# The integer sums start with the bits of 1.5 * 2^23. Read as a float32, START + s is then 1.5 * 2^23 + s, exactly, for
# |s| <= 2^22 (256 products of signed bytes), and converting costs nothing; the offset takes 1.5 * 2^23 away again.
START: tl.constexpr = tl.constexpr(0x4B400000)
START_VALUE = 3 << 22
PROPAGATE: tl.constexpr = tl.constexpr(tl.PropagateNan.ALL)  # NaN must not vanish in a ReLU


@triton.jit
def to_u8(x):
    """float32 -> round(clamp(x, 0, 255)) - 128 as int8: adding 1.5 * 2^23 leaves the integer in the low bits."""
    x = tl.minimum(tl.maximum(x, 0.0), 255.0) + 12582912.0
    return (x.to(tl.int32, bitcast=True) ^ 128).to(tl.int8)


@triton.jit
def first_layer(hidden, rows, rel_y, rel_x, cell_y, cell_x, w_pos, inverse, k, c: tl.constexpr):
    """Units k of the first layer [rows, len(k)]. w_pos: [4, D]; inverse: 1 / scale of the hidden layers' input."""
    x = tl.load(hidden + rows[:, None] * c.D + k[None, :]).to(tl.float32)
    w_y = tl.load(w_pos + k)[None, :]
    w_x = tl.load(w_pos + c.D + k)[None, :]
    if c.kind == "int8":
        term = rel_y[:, None] * w_y
        if c.cell:
            w_h = tl.load(w_pos + 2 * c.D + k)[None, :]
            w_w = tl.load(w_pos + 3 * c.D + k)[None, :]
            term = (cell_y[:, None] * w_h + cell_x[:, None] * w_w) + term
        h = to_u8((x + (term + rel_x[:, None] * w_x)) * inverse)
    else:
        x = tl.fma(rel_y[:, None], w_y, x)
        x = tl.fma(rel_x[:, None], w_x, x)
        if c.cell:
            x = tl.fma(cell_y[:, None], tl.load(w_pos + 2 * c.D + k)[None, :], x)
            x = tl.fma(cell_x[:, None], tl.load(w_pos + 3 * c.D + k)[None, :], x)
        h = tl.maximum(x, 0.0, propagate_nan=PROPAGATE).to(hidden.dtype.element_ty)
    return h


@triton.jit
def weight(w, row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr, c: tl.constexpr):
    """A block of the weights of all layers, [L * D, D] (out, in), transposed: [COLUMNS, ROWS] (in, out)."""
    if c.tma:
        block = w.load([row, column])
    else:
        r = row + tl.arange(0, ROWS)
        k = column + tl.arange(0, COLUMNS)
        block = tl.load(w + r[:, None] * c.D + k[None, :])
    return block.T


@triton.jit
def start(vectors, layer, n, c: tl.constexpr):
    """What the sums of units n start with: [rows, len(n)]."""
    if c.kind == "int8":
        s = tl.full((c.rows, n.shape[0]), START, tl.int32)
    else:
        s = tl.full((c.rows, n.shape[0]), 0.0, tl.float32) + tl.load(vectors + layer * c.D + n)[None, :]
    return s


@triton.jit
def finished(s, vectors, layer, n, c: tl.constexpr):
    """Sums -> float32 values before the ReLU; int8: in steps of the next layer's input."""
    if c.kind == "int8":
        v = vectors + layer * 3 * c.D + n
        total = s.to(tl.float32, bitcast=True) + tl.load(v)[None, :]
        s = total * tl.load(v + c.D)[None, :] + tl.load(v + 2 * c.D)[None, :]
    return s


@triton.jit
def activated(s, vectors, layer, n, TYPE: tl.constexpr, c: tl.constexpr):
    """Sums -> input of the next hidden layer."""
    x = finished(s, vectors, layer, n, c)
    if c.kind == "int8":
        h = to_u8(x)
    else:
        h = tl.maximum(x, 0.0, propagate_nan=PROPAGATE).to(TYPE)
    return h


@triton.jit
def output(o, s, vectors, layer, n, w_out, TYPE: tl.constexpr, c: tl.constexpr):
    """o [rows, c.out] + what the units n of the last hidden layer, from their sums, add to the output.

    w_out: [c.out, D]. If c.split: its upper half are the weights rounded to TYPE, the lower half what that took away;
    with int8, TYPE is bfloat16 and the activations are split likewise.
    """
    x = tl.maximum(finished(s, vectors, layer, n, c), 0.0, propagate_nan=PROPAGATE)
    w = tl.load(w_out + tl.arange(0, c.out)[:, None] * c.D + n[None, :]).T
    high = x.to(TYPE)
    if c.kind == "int8":
        o = tl.dot((x - high.to(tl.float32)).to(TYPE), w, o)
    return tl.dot(high, w, o, input_precision=c.precision)


@triton.jit
def blend(o, out, b_out, coord, strides, query0, queries, y, x, c: tl.constexpr):
    """Store the colours of a tile: the rows' predictions o [rows, c.out], weighted by area."""
    r = tl.arange(0, c.rows)
    query = query0 + r // c.K
    # a corner counts as much as the rectangle between the query and the corner diagonally opposite
    corner = c.K - 1 - r % c.K
    _, _, rel_y, rel_x = place(coord, strides, query, corner, query < queries, y, x)
    COLUMNS: tl.constexpr = c.out // 2 if c.split else c.out
    if c.split:
        o = tl.sum(tl.reshape(o, (c.rows, 2, COLUMNS)), axis=1)
    area = tl.abs(rel_y * rel_x)
    if c.K == 4:
        area += 1e-9
        o = tl.sum(tl.reshape(o * area[:, None], (c.rows // 4, 4, COLUMNS)), axis=1)
        total = tl.sum(tl.reshape(area, (c.rows // 4, 4)), axis=1)
        o = tl.div_rn(o, tl.zeros_like(o) + total[:, None])
    else:
        o = tl.where((area == area)[:, None], o, area[:, None])  # NaN coordinates give NaN, also behind integers
    j = tl.arange(0, COLUMNS)
    o += tl.load(b_out + j, mask=j < c.O, other=0.0)[None, :]
    q = tl.arange(0, c.rows // c.K)
    mask = (query0 + q < queries)[:, None] & (j < c.O)[None, :]
    tl.store(out + query0.to(tl.int64) * c.O + q[:, None] * c.O + j[None, :], o, mask=mask)
