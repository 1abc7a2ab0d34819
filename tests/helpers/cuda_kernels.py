"""csrc/cuda's kernels on a CPU: tests/head/cuda_on_cpu.cpp compiled, and its functions for tensors."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from built_once import built_once, sources, version

from liif_fast import reference
from liif_fast.head import precision, row_lists

HERE = Path(__file__).parents[1] / "head"
COMPILER = shutil.which("g++") or shutil.which("clang++")
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]  # in the order of HiddenType, double behind
FLAGS = ["-std=c++17", "-g", "-ffp-contract=off", "-pthread", "-Wno-unknown-pragmas"]


# The kernels add in another order than matrix products do: float32 and float64 to a few units in the last place of sums
# of magnitude up to 100; 16-bit results are rounded once more, to 8 and 11 bits.
TOLERANCE = {
    torch.float32: {"rtol": 2e-6, "atol": 2e-5},
    torch.bfloat16: {"rtol": 2**-7, "atol": 2e-5},
    torch.float16: {"rtol": 2**-10, "atol": 2e-5},
    torch.float64: {"rtol": 1e-14, "atol": 1e-13},
}

# B, hidden map, D, Q. With 64 threads in a block: rows of 16 bytes and ragged ones, D of several blocks, one query, one
# pixel, more tiles of 64 queries than the backward pass has blocks
SHAPES = [
    (1, (5, 7), 16, 300),
    (2, (3, 2), 13, 65),
    (1, (1, 1), 264, 64),
    (3, (4, 1), 520, 1),
    (1, (2, 3), 1, 130),
]


def compiled(name, *flags):
    source = HERE / "cuda_on_cpu.cpp"

    def make(folder):
        done = subprocess.run([COMPILER, *FLAGS, *flags, source, "-o", folder / name], stderr=subprocess.PIPE)
        if b"cannot find" in done.stderr and any("sanitize" in flag for flag in flags):
            pytest.skip("the sanitizer's library is missing")
        assert done.returncode == 0, done.stderr.decode()

    inputs = [source, HERE / "cuda_on_cpu.h", *sources("csrc"), *FLAGS, *flags, version(COMPILER)]
    return built_once(f"cuda_on_cpu_{name}", inputs, make) / name


def library():
    found = ctypes.CDLL(str(compiled("kernels.so", "-O1", "-shared", "-fPIC")))
    for name in ("forward", "backward"):
        getattr(found, name).restype = ctypes.c_char_p
    return found


def pointer(t):
    return None if t is None else ctypes.c_void_p(t.data_ptr())


def numbers(coord, d, hidden_size, size, origin, ensemble, first_layer):
    B, Q, _ = coord.shape
    return (ctypes.c_int64 * 11)(B * Q, Q, d, ensemble, *hidden_size, *size, *origin, first_layer)


def forward(kernels, hidden, coord, cell, w_pos, size, origin, ensemble=True):
    B, Q, _ = coord.shape
    K, d = 4 if ensemble else 1, hidden.shape[-1]
    h, weight = hidden.new_full((B, Q, K, d), -7), coord.new_full((B, Q, K), -7)
    n = numbers(coord, d, hidden.shape[1:3], size, origin, ensemble, True)
    tensors = [pointer(t) for t in (hidden, coord, cell, w_pos)]
    assert kernels.forward(TYPES.index(hidden.dtype), *tensors, n, pointer(h), None, pointer(weight)) is None
    return h, weight


def gathered(kernels, hidden, coord, size, origin, ensemble=True):
    """gather_corners: rows, rel, weight."""
    out = [hidden.new_full((*coord.shape[:2], 4 if ensemble else 1, hidden.shape[-1]), -7)]
    out += [coord.new_full((*out[0].shape[:3], 2), -7), coord.new_full(out[0].shape[:3], -7)]
    n = numbers(coord, hidden.shape[-1], hidden.shape[1:3], size, origin, ensemble, False)
    tensors = [pointer(t) for t in (hidden, coord, None, None)]
    assert kernels.forward(TYPES.index(hidden.dtype), *tensors, n, *map(pointer, out)) is None
    return out


def backward(kernels, grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble=True, ordered=False):
    """Without h and w_pos that of gather_corners."""
    d = grad_h.shape[-1]
    grad_hidden = grad_h.new_full((len(coord), *hidden_size, d), -7)
    grad_w_pos = None if w_pos is None else torch.full_like(w_pos, -7)
    n = numbers(coord, d, hidden_size, size, origin, ensemble, w_pos is not None)
    lists = row_lists.row_lists(coord, hidden_size, size, origin, ensemble) if ordered else (None, None)
    pixels = grad_hidden[..., 0].numel() * (2 if ensemble else 1)
    segments = ctypes.c_int64(lists[1].numel() // pixels if ordered else 0)
    tensors = [pointer(t) for t in (grad_h, h, coord, cell, w_pos)]
    result = [pointer(t) for t in (*lists, grad_hidden, grad_w_pos)]
    assert kernels.backward(TYPES.index(grad_h.dtype), *tensors, n, segments, *result) is None
    return grad_hidden, grad_w_pos


def sample(dtype, B, hidden_size, d, Q, cell=True, grid=False):
    geometry = precision.geometry_dtype(dtype)
    hidden = torch.randn(B, *hidden_size, d).to(dtype)
    coord = torch.rand(B, Q, 2, dtype=geometry) * 2.2 - 1.1
    if grid:  # neighbours share pixels, and so do corners at the edges
        coord = reference.make_coord([4 * n for n in hidden_size], dtype=geometry).expand(B, -1, 2).contiguous()
    c = torch.rand(coord.shape, dtype=geometry) if cell else None
    return hidden, coord, c, torch.randn(d, 4, dtype=geometry), hidden_size, (0, 0)
