"""WebP without loss: what was stored so stays so, and --quality 100 means it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from liif_fast.images import containers as image_containers
from liif_fast.images import files as images

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
