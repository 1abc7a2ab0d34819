"""ICC profiles that Pillow leaves out: JPEG 2000 and BMP."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from image_bytes import profile
from PIL import Image

from liif_fast.images.files import read, write

PIXELS = np.random.default_rng(8).integers(0, 256, (8, 9, 3), dtype=np.uint8)
ICC = profile(b"RGB ")


def jp2(colr: bytes) -> bytes:
    """Pillow's file with another `colr` box."""
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG2000")
    data = stream.getvalue()
    header = data.index(b"jp2h") - 4
    at = data.index(b"colr") - 4
    (length,), (whole,) = struct.unpack_from(">I", data, at), struct.unpack_from(">I", data, header)
    box = struct.pack(">I4s", 8 + len(colr), b"colr") + colr
    data = data[:at] + box + data[at + length :]
    return data[:header] + struct.pack(">I", whole + len(box) - length) + data[header + 4 :]


def bmp(space: bytes, endpoints: bytes = bytes(36), icc: bytes = b"") -> bytes:
    """A BMP with a header of version 5."""
    rows = b"".join(row[:, ::-1].tobytes() + bytes(-27 % 4) for row in PIXELS[::-1])
    head = struct.pack("<IiiHHIIiiII", 124, 9, 8, 1, 24, 0, len(rows), 2835, 2835, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0) + space + endpoints + bytes(12)
    head += struct.pack("<IIII", 4, 124 + len(rows), len(icc), 0)
    return b"BM" + struct.pack("<IHHI", 138 + len(rows) + len(icc), 0, 0, 138) + head + rows + icc


@pytest.mark.parametrize(
    ("suffix", "data"), [("jp2", jp2(b"\2\0\0" + ICC)), ("jp2", jp2(b"\3\0\0" + ICC)), ("bmp", bmp(b"DEBM", icc=ICC))]
)
def test_profiles_are_kept(tmp_path, suffix, data):
    (tmp_path / f"x.{suffix}").write_bytes(data)
    photo = read(tmp_path / f"x.{suffix}")
    assert photo.icc == ICC
    np.testing.assert_array_equal(photo.pixels, PIXELS)
    assert write(tmp_path / "x.png", photo) == []
    assert read(tmp_path / "x.png").icc == ICC


@pytest.mark.parametrize(
    ("suffix", "data", "said"),
    [
        ("jp2", jp2(b"\1\0\0" + struct.pack(">I", 16)), None),
        ("jp2", jp2(b"\1\0\0" + struct.pack(">I", 21)), "number 21 of JPEG 2000"),
        ("bmp", bmp(b"BGRs"), None),
        ("bmp", bmp(bytes(4)), None),  # what many programs write who mean nothing by it
        ("bmp", bmp(bytes(4), struct.pack("<9i", *range(9))), "own primaries"),
        ("bmp", bmp(b"KNIL"), "in another file"),
        ("bmp", bmp(b"DEBM"), None),  # of no bytes
    ],
)
def test_other_colour_descriptions_are_said(tmp_path, suffix, data, said):
    (tmp_path / f"x.{suffix}").write_bytes(data)
    photo = read(tmp_path / f"x.{suffix}")
    assert photo.icc is None
    assert len(photo.notes) == (said is not None)
    assert said is None or said in photo.notes[0]
