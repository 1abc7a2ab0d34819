"""Views as files, and the commands that make the same files."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from desks import BICUBIC, HEIGHT, MODEL, NEAREST, TRUTH, WIDTH, desk_of, drawn, nothing, smooth
from PIL import Image

from liif_fast.cli import main as cli
from liif_fast.viewing.desk import Desk, Shown
from liif_fast.viewing.view import View, ViewError
from liif_fast.weights import checkpoints


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_command_makes_the_file(model_file, tmp_path, monkeypatch, dtype, mode):
    file = tmp_path / "a photo's.png"
    smooth((WIDTH, HEIGHT), mode).save(file)
    model = checkpoints.load(model_file)
    arguments = ("-m", str(model_file), "--dtype", dtype, "--device", "cpu")
    desk = Desk([file], [Shown("small", model, getattr(torch, dtype), "", arguments)])
    monkeypatch.chdir(tmp_path)
    # a view of whole numbers; one of such that need 17 digits; one of a hundredth of a pixel; enlarged and reduced
    for view, size in (
        (View(0, MODEL, 2, 10, 20, 30, 40), (40, 30)),
        (View(0, MODEL, 3.7, 11, 23, 31, 17), (34, 62)),
        (View(0, MODEL, 1000, 12345, 6789, 10, 10), (50, 50)),
        (View(0, MODEL, 0.7, 3, 2, 20, 15), (15, 20)),
    ):
        saved = desk.save(view, size, nothing)
        name, *words = shlex.split(desk.command(view, size))
        assert name == "liif-fast"
        assert cli.main([*words, "--overwrite"]) == 0
        assert (tmp_path / "a photo's_view.png").read_bytes() == saved
        assert Image.open(io.BytesIO(saved)).size == size[::-1]


@pytest.mark.parametrize("name", ["-photo.png", "a[1].png", "@photo", "sky $HOME `x` \u65e5.png"])
def test_names_that_are_taken_for_something_else(model_file, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    smooth((WIDTH, HEIGHT)).save(name, format="png")
    arguments = ("-m", str(model_file), "--dtype", "float32", "--device", "cpu")
    desk = Desk([Path(name)], [Shown("small", checkpoints.load(model_file), torch.float32, "", arguments)])
    view, size = View(0, MODEL, 2, 10, 20, 30, 40), (40, 30)
    words = shlex.split(desk.command(view, size))[1:]
    assert cli.main(words) == 0
    assert Path(f"{Path(name).stem}_view.png").read_bytes() == desk.save(view, size, nothing)


def test_of_an_animation_there_is_no_command(tiny, tmp_path):
    """It would write all frames; a view is of the first."""
    frames = [smooth((WIDTH, HEIGHT), seed=seed) for seed in range(3)]
    for suffix in ("gif", "png", "webp"):
        file = tmp_path / f"photo.{suffix}"
        frames[0].save(file, save_all=True, append_images=frames[1:], duration=100)
        desk = desk_of(tiny().eval(), file)
        with pytest.raises(ViewError, match="of an animation a command writes all frames"):
            desk.command(View(0, MODEL, 2, 0, 0, 5, 5), (5, 5))
    frames[0].save(tmp_path / "still.gif")
    assert desk_of(tiny().eval(), tmp_path / "still.gif").command(View(0, MODEL, 2, 0, 0, 5, 5), (5, 5))


def test_what_is_saved_is_what_is_seen(tiny, file, truth):
    desk = desk_of(tiny().eval(), file, truths=[truth])
    view = View(0, 0, 2.5, 11, 7, 60, 50)
    for method in (BICUBIC, NEAREST, MODEL, TRUTH):
        seen = drawn(desk, view._replace(method=method))[..., :3].astype(int)
        saved = Image.open(io.BytesIO(desk.save(view._replace(method=method), (50, 60), nothing)))
        assert np.abs(np.asarray(saved.convert("RGB")) - seen).max() <= 1


def test_of_interpolation_there_is_no_command(tiny, file):
    desk = desk_of(tiny(), file)
    with pytest.raises(ViewError, match="of a model there is a command, of no other"):
        desk.command(View(0, BICUBIC, 2, 0, 0, 5, 5), (5, 5))


def test_an_8_bit_model_is_calibrated_for_each_photo(tiny, tmp_path):
    files = [tmp_path / "dark.png", tmp_path / "bright.png"]
    smooth((WIDTH, HEIGHT)).point(lambda v: v // 16).save(files[0])
    smooth((WIDTH, HEIGHT)).save(files[1])
    quantized = tiny().eval().quantize()
    desk = desk_of(quantized, *files)
    view = View(1, MODEL, 2, 0, 0, 40, 40)
    desk.tile(view._replace(photo=0))
    seen = drawn(desk, view)
    saved = desk.save(view, (40, 40), nothing)
    assert not quantized.calibrated, "the model itself stays as it came"
    fresh = quantized.quantize(Image.open(files[1]))
    want = fresh.upscale(Image.open(files[1]), size=(40, 40), window=view.window(), dtype=torch.float32)
    want = np.asarray(want).astype(int)
    assert np.abs(seen[..., :3] - want).max() <= 2
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(saved))), want)
