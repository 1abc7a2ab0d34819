"""The compiled CPU kernels: every instruction set that this processor has, against plain PyTorch."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from cpu_paths import COMPILED, PATHS, WHY, exact, forced, sample

from liif_fast.head import ops
from liif_fast.reference import make_coord

pytestmark = pytest.mark.skipif(not COMPILED, reason=WHY)
LIB = torch.ops.liif_fast
HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, *HALVES, torch.float64)
# Worst error over the largest value of the result. float32: a sum of D products, L times (7e-7 measured at D = 256);
# bfloat16: weights and each layer's inputs have 8 bits; float16: the features have 11 bits; float64: as float32.
RENDER_TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 2e-6, torch.float64: 2e-14}
# One rounding to the type of h, of a sum whose order may move it to the next value.
H_TOLERANCE = {torch.float32: 4e-7, torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float64: 1e-15}
# Sums of at most 300 float32 products in different orders; halves: grad_hidden is rounded once.
GRAD_TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float64: 1e-13}


@pytest.fixture(params=PATHS or ["none"])
def path(request):
    """Forces one instruction set."""
    parameters = getattr(request.node, "callspec", None)
    if parameters and parameters.params.get("dtype") == torch.float64 and request.param != "portable":
        pytest.skip("float64 has the portable path only")
    with forced(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def threads():
    """One thread: these problems are small, and threads wait for each other on a busy machine. threads(n) for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def assert_near(actual, expected, tolerance):
    assert actual.shape == expected.shape
    if actual.numel():
        error = (actual.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1e-30)
        assert error <= tolerance, f"{error:.1e} > {tolerance:.1e}"


def variants(dtype, D):
    for L, ensemble, cell in itertools.product((0, 1, 3), (True, False), (True, False)):
        yield sample(dtype, D=D, L=L, out=1 if L == 1 else 3, ensemble=ensemble, cell=cell)


@pytest.mark.parametrize("D", [1, 8, 64, 72, 100, 256])
@pytest.mark.parametrize("dtype", DTYPES)
class TestValues:
    def test_render(self, path, dtype, D):
        for s in variants(dtype, D):
            out = LIB.render(*s)
            assert out.dtype == s.coord.dtype
            assert_near(out, exact(s), RENDER_TOLERANCE[dtype])

    def test_gather(self, path, dtype, D):
        for s in variants(dtype, D):
            h, weight = LIB.corner_gather(*s.gather())
            h_plain, weight_plain = ops.PLAIN["corner_gather"](*s.gather())
            assert torch.equal(weight, weight_plain)
            assert h.dtype == dtype
            assert_near(h, h_plain, H_TOLERANCE[dtype])

    def test_backward(self, path, dtype, D):
        for s in variants(dtype, D):
            h = ops.PLAIN["corner_gather"](*s.gather())[0]
            args = (torch.randn(h.shape).to(dtype), h, *s.gather()[1:4], s.hidden.shape[1:3], *s.gather()[4:])
            grad_hidden, grad_w_pos = LIB.corner_gather_backward(*args)
            plain_hidden, plain_w_pos = ops.PLAIN["corner_gather_backward"](*args)
            assert grad_hidden.dtype == dtype
            assert grad_w_pos.dtype == s.w_pos.dtype
            assert_near(grad_hidden, plain_hidden, GRAD_TOLERANCE[dtype])
            assert_near(grad_w_pos, plain_w_pos, GRAD_TOLERANCE[s.w_pos.dtype])


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (13, 17), (48, 48), (3, 400)])
@pytest.mark.parametrize("ensemble", [True, False])
def test_pixels_are_those_of_grid_sample(path, size, ensemble):
    """hidden holds pixel numbers and w_pos is 0: h is the chosen pixel's number."""
    h, w = size
    number = torch.arange(h * w, dtype=torch.float32).view(1, h, w, 1)
    grids = [make_coord([round(n * scale) for n in size]) for scale in (1, 1.5, 2, 3, 4.7)]
    coord = torch.cat([*grids, torch.rand(20_000, 2) * 2.2 - 1.1])[None]
    got = LIB.corner_gather(number, coord, None, torch.zeros(1, 4), size, (0, 0), ensemble)[0][..., 0]
    shifts = [(vy / h + 1e-6, vx / w + 1e-6) for vy in (-1, 1) for vx in (-1, 1)] if ensemble else [(0.0, 0.0)]
    for k, (dy, dx) in enumerate(shifts):
        at = torch.stack([coord[..., 0] + dy, coord[..., 1] + dx], -1).clamp(-1 + 1e-6, 1 - 1e-6)
        grid = at.flip(-1).unsqueeze(1)
        expected = F.grid_sample(number.permute(0, 3, 1, 2), grid, mode="nearest", align_corners=False)[:, 0, 0]
        assert torch.equal(got[..., k], expected)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
