"""corner_gather and its gradient on the device: values, layouts, sizes, special values, the operators' contract."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from gpu import exact
from gpu.exact import SHAPES, assert_within, sample
from liif_fast.head import ops, reference
from liif_fast.head.reference import make_coord

GATHER = torch.ops.liif_fast.corner_gather.default
BACKWARD = torch.ops.liif_fast.corner_gather_backward.default
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
FLAGS = list(itertools.product((True, False), repeat=3))


def backward_arguments(given, strided=False):
    hidden, coord, cell, w_pos, *rest = given
    h, _ = GATHER(*given)
    grad_h = torch.randn(h.shape, generator=torch.Generator().manual_seed(1)).to(h)
    return exact._strided(grad_h) if strided else grad_h, h, coord, cell, w_pos, hidden.shape[1:3], *rest


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("cell", "ensemble", "strided"), FLAGS)
def test_values(device, dtype, shape, cell, ensemble, strided):
    given = sample(device, shape, dtype, cell, ensemble, strided)
    h, weight = GATHER(*given)
    want, bound, want_weight = exact.gather(*given)
    assert (h.dtype, weight.dtype) == (dtype, given[1].dtype)
    assert (h.shape, h.device.type) == (want.shape, device.type)
    assert_within(h, want, bound)
    # a quotient of sums of products of float32 numbers that are the same on every device: exactly rounded steps
    assert torch.equal(weight.cpu(), want_weight)


@pytest.mark.parametrize("size", [(7, 5), (48, 48), (255, 257), (270, 480)])
@pytest.mark.parametrize("ensemble", [True, False])
def test_pixels_are_those_of_grid_sample(device, size, ensemble):
    """On the device itself, as the official code asks for them: rows of pixel numbers."""
    H, W = size
    number = torch.arange(H * W, dtype=torch.float32, device=device)
    coords = [torch.rand(1, 100_000, 2, device=device) * 2.2 - 1.1]  # beyond the image too
    coords += [make_coord((round(H * s), round(W * s)), device=device)[None] for s in (1, 1.5, 2, 3)]
    coord = torch.cat(coords, 1)
    hidden = number.view(1, H, W, 1).expand(-1, -1, -1, 8).contiguous()
    h, _ = GATHER(hidden, coord, None, torch.zeros(8, 4, device=device), size, (0, 0), ensemble)
    signs, epsilon = ((-1, 1), 1e-6) if ensemble else ((0,), 0.0)
    for k, (v_y, v_x) in enumerate(itertools.product(signs, signs)):
        at = coord.clone()
        at[..., 0] += v_y / H + epsilon
        at[..., 1] += v_x / W + epsilon
        grid = at.clamp_(-1 + 1e-6, 1 - 1e-6).flip(-1).unsqueeze(1)
        want = F.grid_sample(number.view(1, 1, H, W), grid, mode="nearest", align_corners=False)
        assert torch.equal(h[0, :, k, 0], want.flatten())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("cell", "ensemble", "strided"), FLAGS)
def test_gradients(device, dtype, shape, cell, ensemble, strided):
    given = backward_arguments(sample(device, shape, dtype, cell, ensemble, strided), strided)
    grads = BACKWARD(*given)
    for grad, like, (want, bound) in zip(grads, (given[1], given[4]), exact.gather_backward(*given), strict=True):
        assert grad.dtype == like.dtype
        assert_within(grad, want, bound)


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.usefixtures("deterministic")
def test_deterministic_gradients(device, dtype, shape, ensemble):
    given = backward_arguments(sample(device, shape, dtype, True, ensemble))
    first = BACKWARD(*given)
    for grad, (want, bound) in zip(first, exact.gather_backward(*given), strict=True):
        assert_within(grad, want, bound)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, BACKWARD(*given), strict=True))


@pytest.mark.parametrize("dtype", DTYPES[:3])
@pytest.mark.parametrize("pixels", [(1, 1), (2, 3), (64, 64)])
@pytest.mark.usefixtures("deterministic")
def test_deterministic_however_many_queries_share_a_pixel(device, dtype, pixels):
    given = backward_arguments(sample(device, (2, pixels, 64, 20_000), dtype))
    first = BACKWARD(*given)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, BACKWARD(*given), strict=True))


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("ordered", [False, True])
def test_a_million_queries_on_four_pixels(device, dtype, ordered):
    """In segments, or some threads would add up a million rows each, one after the other."""
    hidden = torch.randn(1, 2, 2, 64, device=device).to(dtype)
    coord = torch.rand(1, 1_000_000, 2, device=device) * 2 - 1
    given = (hidden, coord, None, torch.randn(64, 4, device=device), (2, 2), (0, 0), True)
    h, _ = GATHER(*given)
    back = (torch.randn_like(h), h, coord, None, given[3], (2, 2), *given[4:])
    torch.use_deterministic_algorithms(ordered)
    try:
        first, again = BACKWARD(*back), BACKWARD(*back)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not ordered or all(map(torch.equal, first, again))
    masked = (back[0].double() * (h > 0)).flatten(0, 2)
    index, _, _ = reference.corners(coord, (2, 2))
    want = torch.zeros(4, 64, dtype=torch.float64, device=device)
    want.index_add_(0, (index[..., 0] * 2 + index[..., 1]).flatten(), masked)
    error = (first[0].double().view(4, 64) - want).abs().max() / want.abs().max()
    bound = 2**-8 if dtype == torch.bfloat16 else 1e-5  # one rounding; float32 sums of a thousand of a thousand terms
    assert error <= bound


def test_bfloat16_gradients_are_summed_in_float32(device):
    """70,000 equal gradients of 1 on one pixel: bfloat16 sums stop growing at 256, and rows are counted beyond 2^16."""
    n = 70_000
    hidden = torch.ones(1, 1, 1, 8, dtype=torch.bfloat16, device=device, requires_grad=True)
    coord = torch.zeros(1, n, 2, device=device)
    h, _ = GATHER(hidden, coord, None, torch.zeros(8, 4, device=device), (1, 1), (0, 0), False)
    (grad,) = torch.autograd.grad(h, hidden, torch.ones_like(h))
    assert (grad == torch.tensor(n, dtype=torch.bfloat16)).all()


def test_all_gradients_through_autograd(device):
    """coord and cell too, against the CPU."""
    found = []
    for where in (torch.device("cpu"), device):
        *tensors, size, origin, ensemble = sample(where, (2, (7, 5), 64, 203), torch.float64)
        tensors = [t.requires_grad_() for t in tensors]
        h, weight = GATHER(*tensors, size, origin, ensemble)
        out = h.sin().sum() + (weight * torch.arange(4, device=where)).sum()
        found.append(torch.autograd.grad(out, tensors))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-10, atol=1e-10)  # float64, other orders of up to 10^3 terms


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_a_part_gives_the_rows_of_the_whole(device, dtype, ensemble):
    hidden, coord, cell, w_pos, size, _, _ = sample(device, (2, (9, 11), 64, 400), dtype)
    coord = coord * 0.2  # around the centre: rows 3 to 5, columns 3 to 6
    whole = GATHER(hidden, coord, cell, w_pos, size, (0, 0), ensemble)
    part = GATHER(hidden[:, 2:7, 3:9], coord, cell, w_pos, size, (2, 3), ensemble)
    assert all(torch.equal(a, b) for a, b in zip(whole, part, strict=True))
    grad = torch.randn_like(whole[0])
    tile, _ = BACKWARD(grad, part[0], coord, cell, w_pos, (5, 6), size, (2, 3), ensemble)
    full, _ = BACKWARD(grad, whole[0], coord, cell, w_pos, size, size, (0, 0), ensemble)
    assert (full.float().abs().sum() - tile.float().abs().sum()).abs() <= 1e-2 * tile.float().abs().sum()
    bound = {torch.float32: 1e-4, torch.bfloat16: 2**-4, torch.float16: 2**-7}[
        dtype
    ]  # sums of up to 10^2, in any order
    torch.testing.assert_close(tile, full[:, 2:7, 3:9], rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_special_values(device, dtype):
    """NaN and infinity stay visible; coordinates far outside, or NaN, read no memory outside."""
    hidden, coord, cell, w_pos, *rest = sample(device, (1, (3, 4), 64, 40), dtype)
    bad = hidden.clone()
    bad[0, 1, 2, 5] = float("nan")
    bad[0, 1, 2, 6] = float("inf")
    h, _ = GATHER(bad, coord, cell, w_pos, *rest)
    want, *_ = exact.gather(bad, coord, cell, w_pos, *rest)
    assert torch.equal(h.isnan().cpu(), want.isnan())
    assert torch.equal(h.isinf().cpu(), want.isinf())
    for value in (float("nan"), float("inf"), -float("inf"), 1e30, -7.0):
        far = coord.clone()
        far[0, 3] = value
        h, weight = GATHER(hidden, far, cell, w_pos, *rest)
        plain, plain_weight = ops.PLAIN["corner_gather"](hidden.cpu(), far.cpu(), cell.cpu(), w_pos.cpu(), *rest)
        assert torch.equal(h.isnan().cpu(), plain.isnan())
        assert torch.equal(weight.isnan().cpu(), plain_weight.isnan())
        BACKWARD(torch.ones_like(h), h, far, cell, w_pos, rest[0], *rest)


def test_the_output_is_written_everywhere(device):
    """Fresh memory full of NaN: nothing of it may be left."""
    given = sample(device, (2, (7, 5), 37, 1003), torch.float32)
    B, Q, K, D = 2, 1003, 4, 37
    for _ in range(3):
        torch.full((B * Q * K * D,), float("nan"), device=device)  # freed: the next tensor of this size takes it
        h, weight = GATHER(*given)
        assert h.isfinite().all()
        assert weight.isfinite().all()
        torch.full((B * 7 * 5 * D,), float("nan"), device=device)
        assert all(g.isfinite().all() for g in BACKWARD(torch.ones_like(h), h, *given[1:4], (7, 5), *given[4:]))


@pytest.mark.slow_gpu
@pytest.mark.parametrize(("cell", "ensemble", "strided"), FLAGS)
def test_opcheck(device, cell, ensemble, strided):
    given = sample(device, (2, (3, 5), 16, 11), torch.float32, cell, ensemble, strided)
    torch.library.opcheck(GATHER, given)
    torch.library.opcheck(GATHER, [t.detach().requires_grad_() if torch.is_tensor(t) else t for t in given])
    torch.library.opcheck(BACKWARD, backward_arguments(given, strided))
