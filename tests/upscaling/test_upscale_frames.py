"""``upscale`` of animations and of files of several pages: each picture is what it would be alone."""

from __future__ import annotations

import os

import numpy as np
import pytest
from command import runner
from PIL import Image

from liif_fast.images import files as images


@pytest.fixture
def model(tiny):
    return tiny()


@pytest.fixture
def run(model, monkeypatch):
    return runner(monkeypatch, model)


def animation(path, alpha=False):
    rng = np.random.default_rng(3)
    base = rng.integers(0, 256, (10, 14, 3 + alpha), dtype=np.uint8)
    if alpha:
        base[..., 3] = np.where(base[..., 3] < 64, 0, 255)
    pictures = [Image.fromarray(np.roll(base, 3 * i, 1)) for i in range(3)]
    how = {"disposal": 2} if path.suffix == ".gif" else {}
    if path.suffix == ".webp":
        how = {"lossless": True}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[40, 120, 70], loop=0, **how)
    return path


def each(path):
    """RGBA and milliseconds of each frame, as Pillow shows it."""
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            image.load()
            yield image.convert("RGBA"), image.info["duration"]


def alone(model, picture: Image.Image) -> np.ndarray:
    done = np.array(model.upscale(picture, scale=2))
    done[done[..., 3] == 0] = 0
    return done.astype(int)


@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_frames_equal_each_done_alone(run, model, tmp_path, monkeypatch, capsys, suffix, alpha):
    monkeypatch.chdir(tmp_path)
    source = animation(tmp_path / f"a.{suffix}", alpha)
    assert run(source, "-s", "2") == 0
    said = capsys.readouterr()
    assert ("GIF holds 256 colours" in said.err) == (suffix == "gif")
    result = list(each(tmp_path / f"a_x2.{suffix}"))
    for (picture, shown), (enlarged, written) in zip(each(source), result, strict=True):
        assert shown == written
        got = np.array(enlarged).astype(int)
        got[got[..., 3] == 0] = 0
        want = alone(model, picture)
        if suffix != "gif":
            np.testing.assert_array_equal(got, want)
        else:  # up to its palette: coverage is one or the other
            solid = want[..., 3] >= 128
            np.testing.assert_array_equal(got[..., 3], 255 * solid)
            assert np.abs(got - want)[solid][:, :3].mean() < 6  # another frame differs by 20 and more


def test_pages_of_their_own_sizes(run, model, tmp_path):
    rng = np.random.default_rng(4)
    pages = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((6, 8), (9, 5))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert run(tmp_path / "a.tif", "-s", "2") == 0
    with Image.open(tmp_path / "a_x2.tif") as result:
        assert result.n_frames == 2
        for i, page in enumerate(pages):
            result.seek(i)
            np.testing.assert_array_equal(np.asarray(result), np.asarray(model.upscale(page, scale=2)))
    # the second is too large: nothing is left
    assert run(tmp_path / "a.tif", "--size", "20x", "--max-output-pixels", 20 * 20) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a_x2.tif"]


@pytest.mark.parametrize("left", [1, 2])
def test_pages_that_are_cut_off_are_said(run, tmp_path, capsys, left):
    """Those before them look whole: each names the next one's place, which is after its own pixels. With several left a
    file of pages is refused, and what holds one picture gets the first."""
    pages = [Image.new("RGB", (14, 10), (80 * i, 0, 0)) for i in range(3)]
    pages[0].save(tmp_path / "short.tif", save_all=True, append_images=pages[1:left])
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    os.truncate(tmp_path / "a.tif", (tmp_path / "short.tif").stat().st_size)
    for name in ("short.tif", "a.tif"):
        for output in ("out.tif", "out.png"):
            code = run(tmp_path / name, "-o", tmp_path / output, "-s", "2", "--overwrite")
            said, cut = capsys.readouterr().err, name == "a.tif"
            refused = cut and left == 2 and output == "out.tif"
            assert code == refused
            assert ("the list of its pages is cut off after 2; get a complete copy" in said) == refused
            noted = "a further page that the file names cannot be read: it may be cut short" in said
            assert noted == (cut and not refused)


def test_an_animation_into_what_holds_one_frame_is_said(run, tmp_path, capsys):
    source = animation(tmp_path / "a.gif")
    assert run(source, "-o", tmp_path / "a.jpg", "-s", "2") == 0
    assert "the file holds 3 frames, JPEG one: the first is written; gif, webp" in capsys.readouterr().err
    assert images.read(tmp_path / "a.jpg").pixels.shape == (20, 28, 3)
    Image.open(source).save(tmp_path / "still.gif")
    assert run(tmp_path / "still.gif", "-s", "2") == 0
    assert (tmp_path / "still_x2.png").exists()  # all its colours


def test_an_input_that_its_result_does_not_replace_is_said(run, tmp_path, capsys):
    """A still GIF becomes a PNG."""
    Image.new("RGB", (14, 10), (200, 0, 0)).save(tmp_path / "a.gif")
    Image.new("RGB", (14, 10), (200, 0, 0)).save(tmp_path / "b.png")
    assert run(tmp_path / "a.gif", tmp_path / "b.png", "-s", "2", "--in-place") == 0
    said = capsys.readouterr().err
    assert "a.gif: it is kept: its result, a.png, is of another format" in said
    assert "b.png" not in said
    assert images.read(tmp_path / "a.gif").pixels.shape == (10, 14, 3)
    assert images.read(tmp_path / "a.png").pixels.shape == (20, 28, 3)