def test_corners_without_weight_may_be_left_out(path, scale):
    """On pixel centres (odd scales) up to three corners weigh less than 1e-6 and skip the layers."""
    s = sample(B=1, h=9, w=11, D=32)
    coord = make_coord([9 * scale, 11 * scale])[None]
    s = s._replace(coord=coord, cell=torch.full_like(coord, 0.2))
    assert_near(LIB.render(*s), exact(s), RENDER_TOLERANCE[torch.float32])


def test_official_weights(path, data_dir):
    """The exactness that the project promises: 1e-6 in float32, 3e-3 in bfloat16, on the official layers."""
    sd = torch.load(data_dir / "weights" / "edsr-baseline-liif.pth", weights_only=True)
    sd = sd["model"]["sd"] if "model" in sd else sd
    w, b = ([sd[f"imnet.layers.{i}.{name}"] for i in (0, 2, 4, 6, 8)] for name in ("weight", "bias"))
    feat = torch.randn(1, 64, 12, 12) * 0.3
    hidden = F.conv2d(feat, w[0][:, :576].unflatten(1, (64, 3, 3)), b[0], padding=1).permute(0, 2, 3, 1).contiguous()
    coord = make_coord([48, 48])[None]
    cell = torch.full_like(coord, 2 / 48)
    s = sample()._replace(hidden=hidden, coord=coord, cell=cell, w_pos=w[0][:, 576:].contiguous(), size=(12, 12))
    s = s._replace(w_mlp=torch.stack(w[1:4]), b_mlp=torch.stack(b[1:4]), w_out=w[4], b_out=b[4])
    expected = exact(s)
    assert (LIB.render(*s) - expected).abs().max() <= 1e-6
    half = s._replace(hidden=hidden.bfloat16())
    assert (LIB.render(*half) - exact(half)).abs().max() <= 3e-3


