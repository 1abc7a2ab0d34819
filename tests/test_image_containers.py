"""Profiles and merged pictures that Pillow does not look at; texts beyond the limits; EXIF that begins oddly."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_bytes import chunk, exif, png, profile
from PIL import Image

from liif_fast.images import ImageError, read, write
from liif_fast.photo import as_kind, as_photo

PIXELS = np.random.default_rng(7).integers(0, 256, (2, 3, 3), dtype=np.uint8)


def test_profile_in_a_bmp(tmp_path):
    icc = profile(b"RGB ")
    header = struct.pack("<IiiHHIIiiII", 124, 3, 2, 1, 24, 0, 24, 0, 0, 0, 0) + bytes(16)
    body = bytes(24)
    v5 = header + b"DEBM" + bytes(36 + 12) + struct.pack("<IIII", 0, 124 + len(body), len(icc), 0)
    data = b"BM" + struct.pack("<IHHI", 14 + len(v5) + len(body) + len(icc), 0, 0, 14 + len(v5)) + v5 + body + icc
    (tmp_path / "x.bmp").write_bytes(data)
    photo = read(tmp_path / "x.bmp")
    assert photo.icc == icc
    assert photo.notes == []
    (tmp_path / "l.bmp").write_bytes(data.replace(b"DEBM", b"KNIL"))  # a profile in another file
    assert "colours of its own" in read(tmp_path / "l.bmp").notes[0]


def test_profile_in_a_jpeg_2000(tmp_path):
    icc = profile(b"RGB ")
    Image.fromarray(PIXELS).save(tmp_path / "x.jp2")
    data = (tmp_path / "x.jp2").read_bytes()
    at = data.index(b"colr") - 4
    (length,) = struct.unpack_from(">I", data, at)
    box = struct.pack(">I", 11 + len(icc)) + b"colr\x02\0\0" + icc
    outer = data.index(b"jp2h") - 4
    size = struct.unpack_from(">I", data, outer)[0] + len(box) - length
    data = data[:outer] + struct.pack(">I", size) + data[outer + 4 : at] + box + data[at + length :]
    (tmp_path / "x.jp2").write_bytes(data)
    assert read(tmp_path / "x.jp2").icc == icc


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
