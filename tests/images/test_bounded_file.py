"""Lengths in a file that are not true cost no memory."""

from __future__ import annotations

import struct
import tracemalloc

import image_bytes

from liif_fast.images import files as images
from liif_fast.images.bounded_file import BoundedFile


def test_reads_as_a_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 100)
    with BoundedFile(path) as file:
        assert file.read(3) == b"\0\1\2"
        file.seek(-2, 2)
        assert file.read(1 << 40) == b"\xfe\xff"
        assert file.read(1 << 40) == b""
        file.seek(0)
        assert len(file.read()) == len(path.read_bytes())


def test_a_chunk_that_says_it_has_gigabytes(tmp_path):
    """That of the pixels: they are all there, and Pillow reads what it takes for the rest."""
    data = image_bytes.png(2, 1, 8, 0, [b"\1\2"])
    at = data.index(b"IDAT") - 4
    path = tmp_path / "p.png"
    path.write_bytes(data[:at] + struct.pack(">I", 2**31 - 1) + data[at + 4 :])
    tracemalloc.start()
    try:
        photo = images.read(path)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20  # 2 GB before
    finally:
        tracemalloc.stop()
    assert photo.pixels[0, :, 0].tolist() == [1, 2]