def test_all_pixels_of_one_feature_pixel(path):
    """Backward's sums continue over many blocks when every row goes to the same pixel."""
    s = sample(B=2, h=1, w=1, D=20, Q=1500)
    h = ops.PLAIN["corner_gather"](*s.gather())[0]
    grad_h = torch.randn_like(h)
    grad_hidden, _ = LIB.corner_gather_backward(grad_h, h, *s.gather()[1:4], (1, 1), *s.gather()[4:])
    expected = (grad_h.double() * (h > 0)).sum((1, 2))
    assert_near(grad_hidden[:, 0, 0], expected, 5e-6)  # 6,000 float32 additions


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bits_with_any_number_of_threads(path, threads, dtype):
    s = sample(dtype, B=3, h=4, w=3, D=40, Q=900)
    h = ops.PLAIN["corner_gather"](*s.gather())[0]
    args = (torch.randn_like(h), h, *s.gather()[1:4], (4, 3), *s.gather()[4:])
    results = []
    for n in (1, 2, 3):
        threads(n)
        results.append([LIB.render(*s), *LIB.corner_gather(*s.gather()), *LIB.corner_gather_backward(*args)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_a_tile_gives_the_rows_of_the_whole_map(path):
    s = sample(h=12, w=9, D=24, Q=400)
    whole = LIB.render(*s), *LIB.corner_gather(*s.gather())
    # queries whose four corners lie in rows 3..8, columns 2..6
    inside = ((s.coord[..., 0] + 1) * 6 > 4) & ((s.coord[..., 0] + 1) * 6 < 8)
    inside &= ((s.coord[..., 1] + 1) * 4.5 > 3) & ((s.coord[..., 1] + 1) * 4.5 < 6)
    keep = int(inside.sum(1).min())
    assert keep > 10
    pick = torch.stack([row.nonzero()[:keep, 0] for row in inside])
    at = torch.arange(2)[:, None], pick
    tile = s._replace(hidden=s.hidden[:, 3:9, 2:7], coord=s.coord[at], cell=s.cell[at], origin=(3, 2))
    for part, full in zip((LIB.render(*tile), *LIB.corner_gather(*tile.gather())), whole, strict=True):
        assert torch.equal(part, full[at])
    with pytest.raises(RuntimeError, match="coord: a query needs a pixel that hidden does not hold"):
        LIB.render(*tile._replace(coord=s.coord, cell=s.cell))


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_bad_coordinates_spoil_their_own_query_only(path, dtype, ensemble, value):
    s = sample(dtype, D=24, ensemble=ensemble)
    good = LIB.render(*s)
    coord = s.coord.clone()
    coord[0, 5, 1] = value
    bad = LIB.render(*s._replace(coord=coord))
    LIB.corner_gather(*s._replace(coord=coord).gather())
    others = torch.ones(good.shape[:2], dtype=torch.bool)
    others[0, 5] = False
    assert torch.equal(bad[others], good[others])
    if value != 1e30:
        assert not bad[0, 5].isfinite().any()


def test_features_that_are_not_finite_stay_visible(path):
    for dtype, value in itertools.product((torch.float32, torch.bfloat16), (float("nan"), float("inf"))):
        s = sample(dtype, B=1, h=1, w=1, D=24)
        s.hidden[0, 0, 0, 3] = value
        assert not LIB.render(*s).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_stay_visible(path, dtype, value):
    """Inputs that are zero in a whole tile are skipped, but 0 * inf is NaN: on dead inputs as well."""
    s = sample(dtype, D=24, L=2)
    s.b_mlp[0, 5] = -1e6  # unit 5 of the first layer is always zero
    assert LIB.render(*s).isfinite().all()
    s.w_mlp[1, 7, 5] = value
    assert not LIB.render(*s).isfinite().any()


def test_layers_without_any_activation(path):
    for dtype in (torch.float32, torch.bfloat16):
        s = sample(dtype, D=40, L=2)
        s.b_mlp[0] = -1e6
        expected = s.b_mlp[1].relu() @ s.w_out.T + s.b_out
        assert_near(LIB.render(*s), expected.expand(2, 37, 3), 2e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_do_not_matter(path, dtype):
    s = sample(dtype, D=20)
    strided = s._replace(
        hidden=s.hidden.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0),
        coord=torch.cat([s.coord, s.coord], -1)[..., :2],
        cell=s.cell.transpose(0, 1).contiguous().transpose(0, 1),
        w_pos=s.w_pos.t().contiguous().t(),
        w_mlp=s.w_mlp.transpose(1, 2).contiguous().transpose(1, 2),
        w_out=torch.cat([s.w_out, s.w_out], 1)[:, :20],
    )
    assert not strided.hidden.is_contiguous()
    assert torch.equal(LIB.render(*s), LIB.render(*strided))
    for a, b in zip(LIB.corner_gather(*s.gather()), LIB.corner_gather(*strided.gather()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("empty", [{"Q": 0}, {"B": 0}, {"out": 0}])
def test_empty(path, empty):
    s = sample(**empty)
    B, Q, out = s.coord.shape[0], s.coord.shape[1], s.w_out.shape[0]
    assert LIB.render(*s).shape == (B, Q, out)
    h, weight = LIB.corner_gather(*s.gather())
    assert (h.shape, weight.shape) == ((B, Q, 4, 16), (B, Q, 4))
    grads = LIB.corner_gather_backward(h, h, *s.gather()[1:4], (5, 7), *s.gather()[4:])
    assert [tuple(g.shape) for g in grads] == [(B, 5, 7, 16), (16, 4)]
    if h.numel() == 0:
        assert not any(g.any() for g in grads)
