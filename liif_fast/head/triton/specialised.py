"""The fused kernel for sm_90 in Gluon: warps that do different things at the same time.

    locate    1 warp    where a tile's queries look: rows of the hidden map, relative coordinates, areas
    gather    2 warps   the first layer of a tile, into one of TILES buffers in shared memory
    produce   1 warp    the hidden layers' weights by TMA, through a ring of blocks [D, c.piece] (outputs, inputs)
    consume   2 x 4     two tiles at a time: hidden layers in place in the tile's buffer, output layer, blend

Each hands its results on through mbarriers and runs ahead as far as there is room. The two consumers use the same
blocks of weights, each block is replaced when both have used it; while one activates, the other multiplies. A last tile
without a partner is computed by both, which store the same values.

Numbers are those of the other structures (``layers``) but that ReLU and rounding are one instruction; bfloat16 and
float16. What Gluon has renamed since triton 3.6 is looked up here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
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

from .configs import SHARED, Config
from .geometry import place, rows_of

if TYPE_CHECKING:
    from .render import Head

load_block = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
synchronize = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier

TILES: tl.constexpr = tl.constexpr(4)  # buffers of tiles: two that are multiplied, two that are gathered
PLACES: tl.constexpr = tl.constexpr(4)  # tiles that may be located before they are gathered
FLIGHT: tl.constexpr = tl.constexpr(2)  # blocks that a consumer multiplies before it waits for the first


def descriptor(weights: Tensor, piece: int) -> TensorDescriptor:
    """Of weights [L * D, D], for the kernel."""
    block = [weights.shape[1], piece]
    return TensorDescriptor.from_tensor(
        weights, block, gl.NVMMASharedLayout.get_default_for(block, getattr(tl, str(weights.dtype)[6:]))
    )


def interleaved(w_out: Tensor, channels: int) -> Tensor:
    """w_out [2 * padded, D], rounded weights above what rounding lost, as pairs of rows for the kernel: as few as its
    products take."""
    high, low = w_out.unflatten(0, (2, -1))
    few = 4 if channels <= 4 else len(high)
    return torch.stack([high[:few], low[:few]], 1).flatten(0, 1)


def stages(config: Config, head: Head, cell: bool) -> int:
    """Blocks of weights in the ring: as many as config says, or as there is shared memory for."""
    D, outputs = head.weights.shape[1], len(head.w_out)
    others = 2 * D * (TILES.value * config.rows + outputs) + 4 * head.vectors.numel()  # buffers, output layer, biases
    others += 4 * config.rows * (TILES.value + PLACES.value * (6 if cell else 4))
    others += 4 * config.rows * outputs + 512  # a layout's conversion; barriers and the warps' states
    return min(config.stages, (SHARED[90] - others) // (2 * D * config.piece))


@gluon.jit
def relu(s, TYPE: tl.constexpr):
    """max(s, 0) rounded to TYPE, NaN stays: one instruction for two values."""
    if TYPE == tl.bfloat16:
        h = gl.inline_asm_elementwise(
            "cvt.rn.relu.bf16x2.f32 $0, $2, $1;", "=r,r,r", [s], dtype=tl.bfloat16, is_pure=True, pack=2
        )
    else:
        h = gl.inline_asm_elementwise(
            "cvt.rn.relu.f16x2.f32 $0, $2, $1;", "=r,r,r", [s], dtype=tl.float16, is_pure=True, pack=2
        )
    return h


@gluon.jit
def following(slot, phase, COUNT: tl.constexpr):
    """Slot and phase after these, in a ring of COUNT."""
    last = slot == COUNT - 1
    return tl.where(last, 0, slot + 1), tl.where(last, phase ^ 1, phase)


@gluon.jit
def after(slot, COUNT: tl.constexpr):
    return tl.where(slot == COUNT - 1, 0, slot + 1)


@gluon.jit
def count_of(total):
    """Tiles of this block, in pairs."""
    pairs = (total + 1) // 2 - tl.program_id(0)
    return 2 * ((pairs + tl.num_programs(0) - 1) // tl.num_programs(0))


@gluon.jit
def number_of(i, total):
    """Number of this block's tile i; beyond the last tile: the last."""
    return tl.minimum(2 * (tl.program_id(0) + i // 2 * tl.num_programs(0)) + i % 2, total - 1)


@gluon.jit
def produce(weights, streamed, total, c: tl.constexpr):
    """All blocks of weights for every pair of tiles."""
    ring, full, empty = streamed
    PIECES: tl.constexpr = c.D // c.piece
    slot = tl.program_id(0) * 0
    phase = slot
    for _ in range(0, count_of(total), 2):
        for layer in range(0, c.L):
            for k in range(0, PIECES):
                mbarrier.wait(empty.index(slot), phase ^ 1)
                mbarrier.expect(full.index(slot), weights.block_type.nbytes)
                load_block(weights, [layer * c.D, k * c.piece], full.index(slot), ring.index(slot))
                slot, phase = following(slot, phase, c.stages)


@gluon.jit
def locate(found, coord, cell, coord_image, cell_image, width, strides, queries, tiles, total, y, x, c: tl.constexpr):
    """places: area, rel_y, rel_x, cell_y, cell_x of each row of a tile; lines: its row of the hidden map. One tile more
    than there are, which the gatherer looks at."""
    places, lines, full, empty = found
    layout: tl.constexpr = gl.BlockedLayout([c.rows // 32], [32], [gl.num_warps()], [0])
    KINDS: tl.constexpr = 5 if c.cell else 3
    slot = tl.program_id(0) * 0
    phase = slot
    r = gl.arange(0, c.rows, layout=layout)
    for i in range(0, 1 + count_of(total)):
        number = number_of(i, total)
        image = (number // tiles).to(tl.int64)
        query = (number % tiles) * (c.rows // c.K) + r // c.K
        valid = query < queries
        line, rel_y, rel_x, cell_y, cell_x = rows_of(
            coord + image * coord_image, cell, image * cell_image, query, r % c.K, valid, width, strides, y, x, c
        )
        # a corner counts as much as the rectangle between the query and the corner diagonally opposite
        _, _, far_y, far_x = place(coord + image * coord_image, strides, query, c.K - 1 - r % c.K, valid, y, x)
        mbarrier.wait(empty.index(slot), phase ^ 1)
        lines.index(slot).store(line.to(tl.int32))
        places.index(KINDS * slot).store(tl.abs(far_y * far_x))
        places.index(KINDS * slot + 1).store(rel_y)
        places.index(KINDS * slot + 2).store(rel_x)
        if c.cell:
            places.index(KINDS * slot + 3).store(cell_y)
            places.index(KINDS * slot + 4).store(cell_x)
        synchronize()
        mbarrier.arrive(full.index(slot), count=1)
        slot, phase = following(slot, phase, PLACES)


@gluon.jit
def located(
    number, slot, places, lines, hidden, pixels, tiles, rows: tl.constexpr, flat: tl.constexpr, c: tl.constexpr
):
    """What ``locate`` found of a tile: pointers to its rows, rel_y, rel_x, cell_y, cell_x for the gather, areas."""
    KINDS: tl.constexpr = 5 if c.cell else 3
    line = lines.index(slot).load(rows)
    if c.wide:
        line = line.to(tl.int64)
    base = hidden + (number // tiles).to(tl.int64) * pixels * c.D + line[:, None] * c.D
    rel_y = places.index(KINDS * slot + 1).load(rows)
    rel_x = places.index(KINDS * slot + 2).load(rows)
    cell_y = rel_y
    cell_x = rel_x
    if c.cell:
        cell_y = places.index(KINDS * slot + 3).load(rows)
        cell_x = places.index(KINDS * slot + 4).load(rows)
    return base, rel_y, rel_x, cell_y, cell_x, places.index(KINDS * slot).load(flat)


@gluon.jit
def gather(gathered, found, hidden, pixels, tiles, total, w_pos, c: tl.constexpr):
    """The first layer, some units at a time: of the next ones the rows are on their way meanwhile."""
    buffers, areas, ready, free = gathered
    places, lines, full, empty = found
    UNITS: tl.constexpr = 16 if c.cell else 32  # at a time, of which there are registers for
    LANES: tl.constexpr = UNITS // 8
    layout: tl.constexpr = gl.BlockedLayout(
        [c.rows // gl.num_warps() * LANES // 32, 8], [32 // LANES, LANES], [gl.num_warps(), 1], [1, 0]
    )
    rows: tl.constexpr = gl.SliceLayout(1, layout)
    flat: tl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    PARTS: tl.constexpr = c.D // UNITS
    slot = tl.program_id(0) * 0
    phase = slot
    place_slot = slot
    place_phase = slot
    n = gl.arange(0, UNITS, layout=gl.SliceLayout(0, layout))
    mbarrier.wait(full.index(place_slot), place_phase)
    base, rel_y, rel_x, cell_y, cell_x, area = located(
        number_of(0, total), place_slot, places, lines, hidden, pixels, tiles, rows, flat, c
    )
    ahead = tl.load(base + n[None, :])
    for i in range(0, count_of(total)):
        mbarrier.wait(free.index(slot), phase ^ 1)
        areas.index(slot).store(area)
        h = buffers.index(slot)
        for part in gl.static_range(PARTS):
            k = part * UNITS + n
            v = ahead.to(tl.float32)
            if part + 1 < PARTS:
                ahead = tl.load(base + (k + UNITS)[None, :])
            v = tl.fma(rel_y[:, None], tl.load(w_pos + k)[None, :], v)
            v = tl.fma(rel_x[:, None], tl.load(w_pos + c.D + k)[None, :], v)
            if c.cell:
                v = tl.fma(cell_y[:, None], tl.load(w_pos + 2 * c.D + k)[None, :], v)
                v = tl.fma(cell_x[:, None], tl.load(w_pos + 3 * c.D + k)[None, :], v)
            if part + 1 == PARTS:
                mbarrier.arrive(empty.index(place_slot), count=1)
                place_slot, place_phase = following(place_slot, place_phase, PLACES)
                mbarrier.wait(full.index(place_slot), place_phase)
                base, rel_y, rel_x, cell_y, cell_x, area = located(
                    number_of(i + 1, total), place_slot, places, lines, hidden, pixels, tiles, rows, flat, c
                )
                ahead = tl.load(base + n[None, :])
            h.slice(part * UNITS, UNITS, dim=1).store(relu(v, h.dtype))
            if part + 1 == PARTS:
                fence_async_shared()
            synchronize()  # or the compiler loads more ahead than there are registers for
        mbarrier.arrive(ready.index(slot), count=1)
        slot, phase = following(slot, phase, TILES)


@gluon.jit
def consume(which, streamed, gathered, last, bias, b_out, result, c: tl.constexpr):
    """The first or the second consumer: every other tile."""
    ring, full, empty = streamed
    buffers, areas, ready, free = gathered
    total = result[4]
    PIECES: tl.constexpr = c.D // c.piece
    SUMS: tl.constexpr = [c.rows, c.D]
    OUTPUTS: tl.constexpr = [c.rows, c.out]
    layout: tl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, c.D, 16])
    narrow: tl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, c.out, 16])
    slot = tl.program_id(0) * 0
    phase = slot
    used = slot  # the block of weights to give back next
    tile = slot + which
    tile_phase = slot
    for i in range(which, count_of(total), 2):
        h = buffers.index(tile)
        mbarrier.wait(ready.index(tile), tile_phase)
        s = gl.zeros(SUMS, gl.float32, layout=layout)
        for layer in range(0, c.L):
            for k in gl.static_range(PIECES):
                mbarrier.wait(full.index(slot), phase)
                block = ring.index(slot).permute((1, 0))
                s = warpgroup_mma(h.slice(k * c.piece, c.piece, dim=1), block, s, use_acc=k > 0, is_async=True)
                slot, phase = following(slot, phase, c.stages)
                if k >= FLIGHT:
                    s = warpgroup_mma_wait(FLIGHT, deps=(s,))
                    mbarrier.arrive(empty.index(used), count=1)
                    used = after(used, c.stages)
            s = warpgroup_mma_wait(0, deps=(s,))
            for k in gl.static_range(FLIGHT):
                mbarrier.arrive(empty.index(used), count=1)
                used = after(used, c.stages)
            h.store(relu(s + bias.index(layer).load(gl.SliceLayout(0, layout))[None, :], h.dtype))
            fence_async_shared()
        o = gl.zeros(OUTPUTS, gl.float32, layout=narrow)
        o = warpgroup_mma(h, last.permute((1, 0)), o, is_async=True)
        o = warpgroup_mma_wait(0, deps=(o,))
        blend(number_of(i, total), o, areas.index(tile), free.index(tile), b_out, result, c)
        for _ in gl.static_range(2):
            tile, tile_phase = following(tile, tile_phase, TILES)


@gluon.jit
def blend(number, o, areas, free, b_out, result, c: tl.constexpr):
    """Store the colours of a tile from the rows' predictions o [c.rows, c.out], as ``layers.blend`` does, and give the
    tile's buffer back."""
    out, out_image, queries, tiles, _ = result
    COUNT: tl.constexpr = c.rows // c.K
    COLUMNS: tl.constexpr = c.out // 2  # each beside what the output layer's rounding took away
    QUERIES: tl.constexpr = 32 // COLUMNS
    # a thread has all four corners of a query
    rows: tl.constexpr = gl.BlockedLayout([4, 1], [QUERIES, COLUMNS], [gl.num_warps(), 1], [1, 0])
    store: tl.constexpr = gl.BlockedLayout([1, 1], [QUERIES, COLUMNS], [gl.num_warps(), 1], [1, 0])
    area = areas.load(gl.SliceLayout(1, rows))
    synchronize()
    mbarrier.arrive(free, count=1)
    o = gl.convert_layout(gl.sum(gl.reshape(o, [c.rows, COLUMNS, 2]), axis=2), rows)
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
    query0 = (number % tiles) * COUNT
    q = gl.arange(0, COUNT, layout=gl.SliceLayout(1, store))
    o += tl.load(b_out + j, mask=j < c.O, other=0.0)[None, :]
    mask = (query0 + q < queries)[:, None] & (j < c.O)[None, :]
    at = out + (number // tiles).to(tl.int64) * out_image + query0.to(tl.int64) * c.O
    tl.store(at + q[:, None] * c.O + j[None, :], o, mask=mask)


@gluon.jit
def barriers(COUNT: tl.constexpr, arrivals: tl.constexpr):
    """mbarriers of COUNT slots."""
    made = gl.allocate_shared_memory(gl.int64, [COUNT, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(COUNT):
        mbarrier.init(made.index(i), count=arrivals)
    return made


@gluon.jit(do_not_specialize=["queries", "tiles", "total", "pixels", "coord_image", "cell_image", "out_image", "width"])
def fused(
    hidden, coord, cell, out, pixels, coord_image, cell_image, out_image, width, strides, queries, tiles, total, y, x,
    w_pos, weights, vectors, w_out, b_out, c: tl.constexpr,
):  # fmt: skip
    """As ``kernels.fused``; weights: tensor descriptor [L * D, D] of blocks [D, c.piece]; w_out: see ``interleaved``."""
    TYPE: tl.constexpr = weights.dtype
    LAYERS: tl.constexpr = c.L
    KINDS: tl.constexpr = 5 if c.cell else 3
    WARPS: tl.constexpr = gl.num_warps()
    line: tl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    ring = gl.allocate_shared_memory(TYPE, [c.stages, c.D, c.piece], weights.layout)
    buffers = gl.allocate_shared_memory(
        TYPE, [TILES, c.rows, c.D], gl.NVMMASharedLayout.get_default_for([c.rows, c.D], TYPE)
    )
    last = gl.allocate_shared_memory(TYPE, [c.out, c.D], gl.NVMMASharedLayout.get_default_for([c.out, c.D], TYPE))
    bias = gl.allocate_shared_memory(gl.float32, [c.L, c.D], line)
    areas = gl.allocate_shared_memory(gl.float32, [TILES, c.rows], line)
    places = gl.allocate_shared_memory(gl.float32, [KINDS * PLACES, c.rows], line)
    lines = gl.allocate_shared_memory(gl.int32, [PLACES, c.rows], line)
    rows: tl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [WARPS, 1], [1, 0])
    j = gl.arange(0, c.out, layout=gl.SliceLayout(1, rows))
    last.store(tl.load(w_out + j[:, None] * c.D + gl.arange(0, c.D, layout=gl.SliceLayout(0, rows))[None, :]))
    n = gl.arange(0, c.D, layout=gl.BlockedLayout([1], [32], [WARPS], [0]))
    for layer in gl.static_range(LAYERS):
        bias.index(layer).store(tl.load(vectors + layer * c.D + n))
    fence_async_shared()
    full, empty = barriers(c.stages, 1), barriers(c.stages, 2)
    ready, free = barriers(TILES, 1), barriers(TILES, 1)
    known, read = barriers(PLACES, 1), barriers(PLACES, 1)
    streamed, gathered, found = (ring, full, empty), (buffers, areas, ready, free), (places, lines, known, read)
    result = (out, out_image, queries, tiles, total)
    gl.warp_specialize(
        [
            (consume, (0, streamed, gathered, last, bias, b_out, result, c)),
            (consume, (1, streamed, gathered, last, bias, b_out, result, c)),
            (gather, (gathered, found, hidden, pixels, tiles, total, w_pos, c)),
            (locate, (found, coord, cell, coord_image, cell_image, width, strides, queries, tiles, total, y, x, c)),
            (produce, (weights, streamed, total, c)),
        ],
        [4, 2, 1, 1],
        [208, 96, 96, 24],  # registers; what is left, the first consumer gets
    )
