"""Without loss: WebP stored so stays so, --quality 100 means it there, --lossless in every format or it is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from liif_fast.cli import common
from liif_fast.cli import main as cli
from liif_fast.images import containers as image_containers
from liif_fast.images import files as images
from liif_fast.images.frames import frames_of
from liif_fast.images.frames_writing import write_frames

PIXELS = np.random.default_rng(7).integers(0, 256, (24, 31, 4), dtype=np.uint8)


def picture(channels: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(PIXELS[..., :channels]))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("extra", [{}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}, {"icc_profile": b"\0" * 131}])
def test_a_lossless_webp_stays_lossless(tmp_path, channels, extra):
    picture(channels).save(tmp_path / "in.webp", lossless=True, exact=True, **extra)
    photo = images.read(tmp_path / "in.webp")
    assert photo.lossless
    images.write(tmp_path / "out.webp", photo)
    again = images.read(tmp_path / "out.webp")
    assert again.lossless
    np.testing.assert_array_equal(again.pixels, PIXELS[..., :3])
    if channels == 4:
        np.testing.assert_array_equal(again.alpha, PIXELS[..., 3])
    images.write(tmp_path / "small.webp", photo, quality=80)  # asked for
    assert not images.read(tmp_path / "small.webp").lossless


@pytest.mark.parametrize("channels", [3, 4])
def test_quality_100_is_lossless_and_a_lossy_source_is_none(tmp_path, channels):
    picture(channels).save(tmp_path / "in.webp", quality=90)
    photo = images.read(tmp_path / "in.webp")
    assert not photo.lossless
    images.write(tmp_path / "default.webp", photo)
    assert not images.read(tmp_path / "default.webp").lossless
    images.write(tmp_path / "full.webp", photo, quality=100)
    again = images.read(tmp_path / "full.webp")
    assert again.lossless
    np.testing.assert_array_equal(again.pixels, photo.pixels)


def test_first_frame_of_an_animation(tmp_path):
    frames = [picture(3), picture(3).rotate(180)]
    for lossless in (True, False):
        frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=lossless)
        assert images.read(tmp_path / "a.webp").lossless == lossless


def test_chunks_that_lie_about_their_size_end_the_search():
    data = io.BytesIO()
    picture(3).save(data, "WEBP", lossless=True)
    for size in (0, 1, 2**32 - 1):
        stream = io.BytesIO(data.getvalue()[:12] + b"JUNK" + size.to_bytes(4, "little") + data.getvalue()[12:])
        assert image_containers.is_lossless_webp(stream) == (size == 0)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "bmp", "jp2"])
def test_lossless_keeps_every_value(tmp_path, suffix):
    assert images.write(tmp_path / f"x.{suffix}", PIXELS[..., :3], lossless=True) == []
    np.testing.assert_array_equal(images.read(tmp_path / f"x.{suffix}").pixels, PIXELS[..., :3])


def test_lossless_in_heif(tmp_path):
    pytest.importorskip("pillow_heif", reason="needs the extra heif")
    assert images.write(tmp_path / "x.heic", PIXELS, lossless=True) == []
    photo = images.read(tmp_path / "x.heic")
    np.testing.assert_array_equal(np.dstack((photo.pixels, photo.alpha)), PIXELS)


@pytest.mark.parametrize(
    ("suffix", "why"), [("jpg", "always loses"), ("avif", "loses a little"), ("gif", "256 colours")]
)
def test_lossless_is_refused_where_it_is_not(tmp_path, suffix, why):
    frames = [images.Photo(PIXELS[..., :3], milliseconds=50)] * 2
    for writing in (
        lambda path: images.write(path, frames[0], lossless=True),
        lambda path: write_frames(path, frames, 2, 0, lossless=True),
    ):
        with pytest.raises(images.ImageError, match=rf"x\.{suffix}: not without loss .*{why}.*; use png, tif or webp"):
            writing(tmp_path / f"x.{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_lossless_animations(tmp_path):
    frames = [images.Photo(np.roll(PIXELS[..., :3], i, 0), milliseconds=50) for i in range(2)]
    write_frames(tmp_path / "x.webp", frames, 2, 0, lossless=True)
    found = frames_of(images.read(tmp_path / "x.webp"), tmp_path / "x.webp", "WEBP")
    for photo, want in zip(found, frames, strict=True):
        np.testing.assert_array_equal(photo.pixels, want.pixels)


def test_the_command_says_it_before_the_model_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "load", lambda *_: pytest.fail("loaded"))
    picture(3).save(tmp_path / "a.jpg")
    assert cli.main(["upscale", str(tmp_path / "a.jpg"), "-s", "2", "--lossless"]) == 1
    assert "a_x2.jpg: not without loss in JPEG, which always loses some; use png" in capsys.readouterr().err
    assert cli.main(["upscale", str(tmp_path / "a.jpg"), "--lossless", "--quality", "90"]) == 2
    assert "--lossless: not together with --quality" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("suffix", "image", "why"),
    [
        ("webp", PIXELS[..., :3].astype(np.uint16), "has 8 bits per channel here, not 16; use png or tif"),
        ("jp2", PIXELS.astype(np.uint16), "has 8 bits per channel here, not 16; use png or tif"),
        ("bmp", PIXELS[..., 0].astype(np.uint16), "has 8 bits per channel here, not 16; use png or tif"),
        ("bmp", PIXELS, "has no alpha; use png, tif or webp"),
    ],
)
def test_lossless_is_refused_for_what_a_format_does_not_hold(tmp_path, monkeypatch, capsys, suffix, image, why):
    with pytest.raises(images.ImageError, match=rf"x\.{suffix}: not without loss in \w+, which {why}"):
        images.write(tmp_path / f"x.{suffix}", image, lossless=True)
    monkeypatch.setattr(common, "load", lambda *_: pytest.fail("loaded"))
    images.write(tmp_path / "a.png", image)
    assert cli.main(["upscale", str(tmp_path / "a.png"), "--lossless", "-o", str(tmp_path / f"x.{suffix}")]) == 1
    assert why in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_lossless_keeps_an_alpha_that_says_nothing_and_16_bits_of_grey(tmp_path):
    opaque = np.dstack((PIXELS[..., :3], np.full(PIXELS.shape[:2], 255, np.uint8)))
    assert images.write(tmp_path / "x.bmp", opaque, lossless=True) == []
    grey = PIXELS[..., 0].astype(np.uint16) * 200
    assert images.write(tmp_path / "x.jp2", grey, lossless=True) == []
    np.testing.assert_array_equal(images.read(tmp_path / "x.jp2").pixels[..., 0], grey)
    deep = images.Photo(PIXELS[..., :3].astype(np.uint16), milliseconds=50)
    with pytest.raises(images.ImageError, match=r"x\.png: not without loss: frames hold 8 bits per channel"):
        write_frames(tmp_path / "x.png", [deep, deep], 2, 0, lossless=True)
