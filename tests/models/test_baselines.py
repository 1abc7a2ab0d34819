"""SRCNN, SRResNet, MetaSR: what they compute, and that the same command trains them and files and eval take them."""

from __future__ import annotations

import math

import numpy as np
import plain_liif
import pytest
import torch
import torch.nn.functional as F
import training_files as files
from liif_queries import grid_of
from PIL import Image
from torch import nn
from training_files import METASR, SRCNN, SRRESNET

import liif_fast
from liif_fast.cli import main as cli
from liif_fast.models.baselines import metasr
from liif_fast.models.baselines.common import at, enlarged
from liif_fast.weights import checkpoints


def test_enlarged_is_pillows_bicubic():
    """To the roundings of Pillow's 8 bits, one for each axis, the first of which the second pass may enlarge by 1.25.

    Colours far from black and white: Pillow clips between the passes.
    """
    image = np.random.default_rng(0).integers(80, 176, (9, 13, 3), dtype=np.uint8)
    for size in ((27, 39), (20, 31), (36, 52)):
        want = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)).astype(float)
        got = enlarged(torch.from_numpy(image).permute(2, 0, 1)[None].float(), size)[0].permute(1, 2, 0)
        assert np.abs(got.numpy() - want).max() < 0.5 + 0.5 * 1.25 + 1e-3


