"""Large profiles and texts: what is written can be read, and what a format cannot hold is said."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from image_bytes import chunk, png, profile
from PIL import Image, PngImagePlugin

from liif_fast.images.files import Photo, read, write
from liif_fast.images.writing import MAX_TEXT

PIXELS = np.random.default_rng(5).integers(0, 256, (4, 5, 3), dtype=np.uint8)
MB = 1 << 20
ICC = profile(b"RGB ") + np.random.default_rng(6).bytes(3 * MB)  # does not compress; JPEG needs 49 segments
XMP = b"<x>" + b"packet " * (MB // 3) + b"</x>"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_large_profile_packet_and_text_come_back(tmp_path, suffix):
    text = {"Comment": "c" * 60000, "Latin": "\u00e9" * (2 * MB), "Other": "\u6587" * (2 * MB)}
    photo = Photo(PIXELS, icc=ICC, xmp=XMP, text=text)
    notes = write(tmp_path / f"x.{suffix}", photo)
    back = read(tmp_path / f"x.{suffix}")
    assert back.icc == ICC
    if suffix == "jpg":
        assert notes == ["JPEG cannot hold this image's XMP, text fields: dropped"]
        assert (back.xmp, back.text) == (None, {"Comment": text["Comment"]})
    else:
        assert back.xmp == XMP
        assert (back.text == text) == (suffix == "png")
    assert back.notes == []


def test_compressed_texts_above_pillow_s_megabyte_are_read(tmp_path):
    limits = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    chunks = [chunk(b"zTXt", b"A\0\0" + zlib.compress(b"a" * (3 * MB)))]
    chunks += [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))]
    chunks += [chunk(b"iCCP", b"p\0\0" + zlib.compress(ICC))]
    (tmp_path / "x.png").write_bytes(png(2, 1, 8, 2, [bytes(6)], *chunks))
    photo = read(tmp_path / "x.png")
    assert (photo.text, photo.xmp, photo.icc) == ({"A": "a" * (3 * MB)}, XMP, ICC)
    assert photo.notes == []
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)  # put back
    with pytest.raises(ValueError, match="MAX_TEXT"):
        Image.open(tmp_path / "x.png")


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_text_that_unpacks_to_hundreds_of_megabytes_is_dropped_and_said(tmp_path, kind):
    squeeze = zlib.compressobj(9)
    data = b"".join(squeeze.compress(bytes(MB)) for _ in range(MAX_TEXT // MB + 1)) + squeeze.flush()
    (tmp_path / "x.png").write_bytes(png(2, 1, 8, 2, [bytes(6)], chunk(kind, b"A\0\0" + data)))
    assert read(tmp_path / "x.png").notes[0].startswith("text and ICC profile dropped: more than 32 MB")


def test_more_than_a_format_holds_is_said_and_not_written(tmp_path):
    photo = Photo(PIXELS, icc=profile(b"RGB ") + bytes(17 * MB))
    (note,) = write(tmp_path / "x.jpg", photo)  # 255 segments of 65,519 bytes
    assert "JPEG cannot hold this image's ICC profile of" in note
    assert read(tmp_path / "x.jpg").icc is None
    size = MAX_TEXT + 1
    photo = Photo(PIXELS, icc=profile(b"RGB ").ljust(size, b"\0"), xmp=b" " * size, text={"A": "a" * size})
    (note,) = write(tmp_path / "x.png", photo)
    assert f"ICC profile of {size} bytes, XMP of {size} bytes, text fields" in note
    back = read(tmp_path / "x.png")
    assert (back.icc, back.xmp, back.text) == (None, None, {})


def test_the_largest_that_is_written_is_read(tmp_path):
    photo = Photo(PIXELS, icc=profile(b"RGB ").ljust(MAX_TEXT, b"\0"), xmp=b"x" * MAX_TEXT, text={"A": "a" * MAX_TEXT})
    assert write(tmp_path / "x.png", photo) == []
    back = read(tmp_path / "x.png")
    assert (back.icc, back.xmp, back.text) == (photo.icc, photo.xmp, photo.text)


@pytest.mark.parametrize("tag", [700, 34675])
def test_a_tiff_whose_metadata_have_another_type_is_read_without_them(tmp_path, tag):
    entries = {256: 2, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 2}
    fields = b"".join(struct.pack("<HHII", key, 4, 1, value) for key, value in sorted(entries.items()))
    extra = struct.pack("<HHII", tag, 4, 3, 8)  # three LONGs
    fields = b"".join(
        sorted([fields[i : i + 12] for i in range(0, len(fields), 12)] + [extra], key=lambda f: (f[1], f[0]))
    )
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, 10) + fields + bytes(4))
    photo = read(tmp_path / "x.tif")
    assert photo.pixels.shape == (1, 2, 1)
    assert any("damaged" in note for note in photo.notes)
