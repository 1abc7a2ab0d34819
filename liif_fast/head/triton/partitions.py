"""What the warps of ``specialised`` do: one function for each partition, and its parts.

streamed (ring, full, empty), gathered (buffers, areas, ready, free) and found (places, lines, full, empty) are rings in
shared memory with two mbarriers for each slot: it is filled; it may be filled again. Slots and phases begin as
``tl.program_id(0) * 0``, zeros that a loop carries as values of its own. What Gluon has renamed since triton 3.6 is
looked up here.
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

from .geometry import place, rows_of

load_block = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
synchronize = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier  # the warps of a partition

TILES: tl.constexpr = tl.constexpr(4)  # buffers of tiles: two that are multiplied, two that are gathered
PLACES: tl.constexpr = tl.constexpr(4)  # tiles that may be located before they are gathered
FLIGHT: tl.constexpr = tl.constexpr(2)  # blocks that a consumer multiplies before it waits for the first


@gluon.jit
def relu(s, dtype: tl.constexpr):
    """max(s, 0) rounded to nearest even, NaN stays: one instruction for two values."""
    if dtype == tl.bfloat16:
        h = gl.inline_asm_elementwise(
            "cvt.rn.relu.bf16x2.f32 $0, $2, $1;", "=r,r,r", [s], dtype=tl.bfloat16, is_pure=True, pack=2
        )
    else:
        h = gl.inline_asm_elementwise(
            "cvt.rn.relu.f16x2.f32 $0, $2, $1;", "=r,r,r", [s], dtype=tl.float16, is_pure=True, pack=2
        )
    return h


@gluon.jit
def advance(slot, phase, COUNT: tl.constexpr):
    """Slot and phase (the parity that its mbarriers wait for) after these, in a ring of COUNT."""
    last = slot == COUNT - 1
    return tl.where(last, 0, slot + 1), tl.where(last, phase ^ 1, phase)


@gluon.jit
def next_slot(slot, COUNT: tl.constexpr):
    """As ``advance``, where nobody waits."""
    return tl.where(slot == COUNT - 1, 0, slot + 1)


@gluon.jit
def tile_count(total):
    """Tiles that this block computes: an even number."""
    pairs = (total + 1) // 2 - tl.program_id(0)
    return 2 * ((pairs + tl.num_programs(0) - 1) // tl.num_programs(0))


@gluon.jit
def tile_number(i, total):
    """Which of all tiles this block's tile i is; beyond the last one: the last one."""
    return tl.minimum(2 * (tl.program_id(0) + i // 2 * tl.num_programs(0)) + i % 2, total - 1)


@gluon.jit
def produce(weights, streamed, total, c: tl.constexpr):
    """All blocks of weights for every pair of tiles."""
    ring, full, empty = streamed
    PIECES: tl.constexpr = c.D // c.piece
    slot = tl.program_id(0) * 0
    phase = slot
    for _ in range(0, tile_count(total), 2):
        for layer in range(0, c.L):
            for k in range(0, PIECES):
                mbarrier.wait(empty.index(slot), phase ^ 1)
                mbarrier.expect(full.index(slot), weights.block_type.nbytes)
                load_block(weights, [layer * c.D, k * c.piece], full.index(slot), ring.index(slot))
                slot, phase = advance(slot, phase, c.stages)


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
    for i in range(0, 1 + tile_count(total)):
        number = tile_number(i, total)
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
        slot, phase = advance(slot, phase, PLACES)


@gluon.jit
def located(
    number, slot, places, lines, hidden, pixels, tiles, rows: tl.constexpr, flat: tl.constexpr, c: tl.constexpr
):
    """What ``locate`` found of a tile: pointers to its rows, rel_y, rel_x, cell_y, cell_x for the gather, areas."""
    KINDS: tl.constexpr = 5 if c.cell else 3
    line = lines.index(slot).load(rows)
    if c.wide:
        line = line.to(tl.int64)
    CHANNELS: tl.constexpr = 2 * c.D if c.waves else c.D
    base = hidden + (number // tiles).to(tl.int64) * pixels * CHANNELS + line[:, None] * CHANNELS
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
        tile_number(0, total), place_slot, places, lines, hidden, pixels, tiles, rows, flat, c
    )
    ahead = tl.load(base + n[None, :])
    for i in range(0, tile_count(total)):
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
                place_slot, place_phase = advance(place_slot, place_phase, PLACES)
                mbarrier.wait(full.index(place_slot), place_phase)
                base, rel_y, rel_x, cell_y, cell_x, area = located(
                    tile_number(i + 1, total), place_slot, places, lines, hidden, pixels, tiles, rows, flat, c
                )
                ahead = tl.load(base + n[None, :])
            h.slice(part * UNITS, UNITS, dim=1).store(relu(v, h.dtype))
            if part + 1 == PARTS:
                fence_async_shared()
            synchronize()  # or the compiler loads more ahead than there are registers for
        mbarrier.arrive(ready.index(slot), count=1)
        slot, phase = advance(slot, phase, TILES)


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
    for i in range(which, tile_count(total), 2):
        h = buffers.index(tile)
        mbarrier.wait(ready.index(tile), tile_phase)
        s = gl.zeros(SUMS, gl.float32, layout=layout)
        for layer in range(0, c.L):
            for k in gl.static_range(PIECES):
                mbarrier.wait(full.index(slot), phase)
                block = ring.index(slot).permute((1, 0))
                s = warpgroup_mma(h.slice(k * c.piece, c.piece, dim=1), block, s, use_acc=k > 0, is_async=True)
                slot, phase = advance(slot, phase, c.stages)
                if k >= FLIGHT:
                    s = warpgroup_mma_wait(FLIGHT, deps=(s,))
                    mbarrier.arrive(empty.index(used), count=1)
                    used = next_slot(used, c.stages)
            s = warpgroup_mma_wait(0, deps=(s,))
            for _ in gl.static_range(FLIGHT):
                mbarrier.arrive(empty.index(used), count=1)
                used = next_slot(used, c.stages)
            h.store(relu(s + bias.index(layer).load(gl.SliceLayout(0, layout))[None, :], h.dtype))
            fence_async_shared()
        o = gl.zeros(OUTPUTS, gl.float32, layout=narrow)
        o = warpgroup_mma(h, last.permute((1, 0)), o, is_async=True)
        o = warpgroup_mma_wait(0, deps=(o,))
        blend(tile_number(i, total), o, areas.index(tile), free.index(tile), b_out, result, c)
        for _ in gl.static_range(2):
            tile, tile_phase = advance(tile, tile_phase, TILES)


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
