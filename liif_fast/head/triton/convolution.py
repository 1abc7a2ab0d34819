"""3x3 convolution of 64 channels for sm_90 in Gluon: bias, ReLU or residual in the same pass; bfloat16 and float16.

    produce   2 x 1 warp   a consumer's pixels and residuals by TMA, through a ring of parts of a row [columns, 64]
    consume   2 x 4        products, bias, ReLU or residual, and the result to memory by TMA from the ring

A consumer goes down a strip of the image. It gets every row three times, shifted by a column each time, and multiplies
it for the three rows of outputs that it is part of: only a row above and one below a strip are read again. All weights
of 64 outputs stay in shared memory. Products are weights [64, 64] of a tap times pixels [64, columns]: as the
right-hand side, of 128 columns, pixels are read at a rate that shared memory has, as the left-hand side they are not.
Beyond the image TMA fills in zeros, and stores nothing. Convolutions to several times 64 channels are as many parts, a
block has one.

Sums, bias, ReLU and residual are in float32, in an order that does not change; rounded once.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch
import triton
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

from . import render
from .partitions import load_block, relu, synchronize
from .specialised import barriers

# what Gluon has renamed since triton 3.6, as in partitions
store_block = tma.async_store if hasattr(tma, "async_store") else tma.async_copy_shared_to_global

CHANNELS: tl.constexpr = tl.constexpr(64)
CONSUMERS: tl.constexpr = tl.constexpr(2)


class Config(NamedTuple):
    """How the kernel runs."""

    columns: int  # pixels of a row that are multiplied at a time
    stages: int  # such rows of pixels on their way to each consumer


CONFIG = Config(128, 4)


class Constants(NamedTuple):
    """What the kernel is compiled for."""

    columns: int
    stages: int
    parts: int  # of 64 outputs each
    mode: str  # "plain", "relu" or "residual"


@gluon.jit
def job_count(which, total, c: tl.constexpr):
    """Strips that this consumer of this block computes."""
    step = CONSUMERS * (tl.num_programs(0) // c.parts)
    return (total - CONSUMERS * (tl.program_id(0) // c.parts) - which + step - 1) // step


@gluon.jit
def job_place(which, i, rows, down, across, c: tl.constexpr):
    """Image, first row and first column of this consumer's strip i."""
    number = CONSUMERS * (tl.program_id(0) // c.parts + i * (tl.num_programs(0) // c.parts)) + which
    in_image = number % (down * across)
    return number // (down * across), in_image // across * rows, in_image % across * c.columns


@gluon.jit
def produce(which, x, weights, residual, shared, geometry, c: tl.constexpr):
    """What a consumer reads, row by row: pixels three times, then the residual; by the first of them, all weights."""
    taps, there, ring, full, empty = shared
    rows, total, down, across = geometry
    part = tl.program_id(0) % c.parts
    if which == 0:
        mbarrier.expect(there, 9 * weights.block_type.nbytes)
        for tap in gl.static_range(9):
            load_block(weights, [part * CHANNELS, tap * CHANNELS], there, taps.index(tap))
    n = tl.program_id(0) * 0
    for i in range(0, job_count(which, total, c)):
        image, row, column = job_place(which, i, rows, down, across, c)
        for k in range(0, rows + 2):
            for shift in gl.static_range(3):
                slot = n % c.stages
                mbarrier.wait(empty.index(slot), (n // c.stages & 1) ^ 1)
                mbarrier.expect(full.index(slot), x.block_type.nbytes)
                load_block(x, [image, row + k - 1, column + shift - 1, 0], full.index(slot), ring.index(slot))
                n += 1
            if c.mode == "residual":  # noqa: SIM102  # known when it is compiled
                if k >= 2:
                    slot = n % c.stages
                    mbarrier.wait(empty.index(slot), (n // c.stages & 1) ^ 1)
                    mbarrier.expect(full.index(slot), residual.block_type.nbytes)
                    load_block(residual, [image, row + k - 2, column, 0], full.index(slot), ring.index(slot))
                    n += 1


@gluon.jit
def consume(which, shared, bias, scale, out, geometry, c: tl.constexpr):
    """Strips, from above down."""
    there = shared[1]
    rows, total, down, across = geometry
    layout: tl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, c.columns, 16])
    SUMS: tl.constexpr = [CHANNELS, c.columns]
    part = tl.program_id(0) % c.parts
    b = tl.load(bias + part * CHANNELS + gl.arange(0, CHANNELS, layout=gl.SliceLayout(1, layout))).to(tl.float32)
    n = tl.program_id(0) * 0
    mbarrier.wait(there, 0)
    for i in range(0, job_count(which, total, c)):
        image, row, column = job_place(which, i, rows, down, across, c)
        at = (image, row, column, part * CHANNELS)
        u = gl.zeros(SUMS, gl.float32, layout=layout)
        v = gl.zeros(SUMS, gl.float32, layout=layout)
        w = gl.zeros(SUMS, gl.float32, layout=layout)
        v, w, u, n = multiply(v, w, u, n, 1, shared, c)
        w, u, v, n = multiply(w, u, v, n, 2, shared, c)
        for k in range(0, rows, 3):  # sums take turns, and stay in their registers
            u, v, w, n = multiply(u, v, w, n, 3, shared, c)
            n = finish(u, k, n, at, shared, b, scale, out, c)
            v, w, u, n = multiply(v, w, u, n, 3, shared, c)
            n = finish(v, k + 1, n, at, shared, b, scale, out, c)
            w, u, v, n = multiply(w, u, v, n, 3, shared, c)
            n = finish(w, k + 2, n, at, shared, b, scale, out, c)
    tma.store_wait(0)
    synchronize()


@gluon.jit
def multiply(last, middle, first, n, COUNT: tl.constexpr, shared, c: tl.constexpr):
    """The next row of pixels, for the three rows of outputs that it is part of: last gets its last products, first its
    first ones."""
    taps, _, ring, full, empty = shared
    for shift in range(0, 3):
        slot = n % c.stages
        mbarrier.wait(full.index(slot), n // c.stages & 1)
        pixels = ring.index(slot).reshape([c.columns, CHANNELS]).permute((1, 0))
        if COUNT > 2:
            last = warpgroup_mma(taps.index(6 + shift), pixels, last, is_async=True)
        if COUNT > 1:
            middle = warpgroup_mma(taps.index(3 + shift), pixels, middle, is_async=True)
        first = warpgroup_mma(taps.index(shift), pixels, first, use_acc=shift > 0, is_async=True)
        last, middle, first = warpgroup_mma_wait(COUNT, deps=(last, middle, first))
        if n > 0:
            tma.store_wait(0)
            synchronize()
            mbarrier.arrive(empty.index((n - 1) % c.stages), count=1)
        n += 1
    last, middle, first = warpgroup_mma_wait(0, deps=(last, middle, first))
    return last, middle, first, n


@gluon.jit
def finish(s, k, n, at, shared, bias, scale, out, c: tl.constexpr):
    """Bias, ReLU or residual, and row k of a strip to memory, in the place of what was read last."""
    _, _, ring, full, empty = shared
    image, row, column, channel = at
    TYPE: tl.constexpr = out.dtype
    BLOCK: tl.constexpr = [c.columns, CHANNELS]
    layout: tl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, c.columns, 16])
    s += bias[:, None]
    if c.mode == "residual":
        mbarrier.arrive(empty.index((n - 1) % c.stages), count=1)
        mbarrier.wait(full.index(n % c.stages), n // c.stages & 1)
        n += 1
    slot = ring.index((n - 1) % c.stages)
    block = slot.reshape(BLOCK).permute((1, 0))
    if c.mode == "residual":
        s = block.load(layout).to(tl.float32) + scale * s
    if c.mode == "relu":
        block.store(relu(s, TYPE))
    else:
        block.store(s.to(TYPE))
    fence_async_shared()
    synchronize()
    store_block(out, [image, row + k, column, channel], slot)
    return n


@gluon.jit(do_not_specialize=["scale", "rows", "total", "down", "across"])
def kernel(x, weights, bias, residual, scale, out, rows, total, down, across, c: tl.constexpr):
    """Descriptors: x, residual [B, H, W, 64] and out [B, H, W, outputs] by parts of a row; weights [outputs, 9 * 64] by
    taps. total: strips of ``rows`` rows and c.columns columns, down x across in each image."""
    TYPE: tl.constexpr = x.dtype
    taps = gl.allocate_shared_memory(TYPE, [9, CHANNELS, CHANNELS], weights.layout)
    there = barriers(1, 1).index(0)
    ring0 = gl.allocate_shared_memory(TYPE, [c.stages, 1, 1, c.columns, CHANNELS], x.layout)
    ring1 = gl.allocate_shared_memory(TYPE, [c.stages, 1, 1, c.columns, CHANNELS], x.layout)
    full0, empty0 = barriers(c.stages, 1), barriers(c.stages, 1)
    full1, empty1 = barriers(c.stages, 1), barriers(c.stages, 1)
    geometry = (rows, total, down, across)
    of0 = (taps, there, ring0, full0, empty0)
    of1 = (taps, there, ring1, full1, empty1)
    gl.warp_specialize(
        [
            (consume, (0, of0, bias, scale, out, geometry, c)),
            (consume, (1, of1, bias, scale, out, geometry, c)),
            (produce, (0, x, weights, residual, of0, geometry, c)),
            (produce, (1, x, weights, residual, of1, geometry, c)),
        ],
        [4, 1, 1],
        [240, 24, 24],  # registers; what is left, the first consumer gets
    )


def convolve(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    *,
    relu: bool = False,
    residual: Tensor | None = None,
    scale: float = 1.0,
    config: Config = CONFIG,
) -> Tensor:
    """``conv3x3(x, w, b)``, zeros around the image; of that the ReLU, or ``residual + scale * that``.

    Args:
        x: ``[B, 64, H, W]``, channels last, bfloat16 or float16, not empty.
        w: ``[64 n, 64, 3, 3]``, channels last; b: ``[64 n]``.
        residual: as the result, for n = 1.

    Returns:
        ``[B, 64 n, H, W]``, channels last.
    """
    out = torch.empty(
        x.shape[0], len(w), *x.shape[2:], dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    arguments, blocks = plan(x, w, b, relu, residual, scale, out, config)
    with torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
        kernel[(blocks,)](*arguments, **OPTIONS)
    return out


OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


def plan(
    x: Tensor, w: Tensor, b: Tensor, relu: bool, residual: Tensor | None, scale: float, out: Tensor, config: Config
) -> tuple[list[Any], int]:
    """(arguments, number of blocks) of a launch."""
    (B, _, H, W), parts = x.shape, len(w) // 64
    across, resident = triton.cdiv(W, config.columns), max(1, render.multiprocessors(x.device) // parts)
    rows = strip_rows(B, H, across, resident)
    down = triton.cdiv(H, rows)
    total = B * down * across
    block = [1, 1, config.columns, 64]
    pixels, residuals, results = (
        descriptor(t.permute(0, 2, 3, 1).flatten().view(B, H, W, -1), block)  # where H or W is 1, with usual strides
        for t in (x, x if residual is None else residual, out)
    )
    c = Constants(*config, parts, "residual" if residual is not None else "relu" if relu else "plain")
    taps = descriptor(w.permute(0, 2, 3, 1).flatten(1), [64, 64])
    arguments = [pixels, taps, b, residuals, scale, results, rows, total, down, across, c]
    return arguments, parts * min(triton.cdiv(total, 2), resident)


def strip_rows(B: int, H: int, across: int, resident: int) -> int:
    """Rows of a strip, a multiple of 3: one strip for each consumer, if they get long enough. Two rows of each are read
    for its neighbours' sake."""
    return 3 * triton.cdiv(max(min(H, 16), triton.cdiv(H, max(1, 2 * resident // (B * across)))), 3)


def descriptor(t: Tensor, block: list[int]) -> TensorDescriptor:
    layout = gl.NVMMASharedLayout.get_default_for(block, getattr(tl, str(t.dtype)[6:]))
    return TensorDescriptor.from_tensor(t, block, layout)
