"""gather_corners and its gradient on the device: values, layouts, parts, special values, the operators' contract."""

from __future__ import annotations

import itertools

import pytest
import torch

from gpu import exact
from gpu.exact import SHAPES, assert_within, sample
from liif_fast import functional
from liif_fast.head import ops, reference

ROWS = torch.ops.liif_fast.gather_corners.default
ROWS_BACKWARD = torch.ops.liif_fast.gather_corners_backward.default
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def row_arguments(device, shape, dtype, ensemble=True, strided=False):
    """Of gather_corners, and of its gradient."""
    hidden, coord, _, _, size, origin, _ = sample(device, shape, dtype, False, ensemble, strided)
    sizes = (*coord.shape[:2], 4 if ensemble else 1, hidden.shape[-1])
    grad_rows = torch.randn(sizes, generator=torch.Generator().manual_seed(1)).to(hidden)
    if strided:
        grad_rows = exact._strided(grad_rows)
    return (hidden, coord, size, origin, ensemble), (grad_rows, coord, hidden.shape[1:3], size, origin, ensemble)


def assert_rows_within(found, back):
    grad_rows, coord, hidden_size, *rest = back
    # the gradient of corner_gather where the ReLU stops nothing
    ones, w_pos = torch.ones_like(grad_rows), torch.zeros(grad_rows.shape[-1], 4, dtype=coord.dtype)
    (want, bound), _ = exact.gather_backward(grad_rows, ones, coord, None, w_pos, hidden_size, *rest)
    assert found.dtype == grad_rows.dtype
    assert_within(found, want, bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("ensemble", "strided"), list(itertools.product((True, False), repeat=2)))
def test_rows_as_they_are(device, dtype, shape, ensemble, strided):
    given, back = row_arguments(device, shape, dtype, ensemble, strided)
    hidden, coord, *rest = given
    for got, want in zip(ROWS(*given), ops.PLAIN["gather_corners"](hidden.cpu(), coord.cpu(), *rest), strict=True):
        assert got.device.type == device.type
        assert torch.equal(got.cpu(), want)
    assert_rows_within(ROWS_BACKWARD(*back), back)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [64, 37])
def test_every_bit_of_a_row_as_it_is(device, dtype, D):
    """NaN with what it carries, infinity, -0, subnormal numbers."""
    hidden = torch.randint(-128, 128, (1, 7, 5, D * dtype.itemsize), dtype=torch.int8).view(dtype)
    _, coord, _, _, size, origin, _ = sample(torch.device("cpu"), (1, (7, 5), D, 129), dtype)
    rows, _, _ = ROWS(hidden.to(device), coord.to(device), size, origin)
    want, _, _ = ops.PLAIN["gather_corners"](hidden, coord, size, origin)
    assert torch.equal(rows.cpu().view(torch.uint8), want.view(torch.uint8))


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("shape", [*SHAPES, (2, (1, 1), 64, 20_000), (2, (2, 3), 64, 20_000)])
@pytest.mark.parametrize("ensemble", [True, False])
def test_deterministic_gradients_of_rows(device, dtype, shape, ensemble):
    _, back = row_arguments(device, shape, dtype, ensemble)
    first = ROWS_BACKWARD(*back)
    if shape in SHAPES:
        assert_rows_within(first, back)
    for _ in range(5):
        assert torch.equal(first, ROWS_BACKWARD(*back))


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("ensemble", [True, False])
def test_rows_of_a_part(device, dtype, ensemble):
    """Those of the whole; on CUDA NaN where the part holds them not, without a gradient."""
    (hidden, coord, size, *_), _ = row_arguments(device, (2, (9, 11), 64, 400), dtype, ensemble)
    near, where = coord * 0.2, (size, (2, 3), ensemble)  # around the centre: rows 3 to 5, columns 3 to 6
    part = hidden[:, 2:7, 3:9]
    assert all(map(torch.equal, ROWS(part, near, *where), ROWS(hidden, near, size, (0, 0), ensemble)))
    if device.type != "cuda":
        with pytest.raises(RuntimeError, match="needs a pixel that hidden does not hold"):
            ROWS(part, coord, *where)
        return
    index = reference.corners(coord, size, ensemble)[0] - torch.tensor((2, 3), device=device)
    inside = ((index >= 0) & (index < torch.tensor(part.shape[1:3], device=device))).all(-1)
    whole, got = ROWS(hidden, coord, size, (0, 0), ensemble), ROWS(part, coord, *where)
    assert torch.equal(got[0][inside], whole[0][inside])
    assert torch.equal(got[1][inside], whole[1][inside])
    assert got[0][~inside].isnan().all()
    assert got[2][~inside.all(-1)].isnan().all()
    grad_rows = torch.where(inside.unsqueeze(-1), torch.ones_like(got[0]), float("nan"))
    want = torch.zeros(part.shape[:3], dtype=torch.float64, device=device)
    image = torch.arange(2, device=device).view(-1, 1, 1).expand(inside.shape)
    want.index_put_((image[inside], *index[inside].unbind(-1)), want.new_ones(int(inside.sum())), accumulate=True)
    found = ROWS_BACKWARD(grad_rows, coord, part.shape[1:3], *where)
    assert torch.equal(found, want.unsqueeze(-1).expand_as(found).to(dtype))


def test_special_values_of_rows(device):
    """Coordinates far outside, or NaN, read a pixel of the map, as on a CPU."""
    (hidden, coord, *rest), _ = row_arguments(device, (1, (3, 4), 64, 40), torch.float32)
    for value in (float("nan"), float("inf"), -float("inf"), 1e30, -7.0):
        far = coord.clone()
        far[0, 3] = value
        want = ops.PLAIN["gather_corners"](hidden.cpu(), far.cpu(), *rest)
        for a, b in zip(ROWS(hidden, far, *rest), want, strict=True):
            torch.testing.assert_close(a.cpu(), b, rtol=0, atol=0, equal_nan=True)


def test_rows_through_autograd_and_function(device):
    """coord too, against the CPU; features in both memory formats."""
    found = []
    for where, layout in (("cpu", None), (device, torch.contiguous_format), (device, torch.channels_last)):
        (hidden, coord, *_), _ = row_arguments(torch.device(where), (2, (7, 5), 24, 203), torch.float64)
        feat = hidden.permute(0, 3, 1, 2).contiguous(memory_format=layout or torch.contiguous_format)
        leaves = feat.requires_grad_(), coord.requires_grad_()
        rows, rel, weight = functional.gather_corners(*leaves)
        out = ((rows.sin().sum(-1) + rel.prod(-1)) * weight).square().sum()
        found.append([out, *torch.autograd.grad(out, leaves)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(b.cpu(), a, rtol=1e-10, atol=1e-10)  # float64, other orders of up to 10^3 terms


@pytest.mark.slow_gpu
@pytest.mark.parametrize(("ensemble", "strided"), list(itertools.product((True, False), repeat=2)))
def test_opcheck_of_rows(device, ensemble, strided):
    given, back = row_arguments(device, (2, (3, 5), 16, 11), torch.float32, ensemble, strided)
    torch.library.opcheck(ROWS, given)
    torch.library.opcheck(ROWS, [t.detach().requires_grad_() if torch.is_tensor(t) else t for t in given])
    torch.library.opcheck(ROWS_BACKWARD, back)
