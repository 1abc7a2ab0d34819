"""Colour descriptions that Pillow leaves out: kept in PNG, said elsewhere, never silently taken as sRGB."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_bytes import chunk, exif, png, profile
from PIL import Image, ImageCms, TiffImagePlugin

from liif_fast.images.avif import primaries_and_transfer
from liif_fast.images.colour import Colour
from liif_fast.images.files import read, write

SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
WIDE = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)  # Display P3
ROWS = [bytes(range(6))] * 2


def chrm(points: tuple[int, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *points))


def gama(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def cicp(*codes: int) -> bytes:
    return chunk(b"cICP", bytes(codes))


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def of(folder: Path, *chunks: bytes) -> Colour | None:
    (folder / "in.png").write_bytes(png(2, 2, 8, 2, ROWS, *chunks))
    return read(folder / "in.png").colour


ICC = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile(b"RGB ")))


@pytest.mark.parametrize(
    ("chunks", "colour"),
    [
        ([], None),
        ([cicp(1, 13, 0, 1)], None),
        ([cicp(9, 16, 0, 1)], Colour((9, 16, True))),
        ([cicp(12, 13, 0, 0)], Colour((12, 13, False))),
        ([cicp(1, 18, 0, 1), ICC], Colour((1, 18, True))),  # counts before a profile
        ([cicp(1, 13, 0, 1), chrm(WIDE), gama(100000)], None),  # and before these
        ([chrm(SRGB)], None),
        ([chrm((31273, 32903, 63999, 33001, 30004, 60000, 14999, 5999)), gama(45455)], None),
        ([chrm(WIDE)], Colour(None, WIDE)),
        ([chrm(WIDE), gama(45455)], Colour(None, WIDE, 45455)),
        ([gama(100000)], Colour(None, None, 100000)),
        ([chrm(WIDE), gama(100000), ICC], None),
        ([chrm(WIDE), chunk(b"sRGB", b"\0")], None),
    ],
)
def test_what_counts_in_a_png(tmp_path, chunks, colour):
    assert of(tmp_path, *chunks) == colour


@pytest.mark.parametrize("chunks", [[cicp(9, 16, 0, 1)], [gama(100000), chrm(WIDE)]])
def test_png_keeps_it_before_the_pixels_and_others_say_it(tmp_path, chunks):
    (tmp_path / "in.png").write_bytes(png(2, 2, 8, 2, ROWS, *chunks))
    photo = read(tmp_path / "in.png")
    assert photo.notes == []
    assert write(tmp_path / "out.png", photo) == []
    written = chunks_of((tmp_path / "out.png").read_bytes())
    kinds = [kind for kind, _ in written]
    for data in chunks:
        assert (data[4:8], data[8:-4]) in written
        assert kinds.index(data[4:8]) < kinds.index(b"IDAT")
    assert read(tmp_path / "out.png").colour == photo.colour
    for suffix in ("jpg", "webp", "tif", "avif"):
        (note,) = write(tmp_path / f"out.{suffix}", photo)
        assert "cannot hold the colour description" in note
        assert str(photo.colour) in note
    assert str(Colour((9, 16, True))) == "BT.2020 primaries, PQ (HDR) transfer"


def test_a_profile_beside_cicp_is_kept_too(tmp_path):
    (tmp_path / "in.png").write_bytes(png(2, 2, 8, 2, ROWS, cicp(9, 18, 0, 1), ICC))
    write(tmp_path / "out.png", read(tmp_path / "in.png"))
    kinds = [kind for kind, _ in chunks_of((tmp_path / "out.png").read_bytes())]
    assert {b"iCCP", b"cICP"} < set(kinds)


def test_damaged_and_odd_png_chunks_are_said(tmp_path):
    for bad, said in (
        (chunk(b"cICP", b"\1"), "damaged"),
        (cicp(9, 16, 9, 1), "matrix 9"),
        (chunk(b"cLLI", bytes(8)), "HDR mastering data"),
    ):
        (tmp_path / "in.png").write_bytes(png(2, 2, 8, 2, ROWS, bad))
        assert said in read(tmp_path / "in.png").notes[0]


def avif(primaries: int, transfer: int, **options) -> bytes:
    """Pillow's own AVIF with other code points in its nclx box."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 90, 30)).save(stream, "AVIF", **options)
    data = bytearray(stream.getvalue())
    if "icc_profile" not in options:  # with a profile, Pillow's file may have no such box
        struct.pack_into(">HH", data, data.index(b"colrnclx") + 8, primaries, transfer)
    return bytes(data)


