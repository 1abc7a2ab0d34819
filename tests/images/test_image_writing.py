"""Writing image files: what each format holds, and what is said of the rest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from image_bytes import exif, profile
from PIL import Image, JpegImagePlugin

from liif_fast.images.files import ImageError, Photo, check_output, check_size, read, write

RNG = np.random.default_rng(7)
GREY, RGB = (RNG.integers(0, 256, (40, 30, c), dtype=np.uint8) for c in (1, 3))
ALPHA = RNG.integers(0, 256, (40, 30), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (40, 30, 1), dtype=np.uint16)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


LOSSLESS = dict.fromkeys(("png", "tif", "jp2", "tga", "dds", "sgi", "qoi"), True)
LOSSLESS |= dict.fromkeys(("bmp", "ppm", "pcx"), False)


@pytest.mark.parametrize(("suffix", "holds_alpha"), LOSSLESS.items())
@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["opaque", "alpha"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_formats_give_back_what_was_written_or_say_what_they_lose(
    tmp_path, suffix, holds_alpha, alpha, pixels
):
    path = tmp_path / f"x.{suffix}"
    notes = write(path, Photo(pixels, alpha))
    back = read(path)
    if alpha is None or holds_alpha:
        assert notes == []
        np.testing.assert_array_equal(back.pixels, np.broadcast_to(pixels, back.pixels.shape))
        assert (back.alpha is None) == (alpha is None)
        if alpha is not None:
            np.testing.assert_array_equal(back.alpha, alpha)
    else:
        assert "no alpha: transparent parts are laid on white" in notes[0]
        white = pixels * (alpha[:, :, None] / 255.0) + 255 - alpha[:, :, None]
        # half a step of rounding, plus float64 dust
        assert np.abs(back.pixels - white).max() <= 0.5 + 1e-9
        assert back.alpha is None


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2", "pgm"])
def test_16_bit_grey_stays_16_bit(tmp_path, suffix):
    assert write(tmp_path / f"x.{suffix}", Photo(DEEP)) == []
    np.testing.assert_array_equal(read(tmp_path / f"x.{suffix}").pixels, DEEP)


def test_16_bit_that_does_not_fit_is_rounded_to_8_with_a_note(tmp_path):
    wanted = np.rint(DEEP / 257.0)
    for suffix, photo in (
        ("bmp", Photo(DEEP)),
        ("tga", Photo(DEEP, DEEP[:, :, 0])),
        ("jp2", Photo(DEEP.repeat(3, 2))),
    ):
        notes = write(tmp_path / f"x.{suffix}", photo, overwrite=True)
        assert notes[0].startswith("16 bits per channel are written as 8")
        back = read(tmp_path / f"x.{suffix}")
        np.testing.assert_array_equal(back.pixels, np.broadcast_to(wanted, back.pixels.shape))
    assert "16 bits" in write(tmp_path / "x.jpg", Photo(DEEP))[0]


def test_lossy_formats_use_quality(tmp_path):
    smooth = np.add.outer(np.arange(64), 2 * np.arange(64))[:, :, None].repeat(3, 2).astype(np.uint8)
    for suffix in ("jpg", "webp", "avif"):
        sizes = []
        for quality in (30, 90, None):
            path = tmp_path / f"{quality}.{suffix}"
            assert write(path, smooth, quality=quality) == []
            sizes.append(path.stat().st_size)
        assert sizes[0] < sizes[1] < sizes[2]  # None is 95
    for quality, sampling in ((None, 0), (90, 0), (89, 2)):
        write(tmp_path / "s.jpg", RGB, quality=quality, overwrite=True)
        with Image.open(tmp_path / "s.jpg") as image:
            assert JpegImagePlugin.get_sampling(image) == sampling  # 0 is 4:4:4, 2 is 4:2:0
    write(tmp_path / "a.png", RGB)
    write(tmp_path / "b.png", RGB, quality=10)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    for quality in (0, 101, "best", 9.5):
        with pytest.raises(ValueError, match=r"quality: got .* from 1 to 100"):
            write(tmp_path / "q.jpg", RGB, quality=quality)


def test_format_by_suffix_or_name(tmp_path):
    for name, format, wanted in (
        ("a.JPG", None, "JPEG"),
        ("b.tiff", None, "TIFF"),
        ("c.out", "png", "PNG"),
        ("d", "jpg", "JPEG"),
        ("e.png", ".webp", "WEBP"),
    ):
        write(tmp_path / name, RGB, format=format)
        assert read(tmp_path / name).format == wanted
    for name, format in (("x.xyz", None), ("x", None), ("x.png", "nonsense"), ("x.ico", None), ("x.h5", None)):
        with pytest.raises(ImageError, match=r"use one of \.png, \.jpg, \.webp, \.tif, \.bmp"):
            write(tmp_path / name, RGB, format=format)
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_metadata_go_along(tmp_path, suffix):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    photo = Photo(RGB, None, exif(1), profile(b"RGB "), xmp, (300.0, 150.0))
    notes = write(tmp_path / f"x.{suffix}", photo)
    back = read(tmp_path / f"x.{suffix}")
    assert (back.icc, back.xmp) == (photo.icc, xmp)
    if suffix in ("webp", "avif"):
        assert notes == [f"{suffix.upper()} cannot hold this image's resolution (dpi): dropped"]
    else:
        assert notes == []
        assert np.abs(np.subtract(back.dpi, photo.dpi)).max() < 0.02  # PNG counts whole pixels per metre
    tags = Image.Exif()
    tags.load(back.exif)
    below = tags.get_ifd(0x8769)
    assert (tags[0x010F], below[0x927C][4:]) == ("abc", b"MARK")
    assert (below[0xA002], below[0xA003]) == (30, 40)  # of the file written, not of the photo's source


def test_metadata_that_do_not_fit_are_named(tmp_path):
    photo = Photo(RGB, None, exif(1), profile(b"RGB "), b"<x/>", (300.0, 300.0), {"Author": "me"})
    everything = "ICC profile, EXIF, XMP, resolution (dpi), text fields"
    assert write(tmp_path / "x.tga", photo) == [f"TGA cannot hold this image's {everything}: dropped"]
    assert write(tmp_path / "x.png", photo) == []
    assert read(tmp_path / "x.png").text == {"Author": "me"}
    huge = Photo(RGB, None, exif(1) + bytes(70000), None, b"<x/>" + b" " * 70000)
    assert write(tmp_path / "x.jpg", huge) == ["JPEG cannot hold this image's EXIF, XMP: dropped"]
    assert write(tmp_path / "c.jpg", Photo(RGB, text={"Comment": "hello"})) == []
    assert read(tmp_path / "c.jpg").text == {"Comment": "hello"}
    grey = Photo(GREY, None, None, profile(b"GRAY"))
    assert write(tmp_path / "g.webp", grey) == ["WEBP cannot hold this image's ICC profile: dropped"]  # becomes RGB
    assert write(tmp_path / "g.png", grey) == []
    said = write(tmp_path / "x.gif", Photo(RGB, ALPHA))
    assert "no alpha: transparent parts are laid on white" in said[0]  # GIF's is on or off
    assert "256 colours" in said[1]


def test_tiff_takes_no_sizes_from_exif(tmp_path):
    tags = Image.Exif()
    tags.update({0x0100: 9, 0x0101: 9, 0x0102: 4, 0x0103: 7, 0x0111: 3, 0x010F: "abc"})
    write(tmp_path / "x.tif", Photo(RGB, exif=tags.tobytes()))
    back = read(tmp_path / "x.tif")
    np.testing.assert_array_equal(back.pixels, RGB)
    assert b"abc" in back.exif


def test_opaque_alpha_is_dropped_without_a_word(tmp_path):
    assert write(tmp_path / "x.bmp", Photo(RGB, np.full((40, 30), 255, np.uint8))) == []
    np.testing.assert_array_equal(read(tmp_path / "x.bmp").pixels, RGB)


def test_arrays_and_pil_images_are_written_too(tmp_path):
    write(tmp_path / "a.png", (RGB / 255.0).astype(np.float32))
    write(tmp_path / "b.png", Image.fromarray(RGB))
    for name in ("a.png", "b.png"):
        np.testing.assert_array_equal(read(tmp_path / name).pixels, RGB)
    with pytest.raises(TypeError, match="image: got int"):
        write(tmp_path / "c.png", 3)


def test_sides_that_a_format_cannot_hold(tmp_path):
    line = np.zeros((1, 65536, 1), np.uint8)
    for name, width, said in (
        ("x.jpg", 65501, "65501x1 is too large for JPEG .*use PNG or TIFF"),
        ("x.webp", 16384, "16384x1 is too large for WEBP .*use PNG, TIFF or JPEG"),
        ("x.gif", 65536, "use PNG or TIFF"),
    ):
        with pytest.raises(ImageError, match=said):
            write(tmp_path / name, line[:, :width])
    assert files(tmp_path) == []
    write(tmp_path / "x.jpg", line[:, :65500])  # the limits are not too strict
    write(tmp_path / "x.webp", line[:, :16383])
    with pytest.raises(ImageError, match=r"40000x40000 is too large for TIFF .*use PNG"):
        check_output(tmp_path / "y.tif", size=(40000, 40000))
    assert check_output(tmp_path / "y.tif", size=(37000, 37000)) == "TIFF"
    with pytest.raises(ImageError, match=r"37000x37000 is too large for TIFF .*use PNG"):
        check_size(tmp_path / "y.tif", (37000, 37000), pixel_bytes=Photo(DEEP.repeat(3, 2)).pixel_bytes)
    with pytest.raises(ImageError, match="70000x9 is too large for JPEG"):
        check_output(tmp_path / "y.jpg", size=(9, 70000))


def test_memory_stays_near_one_copy(tmp_path):
    """Beside the array that is given: the interleaved copy (RGBA) and strips; measured in a process of its own."""
    pytest.importorskip("resource", reason="needs peak memory")
    script = """
        import resource, sys
        import numpy as np
        from liif_fast.images.files import Photo, write
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        write(sys.argv[1] + ".small.png", Photo(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)))
        photo = Photo(np.ones((4000, 4000, 3), np.uint8), np.ones((4000, 4000), np.uint8))
        before = peak()
        write(sys.argv[1], photo)
        print((peak() - before) / 16e6)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "x.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # bytes a pixel: 4 for RGBA, 1 for the encoder and noise of the allocator; two copies would be 8
    assert float(done.stdout) < 5.5
    assert (tmp_path / "x.png").stat().st_size < 1e6


def test_check_output_needs_no_image(tmp_path):
    assert check_output(tmp_path / "x.jpeg") == "JPEG"
    assert check_output(tmp_path / "x.out", format="webp", size=(16383, 1)) == "WEBP"
    assert files(tmp_path) == []
