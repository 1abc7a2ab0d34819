"""The fused kernel for sm_90 in Gluon: warps that do different things at the same time (``partitions``).

    locate    1 warp    where a tile's queries look: rows of the hidden map, relative coordinates, areas
    gather    2 warps   the first layer of a tile, into one of TILES buffers in shared memory
    produce   1 warp    the hidden layers' weights by TMA, through a ring of blocks [D, c.piece] (outputs, inputs)
    consume   2 x 4     every other tile: hidden layers in place in the tile's buffer, output layer, blend

Each hands its results on through mbarriers and runs ahead as far as there is room. The two consumers use the same
blocks of weights, each block is replaced when both have used it; while one activates, the other multiplies. A last tile
without a partner is computed by both, which store the same values.

Numbers are those of the other structures (``layers``), except that biases are added to the finished sums, and that ReLU
and rounding are one instruction; bfloat16 and float16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton.language as tl
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from .configs import SHARED, Config, candidates
from .gather_waves import gather_waves
from .partitions import FLIGHT, PLACES, TILES, consume, gather, locate, produce

if TYPE_CHECKING:
    from .render import Head


def descriptor(weights: Tensor, piece: int) -> TensorDescriptor:
    """Of weights [L * D, D], for the kernel."""
    block = [weights.shape[1], piece]
    return TensorDescriptor.from_tensor(
        weights, block, gl.NVMMASharedLayout.get_default_for(block, getattr(tl, str(weights.dtype)[6:]))
    )


def interleaved(w_out: Tensor, channels: int) -> Tensor:
    """w_out [2 * padded, D], rounded weights above what rounding lost, as pairs of rows for the kernel: as few as its
    products take."""
    few = _outputs(w_out, channels) // 2
    high, low = w_out.unflatten(0, (2, -1))
    return torch.stack([high[:few], low[:few]], 1).flatten(0, 1)


def _outputs(w_out: Tensor, channels: int) -> int:
    return 8 if channels <= 4 else len(w_out)


def fitted(config: Config, head: Head, cell: bool) -> Config:
    """config with as many blocks in the ring as there is shared memory for. The biases take some of it: of a head with
    very many layers so much that the consumers would wait for ever, and another structure runs."""
    D, outputs = head.weights.shape[1], _outputs(head.w_out, len(head.b_out))
    others = 2 * D * (TILES.value * config.rows + outputs) + 4 * head.vectors.numel()  # buffers, output layer, biases
    others += 4 * config.rows * (TILES.value + PLACES.value * (6 if cell else 4))
    others += 4 * config.rows * outputs + 512  # a layout's conversion; barriers and the warps' states
    stages = min(config.stages, (SHARED[90] - others) // (2 * D * config.piece))
    if stages > FLIGHT.value:
        return config._replace(stages=stages)
    return next(c for c in candidates(90, "half", D) if c.structure != "gluon")


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
    """As ``kernels.fused``, but that blocks share ``total`` tiles; weights: descriptor of [L * D, D] by blocks
    [D, c.piece]; w_out: see ``interleaved``."""
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
            (gather_waves if c.waves else gather, (gathered, found, hidden, pixels, tiles, total, w_pos, c)),
            (locate, (found, coord, cell, coord_image, cell_image, width, strides, queries, tiles, total, y, x, c)),
            (produce, (weights, streamed, total, c)),
        ],
        [4, 2, 1, 1],
        [208, 96, 96, 24],  # registers; what is left, the first consumer gets
    )
