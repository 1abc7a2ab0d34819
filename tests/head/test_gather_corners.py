"""gather_corners: the features at each query's corners for any head, against reference.corners and indexing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from corner_rows import indexed, pieces, rows_sample
from cpu_paths import PATHS, forced
from torch.testing import assert_close

from liif_fast import functional, reference
from liif_fast.head import ops

LIB = torch.ops.liif_fast
GATHER, BACKWARD = LIB.gather_corners.default, LIB.gather_corners_backward.default
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
F64 = torch.float64


@pytest.fixture(params=PATHS or ["none"])
def path(request):
    """Forces one instruction set, where there are compiled kernels."""
    if request.param == "none":
        yield request.param
        return
    with forced(request.param):
        yield request.param


def same_bits(a, b):
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


@pytest.mark.parametrize("D", [1, 5, 16, 64, 100, 512])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ensemble", [True, False])
def test_values_and_gradients(path, dtype, D, ensemble):
    for size in ((5, 7), (1, 1), (2, 3)):
        hidden, coord = rows_sample(dtype, D=D, size=size)
        given = (hidden, coord, size, (0, 0), ensemble)
        got, want = GATHER(*given), indexed(*given[:4], ensemble=ensemble)
        assert all(map(same_bits, got, want))
        grad_rows = torch.randn(got[0].shape).to(dtype)
        found = BACKWARD(grad_rows, coord, size, size, (0, 0), ensemble)
        assert found.dtype == dtype
        exact = hidden.double().requires_grad_()
        rows, _, _ = indexed(exact, coord, size, ensemble=ensemble)
        (exact,) = torch.autograd.grad(rows, exact, grad_rows.double())
        # sums of up to 148 numbers in the geometry's precision, rounded once to the type
        tolerance = {torch.float32: 1e-5, torch.float64: 1e-13}.get(dtype, torch.finfo(dtype).eps)
        assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("ensemble", [True, False])
def test_the_official_code_reads_the_same(ensemble):
    """For each corner one grid_sample of the features and one of the pixel centres."""
    feat, (B, H, W) = torch.randn(2, 6, 5, 7), (2, 5, 7)
    coord = torch.cat([reference.make_coord((23, 19))[None].expand(2, -1, 2), torch.rand(2, 300, 2) * 2 - 1], 1)
    rows, rel, _ = functional.gather_corners(feat, coord, ensemble)
    centres = reference.make_coord((H, W), flatten=False).permute(2, 0, 1).expand(B, 2, H, W)
    signs, epsilon = ((-1, 1), 1e-6) if ensemble else ((0,), 0.0)
    shifts = [(v_y / H + epsilon, v_x / W + epsilon) for v_y in signs for v_x in signs]
    for k, shift in enumerate(shifts):
        at = torch.stack([coord[..., i] + shift[i] for i in range(2)], -1).clamp(-1 + 1e-6, 1 - 1e-6)
        z, centre = (
            F.grid_sample(t, at.flip(-1).unsqueeze(1), mode="nearest", align_corners=False)[:, :, 0].transpose(1, 2)
            for t in (feat, centres)
        )
        assert torch.equal(rows[:, :, k], z)
        assert_close(rel[:, :, k], (coord - centre) * torch.tensor([H, W]), rtol=0, atol=2e-6)  # centres of size 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bit_of_a_row_as_it_is(path, dtype):
    """NaN with what it carries, infinity, -0, subnormal numbers."""
    for D in (13, 16):
        hidden = torch.randint(-128, 128, (1, 5, 7, D * dtype.itemsize), dtype=torch.int8).view(dtype)
        _, coord = rows_sample(dtype, B=1)
        rows, _, _ = GATHER(hidden, coord, (5, 7), (0, 0))
        assert same_bits(rows, indexed(hidden, coord, (5, 7))[0])


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_coordinates_that_are_not_numbers(path, value, ensemble):
    """They read a pixel of the map, with NaN or infinity as their offset, as reference.corners says."""
    hidden, coord = rows_sample()
    coord[0, 5, 1], coord[1, 3] = value, value
    given = (hidden, coord, (5, 7), (0, 0), ensemble)
    for one, want in zip(GATHER(*given), indexed(*given[:4], ensemble=ensemble), strict=True):
        assert_close(one, want, rtol=0, atol=0, equal_nan=True)
    if value != value:
        assert torch.equal(GATHER(*given)[0][1, 3], hidden[1, 0, 0].expand(4 if ensemble else 1, -1))


@pytest.mark.parametrize("ensemble", [True, False])
def test_a_part_gives_the_rows_of_the_whole(path, ensemble):
    hidden, coord = rows_sample(size=(9, 11), Q=400)
    coord = coord * 0.18  # around the centre: rows 3 to 5, columns 3 to 6
    part, where = hidden[:, 2:7, 3:9], ((9, 11), (2, 3), ensemble)
    whole = GATHER(hidden, coord, (9, 11), (0, 0), ensemble)
    assert all(map(torch.equal, GATHER(part, coord, *where), whole))
    grad_rows = torch.randn(whole[0].shape)
    full = BACKWARD(grad_rows, coord, (9, 11), (9, 11), (0, 0), ensemble)
    assert torch.equal(BACKWARD(grad_rows, coord, (5, 6), *where), full[:, 2:7, 3:9])
    if ops.CPU_KERNELS:
        with pytest.raises(RuntimeError, match="coord: a query needs a pixel that hidden does not hold"):
            GATHER(part, coord * 5, *where)


@pytest.mark.parametrize("empty", [{"Q": 0}, {"B": 0}, {"D": 0}])
def test_empty(path, empty):
    hidden, coord = rows_sample(**empty)
    B, Q, D = coord.shape[0], coord.shape[1], hidden.shape[-1]
    rows, rel, weight = GATHER(hidden, coord, (5, 7), (0, 0))
    assert (rows.shape, rel.shape, weight.shape) == ((B, Q, 4, D), (B, Q, 4, 2), (B, Q, 4))
    assert torch.equal(rel, reference.corners(coord, (5, 7))[1])
    found = BACKWARD(rows, coord, (5, 7), (5, 7), (0, 0))
    assert found.shape == (B, 5, 7, D)
    assert not found.any()


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_same_bits_with_any_number_of_threads_and_each_time(path, dtype):
    before, results = torch.get_num_threads(), []
    hidden, coord = rows_sample(dtype, B=3, size=(4, 3), D=40, Q=900)
    grad_rows = torch.randn(3, 900, 4, 40).to(dtype)
    try:
        for n in (1, 2, 3, 2):
            torch.set_num_threads(n)
            results.append([*GATHER(hidden, coord, (4, 3), (0, 0)), BACKWARD(grad_rows, coord, *[(4, 3)] * 2, (0, 0))])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_half_precision_is_summed_in_float32():
    """4000 equal gradients of 1 on one pixel: bfloat16 sums stop growing at 256."""
    feat = torch.ones(1, 8, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    rows, rel, weight = functional.gather_corners(feat, torch.zeros(1, 4000, 2), False)
    assert (rows.dtype, rel.dtype, weight.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    rows.sum().backward()
    assert (feat.grad == 4000).all()


@pytest.mark.parametrize("ensemble", [True, False])
def test_gradcheck(ensemble):
    feat = torch.randn(2, 3, 3, 4, dtype=F64, requires_grad=True)
    coord = (torch.rand(2, 9, 2, dtype=F64) * 2 - 1).requires_grad_()
    # a coordinate within eps of a pixel border has no derivative; the seed has none there
    assert torch.autograd.gradcheck(
        lambda *a: functional.gather_corners(*a, ensemble), (feat, coord), eps=1e-7, atol=1e-5
    )


@pytest.mark.parametrize("wanted", ["feat", "coord", "both"])
@pytest.mark.parametrize("used", [0, 1, 2])
def test_gradients_of_what_is_wanted_by_what_is_used(wanted, used):
    feat, coord = torch.randn(1, 3, 4, 5, dtype=F64), torch.rand(1, 9, 2, dtype=F64) * 2 - 1
    leaves = [t.requires_grad_() for name, t in (("feat", feat), ("coord", coord)) if wanted in (name, "both")]
    found = []
    for run in (functional.gather_corners, pieces):
        out = run(feat, coord)[used]
        weights = torch.randn(out.shape, dtype=F64, generator=torch.Generator().manual_seed(0))
        needed = out.requires_grad  # rel and weight do not depend on feat
        grads = torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True) if needed else []
        found.append([torch.zeros_like(t) if g is None else g for t, g in zip(leaves, grads, strict=False)])
    for a, b in zip(found[0], found[1], strict=False):
        assert_close(a, b, rtol=1e-11, atol=1e-11)
    assert wanted == "feat" or found[0]


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("strided", [True, False])
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_opcheck(ensemble, strided, dtype):
    hidden, coord = rows_sample(dtype, size=(3, 5), Q=11)
    if strided:
        hidden, coord = hidden.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0), coord.flip(1).mT.contiguous().mT
    given = (hidden, coord, (3, 5), (0, 0), ensemble)
    torch.library.opcheck(GATHER, given)
    torch.library.opcheck(GATHER, [t.detach().requires_grad_() if torch.is_tensor(t) else t for t in given])
    grad_rows = torch.randn(2, 11, 4 if ensemble else 1, 16).to(dtype)
    torch.library.opcheck(BACKWARD, (grad_rows.transpose(1, 3).contiguous().transpose(1, 3), coord, (3, 5), *given[2:]))


def test_channels_last_features_are_not_copied(monkeypatch):
    feat = torch.randn(1, 6, 4, 5).to(memory_format=torch.channels_last)
    seen, plain = [], functional.gather_corners(feat, torch.zeros(1, 1, 2))

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            if func is GATHER:
                assert args[0].is_contiguous()
                assert args[0].data_ptr() == feat.data_ptr()
            return func(*args, **(kwargs or {}))

    with Seen():
        again = functional.gather_corners(feat, torch.zeros(1, 1, 2))
    assert GATHER in seen
    assert all(map(torch.equal, again, plain))
    assert all(map(torch.equal, functional.gather_corners(feat.contiguous(), torch.zeros(1, 1, 2)), plain))


def test_coordinates_of_other_kinds_are_converted():
    feat, coord = torch.randn(1, 3, 4, 5), torch.rand(1, 9, 2) * 2 - 1
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        want = functional.gather_corners(feat, coord.to(dtype).float())
        got = functional.gather_corners(feat, coord.to(dtype))
        assert all(map(same_bits, got, want))
    assert functional.gather_corners(feat.double(), coord)[1].dtype == F64


def test_autocast_changes_nothing():
    feat, coord = torch.randn(1, 3, 4, 5, requires_grad=True), (torch.rand(1, 9, 2) * 2 - 1).requires_grad_()
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = functional.gather_corners(feat, coord)
            found.append([*out, *torch.autograd.grad(sum(t.square().sum() for t in out), (feat, coord))])
    assert all(map(same_bits, *found))
