"""The partition of ``specialised`` that gathers for LTE's head, in place of ``partitions.gather``."""

from __future__ import annotations

import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from .partitions import PLACES, TILES, advance, located, synchronize, tile_count, tile_number
from .waves import angles, waves


@gluon.jit
def gather_waves(gathered, found, hidden, pixels, tiles, total, w_phase, c: tl.constexpr):
    """The first layer, some frequencies at a time: of the next ones the rows are on their way meanwhile, and of these
    the coefficients while the waves are computed."""
    buffers, areas, ready, free = gathered
    places, lines, full, empty = found
    F: tl.constexpr = c.D // 2
    UNITS: tl.constexpr = 8  # at a time, of which there are registers for
    layout: tl.constexpr = gl.BlockedLayout([c.rows // (32 * gl.num_warps()), 8], [32, 1], [gl.num_warps(), 1], [1, 0])
    rows: tl.constexpr = gl.SliceLayout(1, layout)
    flat: tl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    PARTS: tl.constexpr = F // UNITS
    slot = tl.program_id(0) * 0
    phase = slot
    place_slot = slot
    place_phase = slot
    n = gl.arange(0, UNITS, layout=gl.SliceLayout(0, layout))
    mbarrier.wait(full.index(place_slot), place_phase)
    base, rel_y, rel_x, cell_y, cell_x, area = located(
        tile_number(0, total), place_slot, places, lines, hidden, pixels, tiles, rows, flat, c
    )
    along_y = tl.load(base + (2 * F + n)[None, :])
    along_x = tl.load(base + (3 * F + n)[None, :])
    for i in range(0, tile_count(total)):
        mbarrier.wait(free.index(slot), phase ^ 1)
        areas.index(slot).store(area)
        h = buffers.index(slot)
        for part in gl.static_range(PARTS):
            k = part * UNITS + n
            angle = angles(along_y.to(tl.float32), along_x.to(tl.float32), rel_y, rel_x, cell_y, cell_x, w_phase, k, c)
            of_cosines = tl.load(base + k[None, :])
            of_sines = tl.load(base + (F + k)[None, :])
            if part + 1 == PARTS:
                mbarrier.arrive(empty.index(place_slot), count=1)
                place_slot, place_phase = advance(place_slot, place_phase, PLACES)
                mbarrier.wait(full.index(place_slot), place_phase)
                base, rel_y, rel_x, cell_y, cell_x, area = located(
                    tile_number(i + 1, total), place_slot, places, lines, hidden, pixels, tiles, rows, flat, c
                )
                k = n - UNITS
            along_y = tl.load(base + (2 * F + UNITS + k)[None, :])
            along_x = tl.load(base + (3 * F + UNITS + k)[None, :])
            cosine, sine = waves(angle, False)
            h.slice(part * UNITS, UNITS, dim=1).store((cosine * of_cosines.to(tl.float32)).to(h.dtype))
            h.slice(F + part * UNITS, UNITS, dim=1).store((sine * of_sines.to(tl.float32)).to(h.dtype))
            if part + 1 == PARTS:
                fence_async_shared()
            synchronize()  # or the compiler loads more ahead than there are registers for
        mbarrier.arrive(ready.index(slot), count=1)
        slot, phase = advance(slot, phase, TILES)
