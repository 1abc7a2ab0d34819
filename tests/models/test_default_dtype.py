"""torch.set_default_dtype and set_default_device change nothing: what is computed is float32, where the model is."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from PIL import Image

import liif_fast
from liif_fast import functional, reference
from liif_fast.data import ImageFolder
from liif_fast.data.wrappers import SRImplicitDownsampled
from liif_fast.head import unit_order
from liif_fast.models import tiles
from liif_fast.quality import evaluate, metrics


@contextlib.contextmanager
def defaults(dtype=torch.float32, device=None):
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


DEFAULTS = {
    "float64": {"dtype": torch.float64},
    "bfloat16": {"dtype": torch.bfloat16},
    "float16": {"dtype": torch.float16},
    "meta": {"device": "meta"},
}


@pytest.fixture(params=DEFAULTS)
def other(request):
    return DEFAULTS[request.param]


def same(function, other):
    """What a function gives is the same to the bit, dtype and device under other defaults."""
    want = function()
    with defaults(**other):
        got = function()
    for a, b in zip(*([x] if isinstance(x, torch.Tensor) else list(x) for x in (got, want)), strict=True):
        assert (a.dtype, a.device) == (b.dtype, b.device)
        assert torch.equal(a, b)


def test_models_in_float32(tiny, other):
    model, image = tiny([16, 16], 4).eval(), torch.rand(3, 9, 8)
    coord, cell = torch.rand(1, 30, 2) * 2 - 1, torch.full((1, 30, 2), 0.1)
    inp = image[None]
    with torch.no_grad():
        same(lambda: model(inp, coord, cell), other)
        same(lambda: model.render(inp, (13, 12)), other)
        same(lambda: model.upscale(image, scale=2, tile=4), other)
        same(lambda: model.upscale((image * 255).byte(), size=(20, 20)), other)
        same(lambda: model.renderer((9, 9))(inp), other)
    assert np.array_equal(
        model.upscale(np.full((4, 4, 3), 7, np.uint8), scale=2),
        under(other, lambda: model.upscale(np.full((4, 4, 3), 7, np.uint8), scale=2)),
    )

    def gradients():
        return torch.autograd.grad(model(inp, coord, cell).square().sum(), list(model.parameters()))

    same(gradients, other)


def under(other, function):
    with defaults(**other):
        return function()


def test_8_bit_models(tiny, other):
    model, image = tiny([16, 16], 4).eval(), torch.rand(3, 140, 130)
    quantized = model.quantize(image)
    same(lambda: model.quantize(image).act_scale, other)
    same(lambda: model.quantize(image).upscale(image, scale=1.5), other)
    same(lambda: model.upscale(image[:, :9, :9], scale=2, dtype=torch.int8), other)
    same(lambda: quantized.render(image[None, :, :9, :9], (20, 20)), other)


def test_orders_of_units(tiny, other):
    head = tiny([16, 16], 4).head()
    feat = torch.randn(1, 4, 9, 8)
    same(lambda: unit_order.found_on(feat, head, True, True), other)


@pytest.mark.parametrize("name", ["srcnn", "srresnet", "metasr"])
def test_baselines(name, other):
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "no_upsampling": True}}
    args = {"encoder_spec": encoder} if name == "metasr" else {}
    model = liif_fast.make({"name": name, "args": args}).eval()
    image = torch.rand(3, 8, 7)
    same(lambda: model.upscale(image, scale=4), other)
    coord, cell = functional.make_coord((32, 28))[None, ::9], torch.tensor([[[2 / 32, 2 / 28]]]).expand(1, 100, 2)
    with torch.no_grad():
        same(lambda: model(image[None], coord[:, :100], cell), other)


def test_coordinates_and_tiles(other):
    if "device" in other:
        other = {"device": "meta"}
        assert under(other, lambda: reference.make_coord((3, 4), device="cpu")).device.type == "cpu"
    else:
        same(lambda: reference.make_coord((3, 4)), other)
    want = list(tiles.plan((40, 30), (100, 70), 16, 3))
    assert under(other, lambda: list(tiles.plan((40, 30), (100, 70), 16, 3))) == want


def test_data_and_figures(tmp_path, other):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 44, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    same(lambda: evaluate.to_tensor(pixels), other)
    a, b = torch.rand(3, 20, 20), torch.rand(3, 20, 20)
    assert under(other, lambda: (metrics.psnr(a, b), metrics.psnr(a, b, "y", 2))) == (
        metrics.psnr(a, b), metrics.psnr(a, b, "y", 2)
    )  # fmt: skip
    samples = SRImplicitDownsampled(ImageFolder(tmp_path), inp_size=8, scale_max=4, sample_q=20)

    def sample():
        return samples.sample(0, np.random.default_rng(1)).values()

    same(sample, other)
