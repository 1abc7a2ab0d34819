"""Multi-page TIFF files: which of the pages are found, in long files, behind a thumbnail, where the list is cut."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from image_files import wrote

from liif_fast.images import files as images
from liif_fast.images.files import ImageError
from liif_fast.images.frames import frames_of
from liif_fast.images.frames_writing import write_frames


def pages(kinds: list[int], fields: int = 0) -> bytes:
    """Grey pages of 2x1, or of 1x1 where the kind (NewSubfileType) is 1; each with some private fields more."""
    data = bytearray(b"II*\0" + struct.pack("<I", 8))
    for i, kind in enumerate(kinds):
        width = 1 if kind == 1 else 2
        tags = {254: kind, 256: width, 257: 1, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1, 279: width}
        tags |= {65000 + n: 0 for n in range(fields)}
        after = len(data) + 2 + 12 * (len(tags) + 1) + 4
        tags = dict(sorted((tags | {273: after}).items()))
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", k, 4, 1, v) for k, v in tags.items())
        data += struct.pack("<I", after + 2 if i + 1 < len(kinds) else 0) + bytes([i % 256] * 2)
    return bytes(data)


def test_pages_behind_a_thumbnail(tmp_path):
    path = wrote(tmp_path, pages([1, 0, 0, 0]), "x.tif")
    photo = images.read(path)
    found = frames_of(photo, path, "TIFF")
    assert [page.pixels.max() for page in found] == [1, 2, 3]
    assert photo.notes == ["the file begins with a thumbnail of 1x1: page 2 of 2x1 is read"]
    photo = images.read(path)
    assert frames_of(photo, path, "PNG") is None
    assert "the file holds 3 pages, PNG one: the first is written; tif keeps all" in photo.notes


def test_very_many_pages(tmp_path):
    path = wrote(tmp_path, pages([0] * 1100, fields=120), "x.tif")  # 143000 fields
    assert len(frames_of(images.read(path), path, "TIFF")) == 1100


def test_a_list_of_pages_that_is_cut_off(tmp_path):
    whole = pages([0, 0, 0])
    path = wrote(tmp_path, whole[: 2 * len(whole) // 3 + 8], "x.tif")  # pixels of two are there
    with pytest.raises(ImageError, match=r"x\.tif: the list of its pages is cut off after 2; get a complete copy"):
        frames_of(images.read(path), path, "TIFF")
    photo = images.read(path)
    assert frames_of(photo, path, "PNG") is None
    assert write_frames(tmp_path / "y.tif", [photo], 1, None) == photo.notes
    one = pages([0])
    path = wrote(tmp_path, one.replace(bytes(6), b"\xf0\0\0\0\0\0"), "z.tif")  # what follows is rubbish
    photo = images.read(path)
    assert frames_of(photo, path, "TIFF") is None
    np.testing.assert_array_equal(photo.pixels, np.zeros((1, 2, 1)))
