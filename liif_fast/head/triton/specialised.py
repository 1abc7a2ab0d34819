"""The fused kernel for sm_90 in Gluon: one warp streams the weights by TMA, one or two consumers multiply.

A tile's activations stay in shared memory, the weights come through a ring of blocks [D, c.piece] (outputs, inputs) in
the order in which they are used: layer after layer, piece after piece of its inputs. The ring does not stop between
tiles: while a tile is blended and the next one gathered, it fills.

Two consumers share the ring, each with a tile of its own: a block is replaced when both have used it. They drift apart
by as many blocks as the ring has, so one multiplies while the other gathers, activates or blends. A last tile without
a partner is computed by both, which store the same values.

Numbers are those of the other structures (``layers``); bfloat16 and float16. What Gluon has renamed since triton 3.6 is
looked up here.
"""

from __future__ import annotations

import triton.language as tl
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from .configs import SHARED, Config, Constants
from .geometry import place, rows_of
from .layers import PROPAGATE

load_block = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared


def descriptor(weights: Tensor, piece: int) -> TensorDescriptor:
    """Of weights [L * D, D], for the kernel."""
    block = [weights.shape[1], piece]
    return TensorDescriptor.from_tensor(
        weights, block, gl.NVMMASharedLayout.get_default_for(block, getattr(tl, str(weights.dtype)[6:]))
    )


