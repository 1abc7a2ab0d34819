"""EXIF blocks that name themselves, and other metadata made to cost the reader far more than their length."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import struct
import time
import tracemalloc

import pytest
from image_bytes import chunk, exif, png
from PIL import Image, PngImagePlugin

from liif_fast.images.exif import HEIGHT, ORIENTATION, WIDTH, is_sound, patched
from liif_fast.images.files import ImageError, read

# A hang takes minutes to hours; a pass takes under a second alone and a few on a loaded machine.
SECONDS = 10
DROPPED = "EXIF data are damaged: dropped"


def looping(entries: int, tag: int = 0x8769, step: int = 0) -> bytes:
    """A directory of pointers to itself, or each to a place `step` bytes after that of the one before."""
    fields = b"".join(struct.pack(">HHII", tag, 4, 1, 8 + step * i) for i in range(entries))
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, entries) + fields + bytes(4)


def packed(suffix: str, block: bytes) -> bytes:
    if suffix == "png":
        return png(2, 1, 8, 2, [bytes(6)], chunk(b"eXIf", block[6:]))
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, {"jpg": "JPEG"}.get(suffix, suffix), exif=block)
    return stream.getvalue()


@pytest.mark.parametrize("step", [0, 12])
@pytest.mark.parametrize(("suffix", "entries"), [("jpg", 5400), ("png", 65000), ("webp", 65000), ("avif", 65000)])
def test_directories_that_name_themselves_cost_nothing_and_are_dropped(tmp_path, suffix, entries, step):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(packed(suffix, looping(entries, step=step)))
    start = time.perf_counter()
    photo = read(path)
    assert time.perf_counter() - start < SECONDS
    assert photo.exif is None
    assert DROPPED in photo.notes


def test_soundness():
    for sound in (exif(6), exif(1, thumbnail=b"thumb"), exif(1)[:40], b"Exif\0\0", b"Exif\0\0garbage garbage"):
        assert is_sound(sound)
    for tag in (0x8769, 0x8825, 0xA005):
        assert not is_sound(looping(1, tag))
        assert not is_sound(looping(3, tag, step=12))
    thumbnail_loop = bytearray(looping(1, tag=0x0112))
    struct.pack_into(">I", thumbnail_loop, len(thumbnail_loop) - 4, 8)  # the next directory is this one
    assert not is_sound(bytes(thumbnail_loop))
    everything = b"".join(struct.pack(">HHII", tag, 7, 20000, 8) for tag in range(2000))  # 2,000 times the same value
    assert not is_sound(b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2000) + everything + bytes(4))


def test_a_block_cut_short_is_patched_up_to_there():
    """Else the pixels would be upright and the tag would turn them again."""
    block = exif(6)
    where = block.index(struct.pack(">HHIH", ORIENTATION, 3, 1, 6)) + 8
    for length in range(len(block)):
        now = patched(block[:length], {ORIENTATION: 1, WIDTH: 7, HEIGHT: 9})
        assert len(now) == length
        if length >= where + 4:  # the entry is there whole
            assert now[where : where + 2] == b"\0\1"


def test_orientation_of_xmp_counts_where_exif_is_damaged(tmp_path):
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b'<d tiff:Orientation="6"/>')
    path = tmp_path / "x.png"
    path.write_bytes(png(2, 1, 8, 2, [bytes(6)], chunk(b"eXIf", looping(9)[6:]), xmp))
    photo = read(path)
    assert photo.pixels.shape == (2, 1, 3)  # turned by 90 degrees
    assert b'"1"' in photo.xmp


def test_pillow_s_warnings_are_a_few_lines_and_not_one_per_entry(tmp_path):
    fields = b"".join(struct.pack("<HHII", 1000 + i, 2, 90000, 100) for i in range(2000))
    head = [(256, 2), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 2)]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in head)
    path = tmp_path / "x.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(head) + 2000) + entries + fields + bytes(4) + bytes(60000))
    photo = read(path)
    assert 0 < len(photo.notes) <= 6
    assert "more warnings" in photo.notes[-1]


def test_a_damaged_file_prints_nothing(tmp_path, capfd, monkeypatch):
    """Pillow logs it, and where no program has set up logging Python prints what is logged."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    tags = [(256, 2), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 65407), (278, 1), (279, 2)]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4))
    with pytest.raises(ImageError):
        read(tmp_path / "x.tif")
    assert capfd.readouterr() == ("", "")


