"""The command ``upscale``: what it writes and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import command
import numpy as np
import pytest
from PIL import Image

import liif_fast

pytestmark = pytest.mark.usefixtures("no_matrix_units")


@pytest.fixture
def run(model_file, capsys):
    return command.caller(model_file, capsys)


def test_one_file(run, photo, tmp_path, model_file):
    out = tmp_path / "new" / "large.png"
    code, stdout, stderr = run(photo, "-o", out, "-s", "2.5")
    assert (code, stderr) == (0, "")
    assert stdout.startswith(f"{out}: 14x10 -> 35x25 in ")
    want = liif_fast.load(model_file).upscale(Image.open(photo), scale=2.5)
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(want))


@pytest.mark.parametrize(("size", "want"), [("28x20", (28, 20)), ("28x", (28, 20)), ("x5", (7, 5)), ("9X30", (9, 30))])
def test_size(run, photo, tmp_path, size, want):
    assert run(photo, "-o", tmp_path / "o.png", "--size", size)[0] == 0
    assert Image.open(tmp_path / "o.png").size == want


def test_folder_formats_and_names(run, photo, tmp_path):
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    image = Image.open(photo)
    for name in ("a.png", "b.jpg", "c.webp", "d.tif", "e.bmp", "f.gif", "deep/g.png"):
        image.save(source / name)
    (source / "notes.txt").write_text("not an image")
    code, _, _ = run(source, "-o", tmp_path / "flat", "-s", "2")
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "flat").iterdir()) == [
        "a.png",
        "b.jpg",
        "c.webp",
        "d.tif",
        "e.bmp",
        "f.png",
    ]
    code, _, _ = run(source, "-r", "-o", tmp_path / "all", "-s", "2", "--suffix", "_x2", "--format", "webp")
    assert code == 0
    found = sorted(str(p.relative_to(tmp_path / "all")) for p in (tmp_path / "all").rglob("*.*"))
    assert found == sorted([*(f"{c}_x2.webp" for c in "abcdef"), "deep/g_x2.webp"])
    assert all(Image.open(tmp_path / "all" / f).format == "WEBP" for f in found)


def test_json(run, photo, tmp_path):
    code, stdout, _ = run(photo, tmp_path / "gone.png", "-o", tmp_path / "out", "-s", "2", "--json")
    assert code == 1
    rows = [json.loads(line) for line in stdout.splitlines()]
    by_input = {Path(r["input"]).name: r for r in rows}
    assert by_input["photo.png"]["out_size"] == [28, 20]
    assert by_input["photo.png"]["error"] is None
    assert "gone.png" in by_input["gone.png"]["error"]


def test_existing_outputs_are_kept(run, photo, tmp_path):
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    code, _, stderr = run(photo, "-o", out, "-s", "2")
    assert code == 1
    assert "exists" in stderr
    assert "--overwrite" in stderr
    assert out.read_bytes() == b"precious"
    assert run(photo, "-o", out, "-s", "2", "--overwrite")[0] == 0
    assert Image.open(out).size == (28, 20)


def test_two_inputs_for_one_output(run, photo, tmp_path):
    other = tmp_path / "other" / "photo.png"
    other.parent.mkdir()
    Image.open(photo).save(other)
    code, _, stderr = run(photo, other, "-o", tmp_path / "out", "-s", "2", "--overwrite")
    assert code == 1
    assert "another input" in stderr


def test_a_second_run_leaves_the_first_ones_outputs_alone(run, photo, tmp_path):
    for extra in ([], ["--overwrite"]):
        assert run(tmp_path, "-r", "-o", tmp_path / "large", "-s", "2", *extra)[0] == 0
        assert sorted(p.name for p in (tmp_path / "large").rglob("*")) == ["photo.png"]


def test_dtype_and_tile(run, photo, tmp_path):
    results = {}
    for name, extra in {
        "plain": [],
        "tiled": ["--tile", "4"],
        "half": ["--dtype", "bfloat16"],
        "int8": ["--dtype", "int8"],
    }.items():
        assert run(photo, "-o", tmp_path / f"{name}.png", "-s", "3", *extra)[0] == 0
        results[name] = np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int)
    assert np.abs(results["tiled"] - results["plain"]).max() <= 1
    for name in ("half", "int8"):  # 8 bits, through four layers
        assert 1 <= np.abs(results[name] - results["plain"]).max() <= 5


def test_alpha_orientation_and_profile(run, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8))
    image.save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    exif[0x010F] = "maker"
    profile = _profile()  # holds the time of its making
    Image.new("RGB", (8, 6), "red").save(tmp_path / "turned.jpg", exif=exif, icc_profile=profile)
    code, _, stderr = run(tmp_path / "alpha.png", tmp_path / "turned.jpg", "-o", tmp_path / "out", "-s", "2")
    assert (code, stderr) == (0, "")
    assert Image.open(tmp_path / "out" / "alpha.png").mode == "RGBA"
    turned = Image.open(tmp_path / "out" / "turned.jpg")
    assert turned.size == (12, 16)
    assert turned.getexif()[0x010F] == "maker"
    assert turned.getexif().get(0x0112, 1) == 1
    assert turned.info["icc_profile"] == profile


def _profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_losses_are_said(run, tmp_path):
    Image.new("CMYK", (8, 6), (10, 20, 30, 40)).save(tmp_path / "print.jpg")
    code, _, stderr = run(tmp_path / "print.jpg", "-o", tmp_path / "o.png", "-s", "2")
    assert code == 0
    assert "note:" in stderr
    assert "CMYK" in stderr
    Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert run(tmp_path / "deep.png", "-o", tmp_path / "deep_out.png", "-s", "2")[::2] == (0, "")
    assert Image.open(tmp_path / "deep_out.png").mode == "I;16"


def test_a_window_of_a_picture(run, model_file, tmp_path):
    """The picture's own pixels, upright; the name says that it is a part."""
    pixels, model = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8), liif_fast.load(model_file)
    source = tmp_path / "a.png"
    Image.fromarray(pixels).save(source)
    code, stdout, _ = run(source, "-s", "2", "--window", "2.5,-1,8x6")
    assert (code, "16x12 -> 16x12" in stdout) == (0, True)
    want = model.upscale(pixels, scale=2, window=(-1, 2.5, 6, 8))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a_x2_window.png")), want)
    assert run(source, "--fit", "40x40", "--window", "0,0,8x4", "-o", tmp_path / "b.png")[0] == 0
    assert Image.open(tmp_path / "b.png").size == (40, 20)
    assert run(source, "-s", "0.5", "--point", "-o", tmp_path / "c.png")[0] == 0
    want = model.upscale(pixels, scale=0.5, point=True)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "c.png")), want)