def stages(config: Config, c: Constants) -> int:
    """How many blocks of weights the ring has: those of the configuration, as far as they fit beside the rest."""
    rows = config.consumers * config.rows
    rest = 2 * c.D * (rows + c.out) + 4 * c.D * (c.L + (4 if c.cell else 2))
    rest += 2 * rows * c.out + 1024  # for the blend; barriers
    return min(config.stages, (SHARED[90] - rest) // (2 * c.D * config.piece))


@gluon.jit
def produce(weights, ring, full, empty, total, c: tl.constexpr):
    """The producer warp: all blocks of weights for every tile, or pair of tiles, of this program."""
    PIECES: tl.constexpr = c.D // c.piece
    i = 0
    for _ in range(c.consumers * tl.program_id(0), total, c.consumers * tl.num_programs(0)):
        for layer in range(0, c.L):
            for k in range(0, PIECES):
                slot = i % c.stages
                mbarrier.wait(empty.index(slot), ((i // c.stages) & 1) ^ 1)
                mbarrier.expect(full.index(slot), weights.block_type.nbytes)
                load_block(weights, [layer * c.D, k * c.piece], full.index(slot), ring.index(slot))
                i += 1


@gluon.jit
def gather(
    number, h, hidden, coord, cell, pixels, coord_image, cell_image, width, strides, queries, tiles, y, x, position,
    c: tl.constexpr,
):  # fmt: skip
    """The first layer of a tile into shared memory, as ``layers.first_layer`` computes it."""
    ACROSS: tl.constexpr = min(c.piece // 8, 8)  # lanes, or a narrow piece would be computed more than once
    layout: tl.constexpr = gl.BlockedLayout([1, 8], [32 // ACROSS, ACROSS], [gl.num_warps(), 1], [1, 0])
    image = (number // tiles).to(tl.int64)
    r = gl.arange(0, c.rows, layout=gl.SliceLayout(1, layout))
    query = (number % tiles) * (c.rows // c.K) + r // c.K
    valid = query < queries
    rows, rel_y, rel_x, cell_y, cell_x = rows_of(
        coord + image * coord_image, cell, image * cell_image, query, r % c.K, valid, width, strides, y, x, c
    )
    offsets = (rel_y, rel_x, cell_y, cell_x)
    source = hidden + image * pixels * c.D
    PIECES: tl.constexpr = c.D // c.piece
    AXES: tl.constexpr = 4 if c.cell else 2
    k = gl.arange(0, c.piece, layout=gl.SliceLayout(0, layout))
    pieces = ()
    for i in gl.static_range(PIECES):  # all on their way before the first is used
        pieces = pieces + (tl.load(source + rows[:, None] * c.D + (i * c.piece + k)[None, :]),)
    for i in gl.static_range(PIECES):
        s = pieces[i].to(gl.float32)
        for axis in gl.static_range(AXES):
            w = position.index(axis).slice(i * c.piece, c.piece).load(gl.SliceLayout(0, layout))
            s = tl.fma(offsets[axis][:, None], w[None, :], s)
        h.slice(i * c.piece, c.piece, dim=1).store(relu(s, h.dtype))


@gluon.jit
def relu(s, TYPE: tl.constexpr):
    return tl.maximum(s, 0.0, propagate_nan=PROPAGATE).to(TYPE)


@gluon.jit
def multiply(i, h, ring, full, empty, biases, layer, layout: tl.constexpr, c: tl.constexpr):
    """Sums [c.rows, D] of a layer; i: blocks of weights that were used before."""
    PIECES: tl.constexpr = c.D // c.piece
    SHAPE: tl.constexpr = h.shape
    bias = biases.index(layer).load(gl.SliceLayout(0, layout))
    s = gl.zeros(SHAPE, gl.float32, layout=layout) + bias[None, :]
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
def consume(which, h, shared, c: tl.constexpr):
    """A consumer, the first or the second: tile after tile, with h [c.rows, D] in shared memory for itself."""
    (
        ring, full, empty, position, biases, last, hidden, coord, cell, out, pixels, coord_image, cell_image, out_image,
        width, strides, queries, tiles, total, y, x, b_out,
    ) = shared  # fmt: skip
    TYPE: tl.constexpr = h.dtype
    layout: tl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, c.D, 16])
    narrow: tl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, c.out, 16])
    i = 0
    for first in range(c.consumers * tl.program_id(0), total, c.consumers * tl.num_programs(0)):
        number = tl.minimum(first + which, total - 1)
        gather(
            number, h, hidden, coord, cell, pixels, coord_image, cell_image, width, strides, queries, tiles, y, x,
            position, c,
        )  # fmt: skip
        fence_async_shared()
        for layer in range(0, c.L):
            s = multiply(i, h, ring, full, empty, biases, layer, layout, c)
            h.store(relu(s, TYPE))
            fence_async_shared()
            i += c.D // c.piece
        SHAPE: tl.constexpr = [c.rows, c.out]
        o = gl.zeros(SHAPE, gl.float32, layout=narrow)
        o = warpgroup_mma(h, last.permute((1, 0)), o, is_async=True)
        o = warpgroup_mma_wait(0, deps=(o,))
        blend(number, o, out, coord, coord_image, out_image, strides, queries, tiles, y, x, b_out, c)


@gluon.jit
def blend(number, o, out, coord, coord_image, out_image, strides, queries, tiles, y, x, b_out, c: tl.constexpr):
    """Store the colours of a tile from the rows' predictions o [c.rows, c.out], as ``layers.blend`` does."""
    COUNT: tl.constexpr = c.rows // c.K
    COLUMNS: tl.constexpr = c.out // 2  # behind them, what the output layer's rounding took away
    QUERIES: tl.constexpr = 32 // COLUMNS
    # a thread has all four corners of a query
    rows: tl.constexpr = gl.BlockedLayout([4, 1], [QUERIES, COLUMNS], [gl.num_warps(), 1], [1, 0])
    store: tl.constexpr = gl.BlockedLayout([1, 1], [QUERIES, COLUMNS], [gl.num_warps(), 1], [1, 0])
    image = (number // tiles).to(tl.int64)
    query0 = (number % tiles) * COUNT
    r = gl.arange(0, c.rows, layout=gl.SliceLayout(1, rows))
    query = query0 + r // c.K
    corner = c.K - 1 - r % c.K
    _, _, rel_y, rel_x = place(coord + image * coord_image, strides, query, corner, query < queries, y, x)
    area = tl.abs(rel_y * rel_x)
    o = gl.convert_layout(gl.sum(gl.reshape(o, [c.rows, 2, COLUMNS]), axis=1), rows)
    if c.K == 4:
        area += 1e-9
        total = gl.sum(gl.reshape(area, [COUNT, 4]), axis=1)
        o = gl.sum(gl.reshape(o * area[:, None], [COUNT, 4, COLUMNS]), axis=1)
        SHAPE: tl.constexpr = [COUNT, COLUMNS]
        total = gl.convert_layout(total, gl.SliceLayout(1, store))[:, None]
        o = tl.div_rn(gl.convert_layout(o, store), gl.zeros(SHAPE, gl.float32, layout=store) + total)
    else:
        o = gl.convert_layout(tl.where((area == area)[:, None], o, area[:, None]), store)
    j = gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, store))
    q = gl.arange(0, COUNT, layout=gl.SliceLayout(1, store))
    o += tl.load(b_out + j, mask=j < c.O, other=0.0)[None, :]
    mask = (query0 + q < queries)[:, None] & (j < c.O)[None, :]
    at = out + image * out_image + query0.to(tl.int64) * c.O
    tl.store(at + q[:, None] * c.O + j[None, :], o, mask=mask)


@gluon.jit(do_not_specialize=["queries", "tiles", "total", "pixels", "coord_image", "cell_image", "out_image", "width"])
def fused(
    hidden, coord, cell, out, pixels, coord_image, cell_image, out_image, width, strides, queries, tiles, total, y, x,
    w_pos, weights, vectors, w_out, b_out, c: tl.constexpr,
):  # fmt: skip
    """As ``kernels.fused``; weights: tensor descriptor [L * D, D] of blocks [D, c.piece]; w_out [O, D]
    float32."""
    TYPE: tl.constexpr = weights.dtype
    STAGES: tl.constexpr = c.stages
    LAYERS: tl.constexpr = c.L
    ring = gl.allocate_shared_memory(TYPE, [c.stages, c.D, c.piece], weights.layout)
    h = gl.allocate_shared_memory(
        TYPE, [c.consumers, c.rows, c.D], gl.NVMMASharedLayout.get_default_for([c.rows, c.D], TYPE)
    )
    last = gl.allocate_shared_memory(TYPE, [c.out, c.D], gl.NVMMASharedLayout.get_default_for([c.out, c.D], TYPE))
    rows: tl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [gl.num_warps(), 1], [1, 0])
    j = gl.arange(0, c.out, layout=gl.SliceLayout(1, rows))
    k = gl.arange(0, c.D, layout=gl.SliceLayout(0, rows))
    last.store(tl.load(w_out + j[:, None] * c.D + k[None, :]))
    one: tl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    unit = gl.arange(0, c.D, layout=one)
    AXES: tl.constexpr = 4 if c.cell else 2
    position = gl.allocate_shared_memory(gl.float32, [AXES, c.D], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    for axis in gl.static_range(AXES):
        position.index(axis).store(tl.load(w_pos + axis * c.D + unit))
    biases = gl.allocate_shared_memory(gl.float32, [c.L, c.D], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    for layer in gl.static_range(LAYERS):
        biases.index(layer).store(tl.load(vectors + layer * c.D + unit))
    fence_async_shared()
    full = gl.allocate_shared_memory(gl.int64, [c.stages, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [c.stages, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=c.consumers)
    shared = (
        ring, full, empty, position, biases, last, hidden, coord, cell, out, pixels, coord_image, cell_image, out_image,
        width, strides, queries, tiles, total, y, x, b_out,
    )  # fmt: skip
    # the producer needs few registers: the consumers get the rest
    if c.consumers == 2:
        gl.warp_specialize(
            [
                (consume, (0, h.index(0), shared, c)),
                (consume, (1, h.index(1), shared, c)),
                (produce, (weights, ring, full, empty, total, c)),
            ],
            [4, 1],
            [240, 24],
        )
    else:
        gl.warp_specialize(
            [(consume, (0, h.index(0), shared, c)), (produce, (weights, ring, full, empty, total, c))], [1], [24]
        )
