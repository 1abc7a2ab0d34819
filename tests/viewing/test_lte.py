"""A page of LTE and LTE+: pixels of ``upscale``, with the image that the colours are added to; files and commands."""

from __future__ import annotations

import io
import shlex

import command
import numpy as np
import pytest
import torch
from desks import HEIGHT, MODEL, WIDTH, desk_of, drawn, nothing, smooth, whole
from PIL import Image

import liif_fast
from liif_fast.cli import main as cli
from liif_fast.models import mosaic
from liif_fast.viewing.desk import Desk, Shown
from liif_fast.viewing.view import View, extent

# of 255, at most, and for what share of the pixels more than a rounding that turns over: in bfloat16 these models are
# themselves up to 16 from float32, which a feature may be that another piece rounds otherwise
LOSS = {torch.float32: (1, 0.0), torch.bfloat16: (16, 0.01)}


@pytest.fixture(params=["lte", "lte-fast"])
def lte_file(request, tmp_path):
    """Of a head whose waves are seen: what it adds is as large as the photo's own contrasts."""
    path = command.small_lte(tmp_path, request.param)
    model = liif_fast.load(path)
    with torch.no_grad():
        model.coef.weight.mul_(30)
        model.freq.weight.mul_(10)
    model.save(path)
    return path


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "blocks"])
@pytest.mark.parametrize("dtype", LOSS, ids=str)
@pytest.mark.parametrize("scale", [2, 1, 0.5, 4.3])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_the_pixels_of_upscale(lte_file, tmp_path, monkeypatch, scale, mode, dtype, pieces):
    if pieces:
        monkeypatch.setattr(mosaic, "WHOLE", 0)
        monkeypatch.setattr(mosaic, "BLOCK", 16)
    model, file = liif_fast.load(lte_file), tmp_path / "photo.png"
    smooth((WIDTH, HEIGHT), mode).save(file)
    desk = desk_of(model, file, dtype=dtype)
    view = View(0, MODEL, scale, 3, 2, extent(WIDTH, scale) - 5, extent(HEIGHT, scale) - 4)
    got = drawn(desk, view)
    want = model.upscale(Image.open(file), size=(view.height, view.width), window=view.window(), dtype=dtype)
    want = np.asarray(want.convert("RGBA")).astype(int)
    most, share = LOSS[dtype]
    difference = np.abs(got.astype(int) - want)
    difference[..., :3][want[..., 3] == 0] = 0
    assert desk._layer(MODEL)._mosaic(0, (HEIGHT, WIDTH)).side == (16 if pieces else max(WIDTH, HEIGHT))
    assert difference.max() <= most
    assert (difference > 1).mean() <= share


@pytest.mark.parametrize("scale", [3, 0.7])
def test_tiles_are_parts_of_the_whole(lte_file, file, monkeypatch, scale):
    monkeypatch.setattr(mosaic, "WHOLE", 0)
    monkeypatch.setattr(mosaic, "BLOCK", 16)
    desk = desk_of(liif_fast.load(lte_file), file)
    all_of_it = whole(desk, scale, MODEL).astype(int)
    for x, y, width, height in ((0, 0, 9, 7), (11, 5, 13, 14), (extent(WIDTH, scale) - 5, 3, 5, 5)):
        part = drawn(desk, View(0, MODEL, scale, x, y, width, height))
        assert np.abs(part - all_of_it[y : y + height, x : x + width]).max() <= 1  # a rounding that turns over


def test_the_photo_is_in_the_colours(lte_file, file):
    """Of a head that says nothing the page shows the photo, by bilinear interpolation."""
    model = liif_fast.load(lte_file)
    for p in (model.imnet or model.layers).parameters():
        torch.nn.init.zeros_(p)
    got = whole(desk_of(model, file), 3)[..., :3].astype(int)
    image = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).unsqueeze(0).float()
    want = torch.nn.functional.interpolate(image, scale_factor=3, mode="bilinear").round()
    assert np.abs(got - want[0].permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_command_makes_the_file(lte_file, tmp_path, monkeypatch, dtype, mode):
    smooth((WIDTH, HEIGHT), mode).save(tmp_path / "photo.png")
    arguments = ("-m", str(lte_file), "--dtype", dtype, "--device", "cpu")
    shown = Shown("lte", liif_fast.load(lte_file), getattr(torch, dtype), "", arguments)
    desk = Desk([tmp_path / "photo.png"], [shown])
    monkeypatch.chdir(tmp_path)
    for view, size in (
        (View(0, MODEL, 3.7, 11, 23, 31, 17), (34, 62)),
        (View(0, MODEL, 0.7, 3, 2, 20, 15), (15, 20)),
    ):
        saved = desk.save(view, size, nothing)
        assert cli.main([*shlex.split(desk.command(view, size))[1:], "--overwrite"]) == 0
        assert (tmp_path / "photo_view.png").read_bytes() == saved
        assert Image.open(io.BytesIO(saved)).size == size[::-1]
