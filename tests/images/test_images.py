"""Reading image files: orientation and metadata, bad files, folders. Modes: test_image_modes.py."""

from __future__ import annotations

import os
import struct
import threading

import numpy as np
import pytest
from image_bytes import chunk, exif, png, profile
from image_files import SMOOTH, saved, wrote
from PIL import Image, ImageFile

from liif_fast.images.files import ImageError, find_images, read

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once_and_tags_are_kept(tmp_path, suffix, orientation):
    upright = np.zeros((32, 48, 3), np.uint8)  # quarters of four colours, which lossy formats keep
    upright[:16, 24:], upright[16:, :24], upright[16:, 24:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # the others undo themselves
    same = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    same |= {5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE}
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose({**same, **undo}[orientation])
    photo = read(saved(tmp_path, stored, f"x.{suffix}", exif=exif(orientation), quality=95))
    assert photo.pixels.shape == upright.shape
    assert np.abs(photo.pixels.astype(int) - upright).mean() < 8  # lossy formats; a wrong turn gives more than 80
    tags = Image.Exif()
    tags.load(photo.exif)
    assert tags[0x010F] == "abc"
    assert tags.get(0x0112, 1) == 1
    assert 0x0100 not in tags  # TIFF's own bookkeeping stays behind
    assert tags.get_ifd(0x8769)[0x927C][4:] == b"MARK"


def test_exif_is_kept_byte_for_byte_but_for_the_orientation(tmp_path):
    block = exif(1, thumbnail=b"thumb")
    assert read(saved(tmp_path, Image.fromarray(RGB), "x.jpg", exif=block)).exif == block
    turned = read(saved(tmp_path, Image.fromarray(RGB), "x.jpg", exif=exif(6, thumbnail=b"thumb"))).exif
    assert len(turned) == len(block)
    assert sum(a != b for a, b in zip(turned, block, strict=True)) == 1  # no more thumbnail: its offset's low byte
    assert turned[52:56] == bytes(4) != block[52:56]


def test_damaged_exif_is_dropped_or_cut_but_never_fatal(tmp_path):
    for block in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", exif(6)[:40], b"Exif\0\0garbage garbage"):
        path = saved(tmp_path, Image.fromarray(SMOOTH), "x.jpg")
        data = path.read_bytes()
        path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:])
        assert read(path).pixels.size == SMOOTH.size


def test_xmp_orientation_counts_and_is_reset(tmp_path):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6" a="b"/></x:xmpmeta>'
    photo = read(saved(tmp_path, Image.fromarray(RGB), "x.webp", xmp=packet, lossless=True))
    np.testing.assert_array_equal(photo.pixels, np.rot90(RGB, -1))
    assert photo.xmp == packet.replace(b'"6"', b'"1"')


def test_profile_is_kept_only_for_its_own_colour_space(tmp_path):
    rgb, grey = profile(b"RGB "), profile(b"GRAY")
    colour, one = Image.fromarray(RGB), Image.fromarray(RGB[:, :, 0])
    assert read(saved(tmp_path, colour, "x.tif", icc_profile=rgb)).icc == rgb
    assert read(saved(tmp_path, one, "x.tif", icc_profile=grey)).icc == grey
    for image, icc, said in ((colour, grey, "GRAY colours, the pixels are RGB"), (one, rgb, "RGB colours")):
        photo = read(saved(tmp_path, image, "x.tif", icc_profile=icc))
        assert photo.icc is None
        assert said in photo.notes[0]


def test_resolution_and_text_are_kept(tmp_path):
    photo = read(saved(tmp_path, Image.fromarray(RGB), "x.jpg", dpi=(300, 150), comment=b"hello"))
    assert photo.dpi == (300, 150)
    assert photo.text == {"Comment": "hello"}
    turned = read(saved(tmp_path, Image.fromarray(RGB), "x.jpg", dpi=(300, 150), exif=exif(6)))
    assert turned.dpi == (150, 300)
    data = png(1, 1, 8, 2, [b"abc"], chunk(b"tEXt", b"Author\0me"), chunk(b"gAMA", struct.pack(">I", 100000)))
    photo = read(wrote(tmp_path, data))
    assert photo.text == {"Author": "me"}
    assert photo.colour.gamma == 100000
    assert read(saved(tmp_path, Image.fromarray(RGB), "x.tif")).dpi is None


