"""The fused kernel for sm_90 in Gluon: one warp streams the weights by TMA, two or more warpgroups multiply.

A tile's activations stay in shared memory, the weights come through a ring of blocks [D, c.piece] (outputs, inputs) in
the order in which they are used: layer after layer, piece after piece of its inputs. The ring does not stop between
tiles: while a tile is blended and the next one gathered, it fills.

Numbers are the other structures' (``layers``), except that the output layer is plain float32. Runs on triton 3.6 and
later: what Gluon has renamed since is looked up here.
"""

from __future__ import annotations

import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from .geometry import place
from .layers import PROPAGATE, START, activated, finished, first_layer

load_block = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared


@gluon.jit
def produce(weights, ring, full, empty, total, c: gl.constexpr):
    """The producer warp: all blocks of weights for every tile of this program."""
    PIECES: gl.constexpr = c.D // c.piece
    i = 0
    for _ in range(tl.program_id(0), total, tl.num_programs(0)):
        for layer in range(0, c.L):
            for k in range(0, PIECES):
                slot = i % c.stages
                mbarrier.wait(empty.index(slot), ((i // c.stages) & 1) ^ 1)
                mbarrier.expect(full.index(slot), weights.block_type.nbytes)
                load_block(weights, [layer * c.D, k * c.piece], full.index(slot), ring.index(slot))
                i += 1


@gluon.jit
def gather(
    number, h, hidden, coord, cell, pixels, coord_image, cell_image, width, strides, queries, tiles, y, x, w_pos,
    inverse, c: gl.constexpr,
):  # fmt: skip
    """The first layer of a tile into shared memory."""
    layout: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [gl.num_warps(), 1], [1, 0])
    image = (number // tiles).to(tl.int64)
    r = gl.arange(0, c.rows, layout=gl.SliceLayout(1, layout))
    query = (number % tiles) * (c.rows // c.K) + r // c.K
    valid = query < queries
    rows, columns, rel_y, rel_x = place(coord + image * coord_image, strides, query, r % c.K, valid, y, x)
    if c.wide:
        rows = rows.to(tl.int64)
    rows = rows * width + columns
    cell_y = rel_y
    cell_x = rel_x
    if c.cell:
        p = cell + image * cell_image + query * strides.cell_query
        cell_y = tl.load(p, mask=valid, other=0.0) * y.size
        cell_x = tl.load(p + strides.cell_axis, mask=valid, other=0.0) * x.size
    scale = 1.0
    if c.kind == "int8":
        scale = tl.load(inverse)
    PIECES: gl.constexpr = c.D // c.piece
    for i in gl.static_range(PIECES):
        k = i * c.piece + gl.arange(0, c.piece, layout=gl.SliceLayout(0, layout))
        piece = first_layer(hidden + image * pixels * c.D, rows, rel_y, rel_x, cell_y, cell_x, w_pos, scale, k, c)
        h.slice(i * c.piece, c.piece, dim=1).store(piece)


@gluon.jit
def multiply(i, h, ring, full, empty, vectors, layer, n, layout: gl.constexpr, c: gl.constexpr):
    """Sums [c.rows, D] of a layer; i: blocks of weights that were used before."""
    PIECES: gl.constexpr = c.D // c.piece
    SHAPE: gl.constexpr = h.shape
    if c.kind == "int8":
        s = gl.full(SHAPE, START, gl.int32, layout=layout)
    else:
        s = gl.zeros(SHAPE, gl.float32, layout=layout) + tl.load(vectors + layer * c.D + n)[None, :]
    for k in gl.static_range(PIECES):
        slot = (i + k) % c.stages
        mbarrier.wait(full.index(slot), ((i + k) // c.stages) & 1)
        block = ring.index(slot).permute((1, 0))
        s = warpgroup_mma(h.slice(k * c.piece, c.piece, dim=1), block, s, is_async=True)
        if k > 0:  # the one before has been multiplied: its slot is free
            s = warpgroup_mma_wait(1, deps=(s,))
            mbarrier.arrive(empty.index((i + k - 1) % c.stages), count=1)
    s = warpgroup_mma_wait(0, deps=(s,))
    mbarrier.arrive(empty.index((i + PIECES - 1) % c.stages), count=1)
    return s


@gluon.jit
def consume(
    ring, full, empty, h, hidden, coord, cell, out, pixels, coord_image, cell_image, out_image, width, strides, queries,
    tiles, total, y, x, w_pos, inverse, vectors, w_out, b_out, c: gl.constexpr,
):  # fmt: skip
    """The multiplying warpgroups: tile after tile."""
    OUT: gl.constexpr = c.O
    TYPE: gl.constexpr = h.dtype
    # products of 8-bit integers go to 224 columns at most
    COLUMNS: gl.constexpr = min(c.D, 128) if c.kind == "int8" else c.D
    layout: gl.constexpr = gl.NVMMADistributedLayout(
        [3, 0], [gl.num_warps(), 1], [16, COLUMNS, 256 // h.dtype.primitive_bitwidth]
    )
    n = gl.arange(0, c.D, layout=gl.SliceLayout(0, layout))
    i = 0
    for number in range(tl.program_id(0), total, tl.num_programs(0)):
        gather(
            number, h, hidden, coord, cell, pixels, coord_image, cell_image, width, strides, queries, tiles, y, x,
            w_pos, inverse, c,
        )  # fmt: skip
        fence_async_shared()
        for layer in range(0, c.L - 1):
            s = multiply(i, h, ring, full, empty, vectors, layer, n, layout, c)
            h.store(activated(s, vectors, layer, n, TYPE, c))
            fence_async_shared()
            i += c.D // c.piece
        s = multiply(i, h, ring, full, empty, vectors, c.L - 1, n, layout, c)
        i += c.D // c.piece
        last = tl.maximum(finished(s, vectors, c.L - 1, n, c), 0.0, propagate_nan=PROPAGATE)
        area, whole, at, mask = places(
            number, out, coord, coord_image, out_image, strides, queries, tiles, y, x, layout, c
        )
        for j in gl.static_range(OUT):
            o = gl.sum(last * tl.load(w_out + j * c.D + n)[None, :], axis=1)
            blend(j, o, area, whole, at, mask, b_out, c)


@gluon.jit
def places(
    number, out, coord, coord_image, out_image, strides, queries, tiles, y, x, layout: gl.constexpr, c: gl.constexpr
):
    """Of a tile: the rows' areas, their sums over the corners of a query, where its colour goes, and whether."""
    COUNT: gl.constexpr = c.rows // c.K
    store: gl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    image = (number // tiles).to(tl.int64)
    query0 = (number % tiles) * COUNT
    r = gl.arange(0, c.rows, layout=gl.SliceLayout(1, layout))
    query = query0 + r // c.K
    corner = c.K - 1 - r % c.K
    _, _, rel_y, rel_x = place(coord + image * coord_image, strides, query, corner, query < queries, y, x)
    area = tl.abs(rel_y * rel_x)
    whole = area
    if c.K == 4:
        area += 1e-9
        whole = gl.convert_layout(gl.sum(gl.reshape(area, [COUNT, 4]), axis=1), store)
    q = gl.arange(0, COUNT, layout=store)
    return area, whole, out + image * out_image + query0.to(tl.int64) * c.O + q * c.O, query0 + q < queries


@gluon.jit
def blend(j: gl.constexpr, o, area, whole, at, mask, b_out, c: gl.constexpr):
    """Store output j of a tile from the rows' predictions o, weighted by area as ``layers.blend`` does."""
    COUNT: gl.constexpr = c.rows // c.K
    store: gl.constexpr = at.type.layout
    if c.K == 4:
        o = gl.convert_layout(gl.sum(gl.reshape(o * area, [COUNT, 4]), axis=1), store)
        o = tl.div_rn(o, whole)
    else:
        o = gl.convert_layout(tl.where(area == area, o, area), store)
    tl.store(at + j, o + tl.load(b_out + j), mask=mask)


@gluon.jit(do_not_specialize=["queries", "tiles", "total", "pixels", "coord_image", "cell_image", "out_image", "width"])
def fused(
    hidden, coord, cell, out, pixels, coord_image, cell_image, out_image, width, strides, queries, tiles, total, y, x,
    w_pos, inverse, weights, vectors, w_out, b_out, c: gl.constexpr,
):  # fmt: skip
    """As ``kernels.fused``; weights: tensor descriptor [L * D, D] of blocks [D, c.piece]; w_out [O, D]
    float32."""
    STAGES: gl.constexpr = c.stages
    ring = gl.allocate_shared_memory(weights.dtype, [c.stages, c.D, c.piece], weights.layout)
    h = gl.allocate_shared_memory(
        weights.dtype, [c.rows, c.D], gl.NVMMASharedLayout.get_default_for([c.rows, c.D], weights.dtype)
    )
    full = gl.allocate_shared_memory(gl.int64, [c.stages, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [c.stages, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=1)
    gl.warp_specialize(
        [
            (
                consume,
                (
                    ring, full, empty, h, hidden, coord, cell, out, pixels, coord_image, cell_image, out_image, width,
                    strides, queries, tiles, total, y, x, w_pos, inverse, vectors, w_out, b_out, c,
                ),
            ),
            (produce, (weights, ring, full, empty, total, c)),
        ],
        [1],
        [24],  # registers of the producer: the others get the rest
    )  # fmt: skip