def test_limits_hold_for_what_an_icon_holds_inside(tmp_path, monkeypatch):
    stream = io.BytesIO()
    Image.new("L", (600, 500)).save(stream, "PNG")
    inner = stream.getvalue()
    path = tmp_path / "x.ico"
    path.write_bytes(struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner)
    assert read(path).pixels.shape == (500, 600, 1)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded before it was refused"))
    with pytest.raises(ImageError, match=r"600x500 is more than 299999 pixels"):
        read(path, max_pixels=299_999)


def _pieces(rng: random.Random) -> bytes:
    """One hostile file below 1 MB: chains, counts and blocks that name themselves or lie about their length."""
    kind = rng.randrange(8)
    number = rng.choice([1, 100, 20000])
    if kind == 0:
        return packed("png", looping(rng.choice([3, 65000]), rng.choice([0x8769, 0x8825, 0xA005, 330]), number % 3))
    if kind == 1:  # a chain of pages that ends in its own beginning
        page = [(256, 2), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 2)]
        body = struct.pack("<H", 9) + b"".join(struct.pack("<HHIHH", t, 3, 1, v, 0) for t, v in page)
        pages = min(number, 8000)
        return b"II*\0" + b"".join(
            [struct.pack("<I", 8), *(body + struct.pack("<I", 8 + (i + 1) % pages * 114) for i in range(pages))]
        )
    if kind == 2:
        return png(2, 1, 8, 2, [bytes(6)], *[chunk(rng.choice([b"tEXt", b"prVt", b"zTXt"]), b"a\0\0")] * number)
    if kind == 3:
        inner = png(2, 1, 8, 2, [bytes(6)])
        entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inner), 6 + 16 * number)
        return struct.pack("<HHH", 0, 1, number) + entry * number + inner
    if kind == 4:
        layers = struct.pack(">Ih", number * 2 + 2, rng.choice([32000, -32000])) + bytes(number * 2)
        head = b"8BPS" + struct.pack(">H6xHIIHHII", 1, 3, 1, 2, 8, 3, 0, 0)
        return head + struct.pack(">I", len(layers)) + layers + bytes(2 + 6)
    if kind == 5:
        stream = io.BytesIO()
        Image.new("P", (2, 2)).save(stream, "GIF")
        return stream.getvalue()[:-1] + rng.choice([b"\x21\xfe\1x\0", b"\0", b"\x21\xff\0"]) * number + b";"
    if kind == 6:
        xmp = b"http://ns.adobe.com/xap/1.0/\0" + b'tiff:Orientation="2"' * 3000
        jpeg = packed("jpg", exif(1))
        segment = rng.choice([(0xE1, xmp), (0xE2, b"ICC_PROFILE\0\1\1"), (0xFE, b"x"), (0xED, b"Photoshop 3.0\0")])
        part = b"\xff" + bytes([segment[0]]) + struct.pack(">H", len(segment[1]) + 2) + segment[1]
        return jpeg[:2] + part * min(number, 900_000 // len(part)) + jpeg[2:]
    frames = struct.pack(">II", rng.choice([2, 2**31]), 0)
    return png(2, 1, 8, 2, [bytes(6)], chunk(b"acTL", frames), *[chunk(b"fcTL", bytes(26))] * min(number, 20))


def test_a_small_file_takes_little_time_and_memory(tmp_path):
    rng = random.Random(20)
    path = tmp_path / "x"
    for case in range(24):
        data = _pieces(rng)
        assert len(data) < 2**20
        path.write_bytes(data)
        tracemalloc.start()
        start = time.perf_counter()
        with contextlib.suppress(ImageError):
            read(path, max_pixels=2**20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.perf_counter() - start < SECONDS, case
        assert peak < 2**29, case
