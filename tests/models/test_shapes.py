"""Channels, batches and depths other than three, some and eight."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import training_files
from PIL import Image
from torch import nn

import liif_fast
from liif_fast import quantized
from liif_fast.cli import main as cli
from liif_fast.head import ops

EDSR = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
RDN = {"name": "rdn", "args": {"G0": 8, "RDNconfig": "A", "no_upsampling": True}}
RCAN = {
    "name": "rcan",
    "args": {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 2, "no_upsampling": True},
}
FIRST = {"edsr-baseline": "head.0", "rdn": "SFENet1", "rcan": "head.0"}


def build(encoder, out_dim=3, channels=3, hidden=(16, 16)):
    model = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": out_dim, "hidden_list": list(hidden)}})
    if channels != 3:
        name = FIRST[encoder["name"]]
        old = model.encoder.get_submodule(name)
        model.encoder.set_submodule(name, nn.Conv2d(channels, old.out_channels, 3, padding=1))
    return model


@pytest.mark.parametrize("encoder", [EDSR, RDN, RCAN], ids=lambda e: e["name"])
def test_a_first_layer_of_four_channels(encoder):
    model = build(encoder, out_dim=4, channels=4)
    inp, coord = torch.rand(2, 4, 6, 5), torch.rand(2, 9, 2) * 2 - 1
    cell = torch.full_like(coord, 0.1)
    out = model(inp, coord, cell)
    assert out.shape == (2, 9, 4)
    assert torch.equal(model.query(model.gen_feat(inp), coord, cell), out)
    assert model.render(inp, (12, 10)).shape == model.renderer((12, 10))(inp).shape == (2, 4, 12, 10)
    for call in (model.gen_feat, lambda x: model.render(x, (12, 10))):
        with pytest.raises(ValueError, match="inp: 4 channels are wanted, got 3"):
            call(torch.rand(1, 3, 6, 5))
    with pytest.raises(ValueError, match="this model puts out 4 channels, an image has 3"):
        model.upscale(torch.rand(1, 3, 6, 5), scale=2)
    with pytest.raises(ValueError, match="this model takes 4 channels, an image has 3"):
        build(encoder, channels=4).upscale(torch.rand(1, 3, 6, 5), scale=2)
    with pytest.raises(ValueError, match=r"inp: 3 channels \(RGB\) are wanted, got 4"):
        build(encoder).gen_feat(inp)


def test_a_first_layer_that_does_not_tell():
    model = build(EDSR)
    model.encoder.head = nn.Sequential(nn.Sequential(nn.Conv2d(2, 8, 3, padding=1)))
    assert model.encoder.in_channels is None
    assert model.gen_feat(torch.rand(1, 2, 5, 5)).shape == (1, 8, 5, 5)


@pytest.mark.parametrize("out_dim", [1, 2, 5])
def test_other_output_channels(tiny, out_dim):
    model = tiny(out_dim=out_dim)
    inp, coord = torch.rand(1, 3, 6, 5), torch.rand(1, 9, 2) * 2 - 1
    cell = torch.full_like(coord, 0.1)
    assert model(inp, coord, cell).shape == (1, 9, out_dim)
    assert model.render(inp, (7, 8)).shape == (1, out_dim, 7, 8)
    assert model.quantize(inp).render(inp, (7, 8)).shape == (1, out_dim, 7, 8)
    with pytest.raises(ValueError, match=f"this model puts out {out_dim} channels, an image has 3"):
        model.upscale(inp, scale=2)


class Doubled(nn.Module):
    """A decoding function that does not fold."""

    def __init__(self, imnet):
        super().__init__()
        self.imnet = imnet

    def forward(self, x):
        return 2 * self.imnet(x)


@pytest.mark.parametrize("kind", ["folded", "own imnet", "no imnet", "int8"])
@pytest.mark.parametrize("cell_decode", [True, False])
@pytest.mark.parametrize(("B", "Q"), [(0, 7), (2, 0), (0, 0)])
def test_empty_batches(tiny, kind, cell_decode, B, Q):
    model = tiny(None if kind == "no imnet" else [16, 16], cell_decode=cell_decode)
    if kind == "own imnet":
        model.imnet = Doubled(model.imnet)
    model = model.quantize(torch.rand(3, 9, 9)) if kind == "int8" else model
    channels = 6 if kind == "no imnet" else 3
    inp, coord = torch.rand(B, 3, 6, 5), torch.rand(B, Q, 2)
    cell = torch.rand(B, Q, 2) if cell_decode else None
    want = (B, Q, channels)
    out = model(inp, coord, cell)
    assert out.shape == want
    if kind != "int8":
        out.sum().backward()
    with torch.no_grad():
        feat = model.gen_feat(inp)
        assert feat.shape == (B, 6, 6, 5)
        assert model.query_rgb(coord, cell).shape == model.query(feat, coord, cell).shape == want
    if B == 0:
        # enough pixels that an order of the units is looked for
        assert model.render(inp, (300, 301)).shape == (0, channels, 300, 301)
        assert model.render(inp, (300, 301), dtype=torch.bfloat16).shape == (0, channels, 300, 301)
        if channels == 3:
            for image in (inp, inp.to(torch.uint8)):
                large = model.upscale(image, scale=2)
                assert large.shape == (0, 3, 12, 10)
                assert large.dtype == image.dtype
    with pytest.raises(ValueError, match=r"inp: .* no empty side"):
        model.gen_feat(torch.rand(1, 3, 0, 5))


def test_half_precision_of_a_decoding_function_that_does_not_fold(tiny):
    model, image = tiny(), torch.rand(1, 3, 9, 8)
    model.imnet = Doubled(model.imnet)
    want = model.upscale(image, scale=2)
    for dtype in (torch.bfloat16, torch.float16):
        # colours of about 1 through three layers of bfloat16, 2^-9 of each
        assert (model.upscale(image, scale=2, dtype=dtype) - want).abs().max() <= 0.02


def test_no_image_is_no_calibration(tiny):
    empty = torch.rand(0, 3, 9, 9)
    with pytest.raises(ValueError, match=r"images: at least one image .* got an empty batch"):
        tiny().quantize(empty)
    assert tiny().upscale(empty, scale=2, dtype=torch.int8).shape == (0, 3, 18, 18)
    one = torch.rand(1, 3, 9, 9)
    assert torch.equal(tiny().quantize([empty, one]).act_scale > 0, torch.ones(1, dtype=torch.bool))


def grey(dtype, alpha=False):
    pixels = np.random.default_rng(0).random((40, 30, 2) if alpha else (40, 30))
    if dtype is not np.float32:
        return (pixels * np.iinfo(dtype).max).astype(dtype)
    return pixels.astype(dtype)


IMAGES = {
    "I;16": lambda: Image.fromarray(grey(np.uint16)),
    "I": lambda: Image.fromarray(grey(np.uint16).astype(np.int32)),
    "L": lambda: Image.fromarray(grey(np.uint8)),
    "F": lambda: Image.fromarray(grey(np.float32)),
    "LA": lambda: Image.fromarray(grey(np.uint8, alpha=True), "LA"),
    "uint16": lambda: grey(np.uint16),
    "uint16 one channel": lambda: grey(np.uint16)[:, :, None],
    "uint16 colour": lambda: np.dstack([grey(np.uint16)] * 3),
    "float": lambda: grey(np.float32),
    "uint16 tensor": lambda: torch.from_numpy(grey(np.uint16))[None],
    "uint16 colour batch": lambda: torch.from_numpy(grey(np.uint16)).expand(2, 3, -1, -1),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_int8_takes_every_image(tiny, kind):
    torch.manual_seed(0)
    model, image = tiny([16, 16]), IMAGES[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, got = model.upscale(image, scale=2), model.upscale(image, scale=2, dtype=torch.int8)
        again = model.quantize(image).upscale(image, scale=2)
    assert type(got) is type(want)
    want, got, again = (torch.as_tensor(np.asarray(t).astype(np.float64)) for t in (want, got, again))
    assert got.shape == want.shape
    # steps of an eighth of a per cent in one layer of two, of which most cancels
    assert (got - want).abs().mean() <= 0.005 * max(1.0, want.max())
    assert kind == "LA" or torch.equal(got, again)  # alpha is calibrated by itself


def test_16_bit_tensors_keep_their_depth(tiny):
    model = tiny()
    image = torch.from_numpy(grey(np.uint16))[None]
    large = model.upscale(image, scale=1.5)
    assert large.dtype == torch.uint16
    as_float = model.upscale(image.float() / 65535, scale=1.5)
    assert (large.float() / 65535 - as_float).abs().max() <= 1 / 65535
    with pytest.raises(TypeError, match="image: a tensor of dtype uint8, uint16 or floating point"):
        model.upscale(image.to(torch.int32), scale=2)


def test_int8_without_a_kernel_is_said_once(tiny, monkeypatch):
    monkeypatch.setattr(quantized, "_said_slow", set())
    image = torch.rand(3, 9, 9)
    model = tiny()
    if ops.CPU_KERNELS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.quantize(image)
    monkeypatch.setattr(ops, "CPU_KERNELS", False)
    with pytest.warns(UserWarning, match="int8: no compiled kernel runs it on cpu here, so it is slower than float32"):
        model.upscale(image, scale=2, dtype=torch.int8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.quantize(image).upscale(image, scale=2)
    monkeypatch.setattr(quantized, "_said_slow", set())
    with pytest.warns(UserWarning, match="int8"):
        copied = model.quantize(image)
    monkeypatch.setattr(quantized, "_said_slow", set())
    with pytest.warns(UserWarning, match="int8: no compiled kernel"):
        copied.upscale(image, scale=2)  # as one that was loaded


@pytest.mark.usefixtures("no_matrix_units")
def test_the_command_says_it_in_one_line(tmp_path, monkeypatch, capsys):
    """eval and upscale, two pictures each: once, as a note."""
    model = build(EDSR)
    model.save(tmp_path / "m.safetensors")
    folder = training_files.make_images(tmp_path / "images", sizes=((40, 48), (44, 40)))
    monkeypatch.setattr(ops, "CPU_KERNELS", False)
    common = ["-s", "2", "-m", str(tmp_path / "m.safetensors"), "--dtype", "int8"]
    for command in (["eval", "--data", str(folder)], ["upscale", str(folder), "-o", str(tmp_path / "out")]):
        monkeypatch.setattr(quantized, "_said_slow", set())
        assert cli.main([*command, *common]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if "int8" in line]
        assert len(said) == 1
        assert said[0].startswith("liif-fast: note: ")
        assert "int8: no compiled kernel" in said[0]
        assert ".py" not in said[0]
