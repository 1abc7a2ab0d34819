"""csrc/cuda's kernels, compiled by g++ and run on the CPU (cuda_on_cpu.h): values, barriers, bounds.

What only a GPU shows (launches, streams, its own instructions for 16-bit numbers, speed) is in
tests/gpu.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from cuda_kernels import COMPILER, SHAPES, TOLERANCE, TYPES, backward, compiled, forward, gathered, library, sample
from torch.testing import assert_close

from liif_fast import reference
from liif_fast.head import ops, row_lists

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


@pytest.fixture(scope="module")
def kernels():
    return library()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("cell", [True, False])
def test_values_and_gradients(kernels, shape, dtype, ensemble, cell):
    args = (*sample(dtype, *shape, cell=cell, grid=shape[3] == 300), ensemble)
    check(kernels, args)


def check(kernels, args):
    hidden, dtype = args[0], args[0].dtype
    h, weight = forward(kernels, *args)
    want_h, want_weight = ops.PLAIN["corner_gather"](*args)
    assert_close(h, want_h, **TOLERANCE[dtype])
    assert_close(weight, want_weight, rtol=0, atol=0)

    grad_h = torch.randn(h.shape).to(dtype)
    back = (grad_h, h, *args[1:4], hidden.shape[1:3], *args[4:])
    exact_hidden, exact_w_pos = exact_gradients(*back)
    # sums of up to a thousand numbers, that of a pixel rounded to hidden's type
    precise = {"rtol": 1e-13, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-4}
    rounded = {name: max(value, TOLERANCE[dtype][name]) for name, value in precise.items()}
    for ordered in (False, True):
        grad_hidden, grad_w_pos = backward(kernels, *back, ordered=ordered)
        assert_close(grad_hidden.double(), exact_hidden, **rounded)
        assert_close(grad_w_pos.double(), exact_w_pos, **precise)


def exact_gradients(grad_h, h, coord, cell, w_pos, hidden_size, size, origin, ensemble):
    """The gradient's definition: pixels and offsets in coord's precision, sums in float64."""
    index, rel, _ = reference.corners(coord, size, ensemble)
    image = torch.arange(len(coord)).view(-1, 1, 1)
    row = (image * hidden_size[0] + index[..., 0] - origin[0]) * hidden_size[1] + index[..., 1] - origin[1]
    grad = (grad_h.double() * (h > 0)).flatten(0, 2)
    grad_hidden = torch.zeros(len(coord) * hidden_size[0] * hidden_size[1], h.shape[-1], dtype=torch.float64)
    grad_hidden.index_add_(0, row.flatten(), grad)
    pos = torch.zeros(*rel.shape[:3], 4, dtype=rel.dtype)
    pos[..., :2] = rel
    if cell is not None:
        pos[..., 2:] = (cell * torch.tensor(size)).unsqueeze(-2)
    return grad_hidden.view(len(coord), *hidden_size, -1), grad.t() @ pos.double().flatten(0, 2)


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_that_are_not_aligned(kernels, dtype):
    """A whole number of 16-byte pieces, which begin in between."""
    hidden, *rest = sample(dtype, 1, (5, 7), 16, 50)
    shifted = torch.empty(hidden.numel() + 1, dtype=dtype)[1:].view_as(hidden).copy_(hidden)
    assert shifted.data_ptr() % 16 != 0
    for got, want in zip(forward(kernels, shifted, *rest), forward(kernels, hidden, *rest), strict=True):
        assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_part_of_a_map_gives_the_whole_ones_rows_or_nan(kernels, dtype):
    hidden, coord, cell, w_pos, size, _ = sample(dtype, 1, (9, 11), 16, 300)
    origin, part = (2, 3), hidden[:, 2:7, 3:9].contiguous()
    whole = forward(kernels, hidden, coord, cell, w_pos, size, (0, 0))
    got = forward(kernels, part, coord, cell, w_pos, size, origin)
    index = reference.corners(coord, size)[0] - torch.tensor(origin)
    inside = ((index >= 0) & (index < torch.tensor(part.shape[1:3]))).all(-1)
    assert inside.any()
    assert not inside.all()
    assert_close(got[0][inside], whole[0][inside], rtol=0, atol=0)
    assert got[0][~inside].isnan().all()
    complete = inside.all(-1)
    assert_close(got[1][complete], whole[1][complete], rtol=0, atol=0)
    assert got[1][~complete].isnan().all()
    # and such rows have no gradient
    ones = torch.ones_like(got[0])
    back = (ones, got[0], coord, cell, w_pos, part.shape[1:3], size, origin)
    grad_hidden, _ = backward(kernels, *back)
    assert grad_hidden.isfinite().all()
    assert_close(backward(kernels, *back, ordered=True)[0], grad_hidden, **TOLERANCE[dtype])


def test_no_channels(kernels):
    args = sample(torch.float32, 1, (3, 4), 0, 70)
    _, rel, weight = reference.corners(args[1], (3, 4))
    assert torch.equal(forward(kernels, *args)[1], weight)
    assert all(map(torch.equal, gathered(kernels, *args[:2], *args[4:])[1:], (rel, weight)))


@pytest.mark.parametrize("dtype", TYPES)
def test_nan_and_infinity(kernels, dtype):
    args = list(sample(dtype, 1, (4, 5), 16, 6))
    args[1][0, :3] = torch.tensor([[float("nan"), 0], [float("inf"), 0], [0, -1e30]])
    h, weight = forward(kernels, *args)
    want_h, want_weight = ops.PLAIN["corner_gather"](*args)
    assert h[0, 0].isnan().all()
    assert_close(h, want_h, equal_nan=True, **TOLERANCE[dtype])
    assert_close(weight, want_weight, equal_nan=True, rtol=0, atol=0)


def test_sums_in_a_given_order_repeat_exactly(kernels):
    hidden, *rest = sample(torch.float32, 2, (3, 4), 24, 500)
    h, _ = forward(kernels, hidden, *rest)
    back = (torch.randn(h.shape), h, *rest[:3], (3, 4), *rest[3:])
    first, *others = [backward(kernels, *back, ordered=True) for _ in range(3)]
    for other in others:
        assert all(map(torch.equal, other, first))
    back = (back[0], None, rest[0], None, None, *back[5:])
    first, *others = [backward(kernels, *back, ordered=True)[0] for _ in range(3)]
    assert all(torch.equal(other, first) for other in others)


@pytest.mark.parametrize("queries", [100, 3000])
@pytest.mark.parametrize("ensemble", [True, False])
def test_lists_hold_every_row_once_in_its_own_order(queries, ensemble):
    coord = torch.rand(2, queries, 2) * 2.2 - 1.1
    after, first = row_lists.row_lists(coord, (3, 4), (5, 6), (1, 1), ensemble)
    segments, K, lists = row_lists.segments_of(24, after.numel()), 4 if ensemble else 1, 2 if ensemble else 1
    assert (segments > 1) == (queries == 3000)
    assert first.numel() == 24 * segments * lists
    found = []
    for i, number in enumerate(first.tolist()):
        members = []
        while number:
            members.append(number - 1)
            number = after[number - 1].item()
        assert members == sorted(members)
        assert all(member // K % segments == i // lists % segments for member in members)
        found += members
    assert sorted(found) == list(range(after.numel()))


def test_few_pixels_have_several_segments():
    """Enough for all groups of threads, where rows are enough."""
    assert row_lists.segments_of(16 * 48 * 48, 4 * 16 * 2304) == 1  # training
    assert row_lists.segments_of(1, 10) == 1
    assert row_lists.segments_of(4, 4_000_000) == 1024
    assert row_lists.segments_of(1, 4 * 64) == 8
    assert row_lists.segments_of(4095, 10**9) == 2
    header = (HERE.parents[1] / "csrc" / "cuda" / "gather.h").read_text(encoding="utf-8")
    assert "kEnough = 4096, kLeast = 32" in header  # the same rule there


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_many_queries_on_few_pixels(kernels, dtype, ordered):
    """Sums of 500 and more rows, in segments, for one pixel and for four."""
    for size, d, ensemble in (((1, 1), 16, True), ((2, 2), 13, True), ((2, 2), 264, False)):
        hidden, *rest = sample(dtype, 1, size, d, 600)
        assert row_lists.segments_of(size[0] * size[1], 600 * (4 if ensemble else 1)) > 1
        h, _ = forward(kernels, hidden, *rest, ensemble)
        back = (torch.randn(h.shape).to(dtype), h, *rest[:3], size, *rest[3:], ensemble)
        want = ops.PLAIN["corner_gather_backward"](*back)
        for got, exact in zip(backward(kernels, *back, ordered=ordered), want, strict=True):
            scale = exact.abs().max()  # sums of some hundred terms in another order, rounded once
            bound = max(1e-5, 2 * torch.finfo(dtype).eps) * scale
            assert ((got - exact).abs() <= bound).all()


@pytest.fixture(scope="module")
def under_thread_sanitizer():
    return compiled("races", "-fsanitize=thread")


def run(program, *arguments, **environment):
    for _ in range(20):
        process = subprocess.run(
            [program, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
        )
        # where Linux puts a program at random, the sanitizer now and then finds its own addresses taken
        if "unexpected memory mapping" not in process.stderr:
            break
    return process


def test_no_races(under_thread_sanitizer):
    process = run(under_thread_sanitizer)
    assert (process.returncode, process.stdout) == (0, "done\n"), process.stderr[:4000]


def test_a_missing_barrier_would_be_found(under_thread_sanitizer):
    """Threads that wait for each other without a barrier's promise (only_wait): the same accesses in the same order."""
    process = run(under_thread_sanitizer, "without-barriers", TSAN_OPTIONS="halt_on_error=1")
    assert process.returncode != 0
    assert "data race" in process.stderr


def test_nothing_out_of_bounds():
    process = run(compiled("bounds", "-fsanitize=address"))
    assert (process.returncode, process.stdout) == (0, "done\n"), process.stderr[:4000]