def test_only_the_first_frame_or_page_is_read_and_said(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (10, 200)]
    for suffix in ("gif", "tif", "png", "webp"):
        path = saved(tmp_path, frames[0], f"x.{suffix}", save_all=True, append_images=frames[1:])
        photo = read(path)
        assert np.abs(photo.pixels.astype(int) - 10).max() <= 2  # WebP is lossy
        assert photo.notes == ["the file holds several frames or pages: only the first is read"]


TRUNCATED = [
    ("png", {}),
    ("jpg", {}),
    ("jpg", {"progressive": True}),
    ("webp", {}),
    ("tif", {}),
    ("bmp", {}),
    ("gif", {}),
]
TRUNCATED += [("tif", {"compression": "tiff_lzw"}), ("jp2", {}), ("avif", {}), ("tga", {}), ("ppm", {}), ("qoi", {})]


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize(("suffix", "options"), TRUNCATED)
def test_truncated_images_are_refused_not_filled(tmp_path, monkeypatch, suffix, options, share):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as other libraries leave it behind
    path = saved(tmp_path, Image.fromarray(RNG.integers(0, 256, (60, 70, 3), dtype=np.uint8)), f"x.{suffix}", **options)
    read(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=f"x.{suffix}: ") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True  # put back


def test_files_that_are_no_images(tmp_path, monkeypatch):
    for path, said in (
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "is a folder"),
        (wrote(tmp_path, b"", "empty.png"), "the file is empty"),
        (wrote(tmp_path, b"hello, this is text\n" * 50, "text.png"), "not an image"),
        (wrote(tmp_path, png(3, 1, 8, 2, [b"abc"]), "short.png"), "cannot be decoded"),
    ):
        with pytest.raises(ImageError) as caught:
            read(path)
        assert said in str(caught.value)
        assert str(caught.value).startswith(f"{path}: ")
        assert len(str(caught.value).splitlines()) == 1

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(ImageError, match="no permission"):
        read(tmp_path / "empty.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_permission_denied(tmp_path):
    path = wrote(tmp_path, png(1, 1, 8, 2, [b"abc"]))
    path.chmod(0)
    with pytest.raises(ImageError, match="no permission"):
        read(path)


@pytest.mark.filterwarnings("error")
def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch):
    path = wrote(tmp_path, png(20000, 20000, 8, 2, []))  # a header alone: decoding would fail in another way
    with pytest.raises(ImageError, match=r"20000x20000 is more than 268435456 pixels; .*--max-pixels"):
        read(path)
    path = wrote(tmp_path, png(60000, 60000, 8, 2, []))  # Pillow's own limit comes first
    with pytest.raises(ImageError, match=r"--max-pixels"):
        read(path)
    small = saved(tmp_path, Image.fromarray(RGB), "s.png")
    with pytest.raises(ImageError, match="5x4 is more than 19 pixels"):
        read(small, max_pixels=19)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    np.testing.assert_array_equal(read(small, max_pixels=20).pixels, RGB)  # above Pillow's limit, and no warning
    assert Image.MAX_IMAGE_PIXELS == 4


def test_threads_leave_pillow_as_they_found_it(tmp_path):
    path = saved(tmp_path, Image.fromarray(SMOOTH), "x.png")
    before, results = Image.MAX_IMAGE_PIXELS, []
    threads = [threading.Thread(target=lambda: results.append(read(path).pixels.shape)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(48, 64, 3)] * 8
    assert before == Image.MAX_IMAGE_PIXELS


def test_find_images(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", "doc.eps", "sub/c.webp", "sub/deep/d.tif", ".git/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    odd = tmp_path / "notes.txt"

    def names(found):
        return [str(relative) for _, relative in found]

    found, errors = find_images([tmp_path])
    assert (names(found), errors) == (["a.jpg", "b.PNG"], [])
    found, errors = find_images([tmp_path], recursive=True)
    assert names(found) == ["a.jpg", "b.PNG", os.path.join("sub", "c.webp"), os.path.join("sub", "deep", "d.tif")]
    assert all(path == tmp_path / relative for path, relative in found)
    (tmp_path / "void").mkdir()
    found, errors = find_images([odd, tmp_path / "no", tmp_path / "sub", tmp_path / "void", str(tmp_path / "a.jpg")])
    assert names(found) == ["notes.txt", "c.webp", "a.jpg"]  # the order given; a named file may have any suffix
    assert [str(e).split(": ", 1)[1] for e in errors] == [
        "no such file or folder; check the name",
        "no images in this folder; use -r to look into sub-folders",
    ]
