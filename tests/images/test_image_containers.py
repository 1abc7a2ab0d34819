"""Merged pictures that Pillow does not look at; texts beyond the limits; EXIF that begins oddly."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_bytes import chunk, exif, png
from PIL import Image

from liif_fast.images.files import ImageError, read, write
from liif_fast.images.photo import as_kind, as_photo

PIXELS = np.random.default_rng(7).integers(0, 256, (2, 3, 3), dtype=np.uint8)


def test_layers_without_a_merged_picture_are_refused(tmp_path):
    def psd(merged: int) -> bytes:
        resource = b"8BIM" + struct.pack(">H", 1057) + bytes(2) + struct.pack(">IIB", 5, 1, merged) + bytes(1)
        head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 2, 3, 8, 3)
        body = struct.pack(">I", 0) + struct.pack(">I", len(resource)) + resource + struct.pack(">I", 0)
        return head + body + struct.pack(">H", 0) + bytes(range(18))

    path = tmp_path / "x.psd"
    path.write_bytes(psd(1))
    assert read(path).pixels[0, 0].tolist() == [0, 6, 12]
    path.write_bytes(psd(0))
    with pytest.raises(ImageError, match=r"x.psd: holds layers without a merged picture"):
        read(path)


def test_text_beyond_the_limit_is_dropped_and_the_picture_read(tmp_path):
    rows = [row.tobytes() for row in PIXELS]
    bomb = zlib.compress(bytes(33 << 20))
    profiles = [chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(15 << 20)))] * 40  # under 1 MB; Pillow unpacks them all
    for chunks in ([chunk(b"zTXt", b"a\0\0" + bomb)], [chunk(b"iCCP", b"x\0\0" + bomb)], profiles):
        (tmp_path / "x.png").write_bytes(png(3, 2, 8, 2, rows, *chunks, chunk(b"cICP", bytes([9, 16, 0, 1]))))
        photo = read(tmp_path / "x.png")
        np.testing.assert_array_equal(photo.pixels, PIXELS)
        assert photo.notes == ["text and ICC profile dropped: more than 32 MB, or 128 MB in all"]
        assert photo.colour.cicp == (9, 16, True)  # not text


@pytest.mark.parametrize(
    ("block", "upright"),
    [
        (b"Exif\0\0" + exif(6), exif(1)),  # twice, as some cameras write it
        (b"Exif\0\0\xff\xd8\xff\xe0" + exif(6)[10:], None),  # another kind of data, which no TIFF could hold
        (b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 3) + struct.pack("<HHII", 0x0112, 3, 1, 6)
         + struct.pack("<HHII", 0x8769, 4, 1, 8) * 2 + bytes(4), None),  # names itself, and turns the picture
    ],
    ids=["twice", "no directory", "endless"],
)  # fmt: skip
def test_exif_that_begins_oddly(tmp_path, block, upright):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG")
    data = stream.getvalue()
    (tmp_path / "x.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:])
    photo = read(tmp_path / "x.jpg")
    assert photo.exif == upright
    assert photo.pixels.shape[:2] == ((2, 3) if b"\xff\xd8" in block else (3, 2))
    assert write(tmp_path / "y.tif", photo) == []  # which reads the block


def test_pil_images(tmp_path):
    image = Image.fromarray(PIXELS)
    image.info["exif"] = b"Exif\0\0" + exif(6)
    done = as_kind(as_photo(image), image)
    assert done.size == (2, 3)
    assert done.getexif()[0x0112] == 1
    Image.fromarray(PIXELS).save(tmp_path / "x.tif", tiffinfo={254: 1})
    with Image.open(tmp_path / "x.tif") as image:
        assert "is a preview" in as_photo(image).notes[0]