@pytest.mark.parametrize(
    ("codes", "colour"),
    [
        ((1, 13), None),
        ((2, 2), None),  # unspecified
        ((9, 16), Colour((9, 16, True))),
        ((9, 18), Colour((9, 18, True))),
        ((12, 13), Colour((12, 13, True))),
        ((9, 2), Colour((9, 13, True))),
    ],
)
def test_nclx_of_avif(tmp_path, codes, colour):
    for name, options in (("rgb", {}), ("exif", {"exif": exif(1), "xmp": b"<x/>"})):
        (tmp_path / f"{name}.avif").write_bytes(avif(*codes, **options))
        assert read(tmp_path / f"{name}.avif").colour == colour
    write(tmp_path / "x.png", read(tmp_path / "rgb.avif"))
    assert read(tmp_path / "x.png").colour == colour


@pytest.mark.parametrize("image", ["RGB", "L", "many"])
def test_av1_s_own_colours_count_where_avif_has_no_colr_box(tmp_path, image):
    """Primaries, transfer and matrix are three bytes in the sequence header, at no byte's border."""
    stream = io.BytesIO()
    frame = Image.new("L" if image == "L" else "RGB", (16, 16))
    frame.save(stream, "AVIF", **({"save_all": True, "append_images": [frame] * 2} if image == "many" else {}))
    data = bytearray(stream.getvalue().replace(b"colrnclx", b"freenclx"))
    (tmp_path / "x.avif").write_bytes(data)
    assert read(tmp_path / "x.avif").colour is None
    start = data.index(b"mdat") + 4
    head, rest = int.from_bytes(data[start : start + 20], "big"), 160
    (shift,) = [n for n in range(rest - 24) if head >> n & 0xFFFFFF in (0x010D06, 0x010D01)]
    head ^= (0x010D ^ 0x0910) << shift + 8
    data[start : start + 20] = head.to_bytes(20, "big")
    (tmp_path / "y.avif").write_bytes(data)
    assert read(tmp_path / "y.avif").colour == Colour((9, 16, True))


def test_extents_of_no_bytes_are_not_walked():
    """4,096 items of 65,535 extents each, in 30 KB: minutes, if they were."""

    def box(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(data), kind) + data

    items = b"".join(struct.pack(">HHH", 7, 0, 65535) for _ in range(4096))
    inner = box(b"pitm", bytes(5) + b"\1") + box(b"iprp", box(b"ipco", b""))
    inner += box(b"iloc", bytes(6) + struct.pack(">H", 4096) + items)
    start = time.perf_counter()
    assert primaries_and_transfer(io.BytesIO(box(b"meta", bytes(4) + inner))) is None
    assert time.perf_counter() - start < 10


def test_a_profile_counts_before_nclx(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "x.avif").write_bytes(avif(9, 16, icc_profile=icc))
    photo = read(tmp_path / "x.avif")
    assert photo.icc == icc
    assert photo.colour is None


def test_nclx_of_the_primary_image_counts(tmp_path):
    """Alpha is an image of its own, whose properties stand in the same list."""
    stream = io.BytesIO()
    Image.new("RGBA", (16, 16), (200, 90, 30, 77)).save(stream, "AVIF")
    data = bytearray(stream.getvalue())
    at = data.index(b"colrnclx") + 8
    struct.pack_into(">HH", data, at, 9, 16)
    (tmp_path / "x.avif").write_bytes(data)
    assert read(tmp_path / "x.avif").colour == Colour((9, 16, True))
    for length in range(0, len(data), 7):  # cut anywhere: no other error than the reader's
        (tmp_path / "y.avif").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"y\.avif"):
            read(tmp_path / "y.avif")


def test_primaries_of_a_tiff(tmp_path):
    for points, colour in ((SRGB, None), (WIDE, Colour(None, WIDE))):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[318], tags[319] = [v / 1e5 for v in points[:2]], [v / 1e5 for v in points[2:]]
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "x.tif", tiffinfo=tags)
        assert read(tmp_path / "x.tif").colour == colour