def test_srcnn_is_the_papers():
    """F3(relu(F2(relu(F1(Y))))) on the bicubic image; where kernels reach over the border it is repeated."""
    for kernels in ((9, 5, 5), (9, 1, 5)):
        model = liif_fast.make({"name": "srcnn", "args": {"kernels": kernels}})
        assert [tuple(p.weight.shape) for p in model.layers] == [
            (64, 3, kernels[0], kernels[0]),
            (32, 64, kernels[1], kernels[1]),
            (3, 32, kernels[2], kernels[2]),
        ]
        x = torch.rand(1, 3, 8, 9)
        y = enlarged(x, (24, 27))
        for i, layer in enumerate(model.layers):
            y = F.conv2d(F.pad(y, (kernels[i] // 2,) * 4, "replicate"), layer.weight, layer.bias)
            y = y.relu() if i < 2 else y
        assert torch.allclose(model.render(x, (24, 27)), y, atol=1e-6)


def test_an_srcnn_may_say_its_scale(tmp_path):
    """It is kept by files and read by comparisons; pictures, keys and specs without one are as they were."""
    model = liif_fast.make({"name": "srcnn", "args": {"scale": 4}})
    model.save(tmp_path / "m.safetensors")
    loaded = liif_fast.load(tmp_path / "m.safetensors")
    assert (loaded.scale, loaded.spec["args"]["scale"]) == (4, 4)
    plain = liif_fast.make({"name": "srcnn"})
    plain.load_state_dict(model.state_dict())
    assert plain.scale is None
    assert "scale" not in plain.spec["args"]
    x = torch.rand(1, 3, 8, 9)
    assert torch.equal(loaded.upscale(x, scale=2.5), plain.upscale(x, scale=2.5))


def test_srresnet_is_the_papers():
    """16 blocks of 64 channels: 1,549,462 parameters at scale 4 as counted from figure 4, one PReLU weight each."""
    conv = lambda n_in, n_out, k: n_in * n_out * k * k + n_out  # noqa: E731
    block = 2 * conv(64, 64, 3) + 2 * 128 + 1
    want = conv(3, 64, 9) + 1 + 16 * block + conv(64, 64, 3) + 128 + 2 * (conv(64, 256, 3) + 1) + conv(64, 3, 9)
    model = liif_fast.make({"name": "srresnet"})
    assert sum(p.numel() for p in model.parameters()) == want
    assert model.render(torch.rand(1, 3, 5, 6), (20, 24)).shape == (1, 3, 20, 24)
    discriminator = liif_fast.make({"name": "srgan-discriminator"})
    features = [m for m in discriminator.features if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in features] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [m.stride[0] for m in features] == [1, 2] * 4
    assert discriminator(torch.rand(2, 3, 96, 96)).shape == (2, 1)


def test_discriminators_norms():
    """Spectral: the largest singular value of each convolution is 1, and an image's verdict is its own.

    To 0.02: the power iteration is slow where two singular values are close (0.009 at worst with 300 seeds).
    """
    make = lambda norm: liif_fast.make(  # noqa: E731
        {"name": "srgan-discriminator", "args": {"n_feats": 4, "hidden": 8, "norm": norm}}
    )
    images = torch.rand(3, 3, 24, 24)
    spectral = make("spectral").train()
    for _ in range(300):  # each pass is a step of the power iteration
        spectral(images)
    spectral.eval()
    for layer in spectral.features:
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)
    for norm, alone in (("batch", False), ("spectral", True), ("none", True)):
        # spectral: eval, since a pass in training goes on with the power iteration
        discriminator = make(norm).train(norm != "spectral")
        assert torch.allclose(discriminator(images)[:1], discriminator(images[:1]), rtol=1e-4, atol=1e-5) == alone
        assert any(isinstance(m, nn.BatchNorm2d) for m in discriminator.modules()) == (norm == "batch")
    with pytest.raises(ValueError, match=r'norm: "batch", "spectral" or "none" is wanted, got'):
        make("group")


@pytest.mark.parametrize("spec", [SRCNN, SRRESNET], ids=lambda s: s["name"])
def test_queries_are_pixels(spec):
    model = liif_fast.make(spec).eval()
    inp = torch.rand(2, 3, 7, 6)
    image = model.render(inp, (14, 12))
    coord, cell = grid_of((14, 12), 2)
    assert torch.equal(model(inp, coord, cell), image.flatten(2).transpose(1, 2))
    chosen = torch.randperm(14 * 12)[:50]
    assert torch.equal(model(inp, coord[:, chosen], cell[:, chosen]), image.flatten(2).transpose(1, 2)[:, chosen])
    model.gen_feat(inp)
    with torch.no_grad():
        parts = [model.query_rgb(c, s) for c, s in zip(coord.split(50, 1), cell.split(50, 1), strict=True)]
    assert torch.equal(torch.cat(parts, 1), image.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("spec", [SRCNN, SRRESNET, METASR], ids=lambda s: s["name"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_weights_in_another_precision(spec, dtype, tmp_path):
    """A file in half precision, as the package's, is a model too; its weights are enough to compute in float32."""
    model = liif_fast.make(spec).eval().to(dtype)
    checkpoints.save(model, tmp_path / "other.safetensors")
    model = model.float()
    loaded = liif_fast.load(tmp_path / "other.safetensors")
    assert next(loaded.parameters()).dtype == dtype
    image = torch.rand(1, 3, 9, 8)
    want = model.upscale(image, scale=2)
    assert torch.equal(loaded.upscale(image, scale=2, dtype=torch.float32), want)
    # None: float16 where the weights have it, 11 bits and some roundings
    assert torch.allclose(loaded.upscale(image, scale=2), want, atol=0.01)
    assert next(loaded.parameters()).dtype == dtype


def test_samples_of_different_sizes():
    model = liif_fast.make(SRCNN)
    inp = torch.rand(2, 3, 6, 6)
    coord = torch.rand(2, 9, 2) * 2 - 1
    cell = torch.tensor([[2 / 12, 2 / 12], [2 / 15, 2 / 15]])[:, None].expand(2, 9, 2)
    want = [at(model.render(inp[i : i + 1], (n, n)), coord[i : i + 1]) for i, n in enumerate((12, 15))]
    assert torch.equal(model(inp, coord, cell), torch.cat(want))


@pytest.mark.parametrize("spec", [SRCNN, SRRESNET], ids=lambda s: s["name"])
def test_strips_are_exact(spec, monkeypatch):
    """In strips of few rows the same pixels, to float32 rounding of convolutions of another size."""
    from liif_fast.models.baselines import common, srcnn, srgan

    model = liif_fast.make(spec).eval()
    image = torch.rand(1, 3, 40, 11)
    want = model.upscale(image, scale=2, tile=0)
    for module in (common, srcnn, srgan):
        monkeypatch.setattr(module, "_STRIP", 22 * 8)
    assert (model.upscale(image, scale=2) - want).abs().max() < 1e-6
    assert want.std() > 1e-3


@pytest.mark.parametrize("spec", [SRCNN, SRRESNET, METASR], ids=lambda s: s["name"])
def test_files_and_images(spec, tmp_path):
    model = liif_fast.make(spec).eval()
    model.data_norm = {"inp": {"sub": [0.0], "div": [1.0]}, "gt": {"sub": [0.5], "div": [0.5]}}
    model.save(tmp_path / "m.safetensors")
    again = liif_fast.load(tmp_path / "m.safetensors")
    assert again.data_norm == model.data_norm
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 12, 4), dtype=np.uint8))
    large = again.upscale(image, scale=2)
    assert (large.mode, large.size) == ("RGBA", (24, 20))
    assert np.array_equal(np.asarray(large), np.asarray(model.upscale(image, scale=2)))
    assert model.upscale(image, size=(25, 31)).size == (31, 25)
    pixels = torch.rand(1, 3, 6, 6)
    normal = model.render(pixels, (12, 12)) * 0.5 + 0.5
    assert torch.allclose(model.upscale(pixels, scale=2), normal.clamp(0, 1), atol=1e-6)
    half = model.upscale(pixels, scale=2, dtype=torch.bfloat16)
    assert 0 < (half - normal.clamp(0, 1)).abs().max() < 0.1  # 8 bits of mantissa
    with pytest.raises(ValueError, match="dtype"):
        model.upscale(pixels, scale=2, dtype=torch.int8)


def test_metasr_is_the_official(monkeypatch):
    """Each query's own weights times the nearest unfolded feature, position measured from the pixels' corners."""
    model = liif_fast.make(METASR).eval()
    inp = torch.rand(2, 3, 6, 5)
    coord, cell = grid_of((15, 11), 2)
    state = model.state_dict()
    feat = plain_liif.encode(state, inp, 1)
    B, C, H, W = feat.shape
    unfolded = F.unfold(feat, 3, padding=1).view(B, 9 * C, H, W)
    want = torch.empty(B, 15 * 11, 3)
    for q in range(15 * 11):
        y, x = (coord[0, q] - cell[0, q] / 2).tolist()  # the upper left corner of the output pixel
        i, j = (min(n - 1, math.floor((v + 1 + 1e-6) / 2 * n)) for v, n in ((y, H), (x, W)))
        rel = [(y - (-1 + 2 * i / H)) * H / 2, (x - (-1 + 2 * j / W)) * W / 2]
        v = torch.tensor([*rel, cell[0, q, 0].item() * H / 2])
        hidden = F.relu(F.linear(v, state["imnet.layers.0.weight"], state["imnet.layers.0.bias"]))
        w = F.linear(hidden, state["imnet.layers.2.weight"], state["imnet.layers.2.bias"]).view(9 * C, 3)
        want[:, q] = unfolded[:, :, i, j] @ w
    assert torch.allclose(model(inp, coord, cell), want, atol=1e-5)
    for queries in (1 << 14, 50):  # at a time, of 165
        monkeypatch.setattr(metasr, "_QUERIES", queries)
        assert torch.allclose(model.render(inp, (15, 11)), want.transpose(1, 2).unflatten(2, (15, 11)), atol=1e-5)


@pytest.mark.parametrize("spec", [SRCNN, SRRESNET, METASR], ids=lambda s: s["name"])
def test_trained_by_the_same_command(spec, images, tmp_path, capsys):
    whole = {"inp_size": 12, "scale_min": 2, "augment": True}
    changes = {"train_dataset__wrapper__args": whole, "val_dataset__wrapper__args": {"inp_size": 20, "scale_min": 2}}
    if spec is METASR:
        changes = {}
    config = files.write(
        tmp_path / "c.yaml", files.configuration(images, model=spec, epoch_max=4, loss="mse", **changes)
    )
    assert cli.main(["train", str(config), "--save", str(tmp_path / "run")]) == 0
    found = files.losses(tmp_path / "run")
    assert sum(found[i] for i in range(13, 17)) < 0.9 * sum(found[i] for i in range(1, 5))
    capsys.readouterr()
    out = ["-s", "2", "-m", str(tmp_path / "run" / "epoch-last.pth")]
    assert cli.main(["eval", "--data", str(images), *out, "--json"]) == 0
    assert '"psnr": ' in capsys.readouterr().out
    assert cli.main(["upscale", str(images / "00.png"), "-o", str(tmp_path / "o.png"), *out]) == 0
    assert Image.open(tmp_path / "o.png").size == (140, 120)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "srcnn", "args": {"kernels": [9, 4, 5]}}, "three odd kernels"),
        ({"name": "srcnn", "args": {"scale": 2.5}}, "a whole number of at least 1 or None is wanted, got 2.5"),
        ({"name": "srcnn", "args": {"scale": True}}, "got True"),
        ({"name": "srresnet", "args": {"scale": 3}}, "2, 4 or 8"),
    ],
)
def test_bad_arguments(spec, words):
    with pytest.raises(ValueError, match=words):
        liif_fast.make(spec)
