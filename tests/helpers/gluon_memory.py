"""What the stand-in for Gluon (gluon_on_cpu) holds in global memory, its numbers and the one instruction on them."""

from __future__ import annotations

import math
import types
from typing import Any

import numpy as np
import torch
import triton.language as tl

NUMPY = {tl.bfloat16: np.uint16, tl.float16: np.float16, tl.float32: np.float32, tl.int32: np.int32}
GARBAGE = {tl.bfloat16: 0x7FC0, tl.float16: np.nan, tl.float32: np.nan, tl.int32: -(2**31)}  # NaN but for integers


def widened(data: np.ndarray, dtype: tl.dtype) -> np.ndarray:
    """float32 of what the interpreter holds; of bfloat16 it holds the bits."""
    if dtype == tl.bfloat16:
        return (data.astype(np.uint32) << 16).view(np.float32)
    return data.astype(np.float32)


def number(x: Any) -> int:
    return int(x.handle.data.flat[0]) if isinstance(x, tl.tensor) else int(x)


def assembly(text: str, constraints: str, values: list, *, dtype: tl.dtype, is_pure: bool, pack: int) -> tl.tensor:
    """The instruction that rounds two float32 after a ReLU that lets NaN pass."""
    name = {tl.bfloat16: "bf16x2", tl.float16: "f16x2"}[dtype]
    # its first operand becomes the upper half, which is the second of two values
    assert (text, constraints, pack) == (f"cvt.rn.relu.{name}.f32 $0, $2, $1;", "=r,r,r", 2)
    return tl.maximum(values[0], 0.0, propagate_nan=tl.PropagateNan.ALL).to(dtype)


class Descriptor:
    """Of a tensor in global memory, by blocks."""

    def __init__(self, tensor: torch.Tensor, block: list[int], layout: Any) -> None:
        self.dtype, self.layout, self.block = getattr(tl, str(tensor.dtype)[6:]), layout, block
        self.data = tensor.view(torch.int16).numpy().view(NUMPY[self.dtype])
        self.block_type = types.SimpleNamespace(nbytes=2 * math.prod(block))

    def inside(self, at: list) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where in the tensor, and in a block, is what both have of the block at a place."""
        begins = [number(n) for n in at]
        ends = [min(n + b, size) for n, b, size in zip(begins, self.block, self.data.shape, strict=True)]
        firsts = [max(n, 0) for n in begins]
        ends = [max(first, end) for first, end in zip(firsts, ends, strict=True)]
        whole = tuple(slice(first, end) for first, end in zip(firsts, ends, strict=True))
        own = tuple(slice(f - n, e - n) for f, e, n in zip(firsts, ends, begins, strict=True))
        return whole, own

    @staticmethod
    def from_tensor(tensor: torch.Tensor, block: list[int], layout: Any) -> Descriptor:
        return Descriptor(tensor, block, layout)
