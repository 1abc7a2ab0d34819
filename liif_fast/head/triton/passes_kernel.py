"""The kernel of ``head.passes``; imports triton, so only when it is run."""

from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor

VALUES = 4096  # of a block of threads at a time, 16 of each
OPTIONS = {"num_warps": 8, "enable_fp_fusion": False}


@triton.jit
def kernel(x, y, partial, R, D, RELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """x = x where y > 0 and elsewhere 0, or x + y; partial [programs, D]: column sums of the rows of each program."""
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < D
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    for block in range(tl.program_id(0).to(tl.int64), tl.cdiv(R, ROWS), tl.num_programs(0)):
        row = block * ROWS + tl.arange(0, ROWS)
        at = row[:, None] * D + column[None, :]
        here = (row < R)[:, None] & inside[None, :]
        a = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
        b = tl.load(y + at, mask=here, other=0.0).to(tl.float32)
        a = tl.where(b <= 0, 0.0, a) if RELU else a + b
        stored = a.to(x.dtype.element_ty)
        tl.store(x + at, stored, mask=here)
        sums += stored.to(tl.float32)
    tl.store(partial + tl.program_id(0) * D + column, tl.sum(sums, 0), mask=inside)


def relu_backward(grad: Tensor, out: Tensor) -> Tensor:
    """See ``head.passes``."""
    return _run(grad, out, True)


def add(x: Tensor, y: Tensor) -> Tensor:
    """See ``head.passes``."""
    return _run(x, y, False)


def shape_of_block(D: int) -> tuple[int, int]:
    """Rows and columns."""
    columns = min(triton.next_power_of_2(D), 256)
    return VALUES // columns, columns


def _run(x: Tensor, y: Tensor, relu: bool) -> Tensor:
    R, D = x.shape
    rows, columns = shape_of_block(D)
    on_device = torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
    at_a_time = 4 * torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 3
    programs = min(triton.cdiv(R, rows), at_a_time)
    partial = torch.empty(programs, D, dtype=torch.float32, device=x.device)
    with on_device:
        kernel[(programs, triton.cdiv(D, columns))](
            x, y, partial, R, D, RELU=relu, ROWS=rows, COLUMNS=columns, **OPTIONS
        )
    return partial
