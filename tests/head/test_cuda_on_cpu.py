"""csrc/cuda's kernels, compiled by g++ and run on the CPU (cuda_on_cpu.h): values, barriers, bounds.

What only a GPU shows (launches, streams, its own instructions for 16-bit numbers, speed) is in
tests/gpu.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from built_once import built_once, sources, version
from torch.testing import assert_close

from liif_fast import reference
from liif_fast.head import ops, precision, row_lists

HERE = Path(__file__).parent
COMPILER = shutil.which("g++") or shutil.which("clang++")
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]  # in the order of HiddenType, double behind
FLAGS = ["-std=c++17", "-g", "-ffp-contract=off", "-pthread", "-Wno-unknown-pragmas"]

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")

# The kernels add in another order than matrix products do: float32 and float64 to a few units in the last place of sums
# of magnitude up to 100; 16-bit results are rounded once more, to 8 and 11 bits.
TOLERANCE = {
    torch.float32: {"rtol": 2e-6, "atol": 2e-5},
    torch.bfloat16: {"rtol": 2**-7, "atol": 2e-5},
    torch.float16: {"rtol": 2**-10, "atol": 2e-5},
    torch.float64: {"rtol": 1e-14, "atol": 1e-13},
}


def compiled(name, *flags):
    source = HERE / "cuda_on_cpu.cpp"

    def make(folder):
        done = subprocess.run([COMPILER, *FLAGS, *flags, source, "-o", folder / name], stderr=subprocess.PIPE)
        if b"cannot find" in done.stderr and any("sanitize" in flag for flag in flags):
            pytest.skip("the sanitizer's library is missing")
        assert done.returncode == 0, done.stderr.decode()

    inputs = [source, HERE / "cuda_on_cpu.h", *sources("csrc"), *FLAGS, *flags, version(COMPILER)]
    return built_once(f"cuda_on_cpu_{name}", inputs, make) / name


@pytest.fixture(scope="module")
def kernels():
    library = ctypes.CDLL(str(compiled("kernels.so", "-O1", "-shared", "-fPIC")))
    for name in ("forward", "backward"):
        getattr(library, name).restype = ctypes.c_char_p
    return library


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


# B, hidden map, D, Q. With 64 threads in a block: rows of 16 bytes and ragged ones, D of several blocks, one query, one
# pixel, more tiles of 64 queries than the backward pass has blocks
SHAPES = [
    (1, (5, 7), 16, 300),
    (2, (3, 2), 13, 65),
    (1, (1, 1), 264, 64),
    (3, (4, 1), 520, 1),
    (1, (2, 3), 1, 130),
]


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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ensemble", [True, False])
def test_rows_as_they_are(kernels, shape, dtype, ensemble):
    hidden, coord, _, _, *where = sample(dtype, *shape, grid=shape[3] == 300)
    given = (hidden, coord, *where, ensemble)
    got = gathered(kernels, *given)
    for one, want in zip(got, ops.PLAIN["gather_corners"](*given), strict=True):
        assert torch.equal(one, want)
    grad = torch.randn(got[0].shape).to(dtype)
    exact = ops.PLAIN["gather_corners_backward"](grad.double(), coord.double(), where[0], *where, ensemble)
    if dtype != torch.float64:  # the pixels that float32 chooses
        index, _, _ = reference.corners(coord, where[0], ensemble)
        exact = torch.zeros(len(coord), *where[0], grad.shape[-1], dtype=torch.float64)
        exact.index_put_((torch.arange(len(coord)).view(-1, 1, 1), *index.unbind(-1)), grad.double(), accumulate=True)
    # sums of up to a thousand numbers, rounded once to the type
    tolerance = {"rtol": 1e-13, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-4}
    tolerance = {name: max(value, TOLERANCE[dtype][name]) for name, value in tolerance.items()}
    for ordered in (False, True):
        found, nothing = backward(kernels, grad, None, coord, None, None, where[0], *where, ensemble, ordered)
        assert nothing is None
        assert_close(found.double(), exact, **tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ensemble", [True, False])
def test_every_bit_of_a_row_as_it_is(kernels, dtype, ensemble):
    """NaN with what it carries, infinity, -0, subnormal numbers; rows of 16 bytes and ragged ones, not aligned ones."""
    for d, shift in ((16, 0), (13, 0), (16, 1)):
        _, coord, _, _, *where = sample(dtype, 1, (4, 5), d, 60)
        memory = torch.randint(-128, 128, (1, 20 * d * dtype.itemsize + 16), dtype=torch.int8)
        hidden = memory.view(dtype).flatten()[shift : shift + 20 * d].view(1, 4, 5, d)
        rows, _, _ = gathered(kernels, hidden, coord, *where, ensemble)
        want, _, _ = ops.PLAIN["gather_corners"](hidden, coord, *where, ensemble)
        assert torch.equal(rows.contiguous().view(torch.uint8), want.view(torch.uint8))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ensemble", [True, False])
def test_rows_of_a_part_are_the_whole_ones_or_nan(kernels, dtype, ensemble):
    hidden, coord, _, _, size, _ = sample(dtype, 1, (9, 11), 16, 300)
    coord[0, 0, 0] = float("nan")  # pixel 0, which the part does not hold, for which it takes the nearest
    origin, part = (2, 3), hidden[:, 2:7, 3:9].contiguous()
    whole = gathered(kernels, hidden, coord, size, (0, 0), ensemble)
    got = gathered(kernels, part, coord, size, origin, ensemble)
    assert all(t[0, 0].isnan().all() for t in got[2:])
    index = reference.corners(coord, size, ensemble)[0] - torch.tensor(origin)
    inside = ((index >= 0) & (index < torch.tensor(part.shape[1:3]))).all(-1)
    inside[0, 0] = False
    outside = ~inside
    outside[0, 0] = False
    assert inside.any() and outside.any()  # noqa: PT018
    assert torch.equal(got[0][inside], whole[0][inside])
    assert torch.equal(got[1][inside], whole[1][inside])
    assert torch.equal(got[2][inside.all(-1)], whole[2][inside.all(-1)])
    assert got[0][outside].isnan().all()
    assert got[1][outside].isnan().any(-1).all()
    assert got[2][outside.any(-1)].isnan().all()
    # and such rows have no gradient, even where it is not finite
    grad = torch.ones_like(got[0])
    grad[outside] = float("nan")
    grad[0, 0] = 0
    want = torch.zeros_like(part).double()
    want[0].index_put_(index[inside].unbind(-1), grad[inside].double(), accumulate=True)
    for ordered in (False, True):
        back = (grad, None, coord, None, None, part.shape[1:3], size, origin, ensemble, ordered)
        assert torch.equal(backward(kernels, *back)[0].double(), want)


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
