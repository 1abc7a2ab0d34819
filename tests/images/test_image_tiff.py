"""TIFF files that begin with a thumbnail or hold their picture elsewhere: the picture is read, or the file refused."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from PIL import Image
from tiff_trees import LARGE, RNG, SMALL, trees, wrote

from liif_fast.images.files import ImageError, read

# As its first directory says, an RGB image of 8x6, its preview.
CR2 = b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + struct.pack("<H", 2)
CR2 += struct.pack("<HHII", 256, 4, 1, 8) + struct.pack("<HHII", 257, 4, 1, 6) + bytes(4)


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])  # Pillow has no BigTIFF of ">"
@pytest.mark.parametrize("mark", [{254: 1}, {255: 2}, {254: 4}])
def test_the_full_page_is_read_after_a_thumbnail_or_mask(tmp_path, order, big, mark):
    photo = read(wrote(tmp_path, trees(order, ((SMALL, mark), []), ((LARGE, {254: 0}), []), big=big)))
    np.testing.assert_array_equal(photo.pixels[:, :, 0], LARGE)
    assert photo.notes == ["the file begins with a thumbnail of 4x3: page 2 of 8x6 is read"]


def test_the_first_page_is_read_where_it_is_the_picture(tmp_path):
    pages = ((LARGE, {}), [(SMALL, {254: 1})]), ((SMALL, {254: 1}), [])  # a pyramid below it, a thumbnail after it
    photo = read(wrote(tmp_path, trees("<", *pages)))
    np.testing.assert_array_equal(photo.pixels[:, :, 0], LARGE)
    assert photo.notes == ["the file holds several frames or pages: only the first is read"]
    photo = read(wrote(tmp_path, trees(">", ((SMALL, {}), []), ((LARGE, {}), []))))
    np.testing.assert_array_equal(photo.pixels[:, :, 0], SMALL)
    assert photo.notes == [
        "the file holds several frames or pages: only the first, of 4x3, is read, though page 2 has 8x6"
    ]
    photo = read(wrote(tmp_path, trees("<", ((SMALL, {254: 1}), []))))
    np.testing.assert_array_equal(photo.pixels[:, :, 0], SMALL)
    assert "only a reduced version" in photo.notes[0]


@pytest.mark.parametrize("mark", [{}, {254: 1}])
def test_a_larger_image_in_a_sub_directory_is_not_passed_over(tmp_path, mark):
    path = wrote(tmp_path, trees(">", ((SMALL, mark), [(SMALL, {254: 1}), (LARGE, {254: 0})])))
    with pytest.raises(ImageError, match=r"x\.tif: its image of 8x6 is in a sub-directory .* only one of 4x3"):
        read(path)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (trees("<", ((SMALL, {254: 1, 50706: 0x0401}), [(LARGE, {254: 0, 262: 32803})])), "DNG"),
        (trees("<", ((SMALL, {254: 1, 50706: 0x0401}), []), ((LARGE, {254: 0, 262: 34892}), [])), "DNG"),
        (trees(">", ((LARGE, {262: 32803, 50706: 0x0401}), [])), "DNG"),
        (trees(">", ((SMALL, {254: 1}), [(SMALL, {254: 1}), (LARGE, {254: 0, 262: 32803})])), "NEF"),
        (trees("<", ((SMALL, {}), []), ((LARGE, {262: 32803}), [])), "NEF"),
        (CR2, "CR2"),
    ],
)
def test_raw_files_are_refused_by_name(tmp_path, data, kind):
    with pytest.raises(ImageError, match=rf"a camera's raw file \(.*{kind}.* raw converter"):
        read(wrote(tmp_path, data))


def test_a_dng_whose_picture_is_developed_is_read(tmp_path):
    """The picture is in the main list and the sensor's data are no larger."""
    pages = ((SMALL, {254: 1, 50706: 0x0401}), []), ((LARGE, {254: 0}), [])
    np.testing.assert_array_equal(read(wrote(tmp_path, trees("<", *pages))).pixels[:, :, 0], LARGE)


def test_loops_and_cuts_end(tmp_path):
    data = trees("<", ((SMALL, {254: 1, 330: 8}), []), ((LARGE, {254: 0}), []))
    looped = bytearray(data)
    (first,) = struct.unpack_from("<I", data, 4)
    at = data.index(struct.pack("<HHII", 330, 4, 1, 8))
    struct.pack_into("<HHII", looped, at, 330, 4, 1, first)  # a page below itself
    np.testing.assert_array_equal(read(wrote(tmp_path, bytes(looped))).pixels[:, :, 0], LARGE)
    for length in range(len(data)):
        with contextlib.suppress(ImageError):
            assert read(wrote(tmp_path, data[:length])).pixels.shape[:2] in ((3, 4), (6, 8))


@pytest.mark.parametrize("suffix", ["ico", "icns"])
def test_the_largest_image_of_an_icon_is_read(tmp_path, suffix):
    colours = Image.fromarray(RNG.integers(0, 256, (128, 128, 3), dtype=np.uint8))
    sizes = {"sizes": [(16, 16), (128, 128), (32, 32)]} if suffix == "ico" else {}
    colours.save(tmp_path / f"x.{suffix}", **sizes)
    photo = read(tmp_path / f"x.{suffix}")
    side = {"ico": 128, "icns": 1024}[suffix]  # ICNS: 512 points at two pixels each
    assert photo.pixels.shape == (side, side, 3)
    with pytest.raises(ImageError, match=f"{side}x{side} is more than 999 pixels"):
        read(tmp_path / f"x.{suffix}", max_pixels=999)


def test_pixels_that_look_like_a_raw_file_s_header_are_pixels(tmp_path):
    pixels = np.frombuffer(b"CR\2\0CR\2\0CR\2\0", np.uint8).reshape(3, 4)  # they begin at offset 8
    np.testing.assert_array_equal(read(wrote(tmp_path, trees("<", ((pixels, {}), [])))).pixels[:, :, 0], pixels)
