"""The fused kernel: gather, hidden layers, output layer and blend of a tile of rows without leaving the chip.

The first hidden layer sums over pieces of its input as they are gathered. The others run as the configuration says:

    pairs  two layers in one loop over chunks of the units between them, the weights of the next chunk on their way
    chain  one layer after the other at full width, all weights of a layer in shared memory at once
"""

from __future__ import annotations

import triton
import triton.language as tl

from .geometry import rows_of
from .layers import activated, blend, first_layer, output, start, weight
from .waves import wave_layer


@triton.jit
def pieces(hidden, rows, rel_y, rel_x, cell_y, cell_x, w_pos, inverse, c: tl.constexpr):
    """The input of the hidden layers as a tuple of [rows, c.piece]."""
    COUNT: tl.constexpr = c.D // c.piece
    found = ()
    if c.waves:
        sines = ()
        for i in tl.static_range(COUNT // 2):
            k = i * c.piece + tl.arange(0, c.piece)
            cosine, sine = wave_layer(hidden, rows, rel_y, rel_x, cell_y, cell_x, w_pos, k, c)
            found = found + (cosine,)
            sines = sines + (sine,)
            tl.debug_barrier()  # or the loads of all pieces are moved up, and registers run out
        found = found + sines
    else:
        for i in tl.static_range(COUNT):
            k = i * c.piece + tl.arange(0, c.piece)
            found = found + (first_layer(hidden, rows, rel_y, rel_x, cell_y, cell_x, w_pos, inverse, k, c),)
            tl.debug_barrier()
    return found


@triton.jit
def halves(x, COLUMNS: tl.constexpr, c: tl.constexpr):
    """[rows, COLUMNS] -> its left and its right half."""
    return tl.split(tl.permute(tl.reshape(x, (c.rows, 2, COLUMNS // 2)), (0, 2, 1)))


@triton.jit
def quarters(x, c: tl.constexpr):
    """[rows, D] -> a tuple of four [rows, D / 4]."""
    D: tl.constexpr = c.D
    HALF: tl.constexpr = c.D // 2
    left, right = halves(x, D, c)
    a, b = halves(left, HALF, c)
    e, f = halves(right, HALF, c)
    return a, b, e, f


@triton.jit
def whole_output(o, s, vectors, w_out, TYPE: tl.constexpr, c: tl.constexpr):
    """``output`` of all units of the last hidden layer, a quarter after the other: at once, registers run out."""
    WIDTH: tl.constexpr = c.D // 4
    parts = quarters(s, c)
    for i in tl.static_range(4):
        o = output(o, parts[i], vectors, c.L - 1, i * WIDTH + tl.arange(0, WIDTH), w_out, TYPE, c)
    return o


@triton.jit
def units(x, w, layer, j, vectors, c: tl.constexpr):
    """Sums of the units j ... j + c.chunk of a layer, whose input x is a tuple of pieces: [rows, c.chunk]."""
    COUNT: tl.constexpr = len(x)
    CHUNK: tl.constexpr = c.chunk
    WIDTH: tl.constexpr = c.D // COUNT
    t = start(vectors, layer, j + tl.arange(0, c.chunk), c)
    for i in tl.static_range(COUNT):
        block = weight(w, layer * c.D + j, i * WIDTH, CHUNK, WIDTH, c)
        h = x[i]
        if c.float32 and not c.interpreted:
            # brought to the tensor cores anew for each chunk: the compiler would keep its three parts, which do not
            # change, and run out of registers
            h = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [h], h.dtype, is_pure=False, pack=1)
        t = tl.dot(h, block, t, input_precision=c.precision, out_dtype=t.dtype)
    return t


@triton.jit
def pairs(x, w_first, w_in, w_back, vectors, w_out, TYPE: tl.constexpr, OUT_TYPE: tl.constexpr, c: tl.constexpr):
    """Input of the hidden layers (pieces) -> predictions [rows, c.out]."""
    D: tl.constexpr = c.D
    L: tl.constexpr = c.L
    CHUNK: tl.constexpr = c.chunk
    d = tl.arange(0, c.D)
    w = w_first
    for layer in tl.static_range(0, L - 1, 2):
        s = start(vectors, layer + 1, d, c)
        for j in tl.range(0, c.D, c.chunk, num_stages=c.stages):
            t = units(x, w, layer, j, vectors, c)
            t = activated(t, vectors, layer, j + tl.arange(0, c.chunk), TYPE, c)
            block = weight(w_back, (layer + 1) * c.D, j, D, CHUNK, c)
            s = tl.dot(t, block, s, input_precision=c.precision, out_dtype=s.dtype)
        if layer + 2 < L:
            h = activated(s, vectors, layer + 1, d, TYPE, c)
            w = w_in
            x = quarters(h, c) if c.float32 else (h,)
    o = tl.full((c.rows, c.out), 0.0, tl.float32)
    if L % 2 == 0:
        o = whole_output(o, s, vectors, w_out, OUT_TYPE, c)
    else:
        for j in tl.range(0, c.D, c.chunk, num_stages=c.stages):
            t = units(x, w, L - 1, j, vectors, c)
            o = output(o, t, vectors, L - 1, j + tl.arange(0, c.chunk), w_out, OUT_TYPE, c)
    return o


@triton.jit
def chain(x, w_first, w_all, vectors, w_out, TYPE: tl.constexpr, OUT_TYPE: tl.constexpr, c: tl.constexpr):
    """Input of the hidden layers (pieces) -> predictions [rows, c.out]."""
    COUNT: tl.constexpr = len(x)
    D: tl.constexpr = c.D
    L: tl.constexpr = c.L
    PIECE: tl.constexpr = c.piece
    d = tl.arange(0, c.D)
    s = start(vectors, 0, d, c)
    for i in tl.static_range(COUNT):
        block = weight(w_first, 0, i * PIECE, D, PIECE, c)
        s = tl.dot(x[i], block, s, input_precision=c.precision, out_dtype=s.dtype)
    for layer in tl.static_range(1, L):
        h = activated(s, vectors, layer - 1, d, TYPE, c)
        block = weight(w_all, layer * c.D, 0, D, D, c)
        s = tl.dot(h, block, start(vectors, layer, d, c), input_precision=c.precision, out_dtype=s.dtype)
    return whole_output(tl.full((c.rows, c.out), 0.0, tl.float32), s, vectors, w_out, OUT_TYPE, c)


@triton.jit(do_not_specialize=["queries", "tiles", "pixels", "coord_image", "cell_image", "out_image", "width"])
def fused(
    hidden, coord, cell, out, pixels, coord_image, cell_image, out_image, width, strides, queries, tiles, y, x,
    w_pos, inverse, w_first, w_in, w_back, w_all, vectors, w_out, b_out, c: tl.constexpr,
):  # fmt: skip
    """hidden [B, h, w, D], with c.waves [B, h, w, 2 D], coord and cell [B, queries, 2], out [B, queries, O]; pixels:
    h * w, width: w; *_image: strides of an image. w_pos: [4, D], with c.waves w_phase [2, D / 2].

    A block computes a tile of c.rows rows; ``tiles`` to an image. y, x: ``geometry.Axis``. w_first, w_in, w_back,
    w_all: the weights [L * D, D], as pointers or as tensor descriptors for the blocks in which each is read.
    """
    number = tl.program_id(0)
    TYPE: tl.constexpr = tl.int8 if c.kind == "int8" else hidden.dtype.element_ty
    OUT_TYPE: tl.constexpr = w_out.dtype.element_ty
    image = (number // tiles).to(tl.int64)
    query0 = (number % tiles) * (c.rows // c.K)
    coord += image * coord_image
    r = tl.arange(0, c.rows)
    query = query0 + r // c.K
    valid = query < queries
    rows, rel_y, rel_x, cell_y, cell_x = rows_of(
        coord, cell, image * cell_image, query, r % c.K, valid, width, strides, y, x, c
    )
    scale = 1.0
    if c.kind == "int8":
        scale = tl.load(inverse)
    CHANNELS: tl.constexpr = 2 * c.D if c.waves else c.D
    h = pieces(hidden + image * pixels * CHANNELS, rows, rel_y, rel_x, cell_y, cell_x, w_pos, scale, c)
    if c.pairs:
        o = pairs(h, w_first, w_in, w_back, vectors, w_out, TYPE, OUT_TYPE, c)
    else:
        o = chain(h, w_first, w_all, vectors, w_out, TYPE, OUT_TYPE, c)
    blend(o, out + image * out_image, b_out, coord, strides, query0, queries, y, x, c)
