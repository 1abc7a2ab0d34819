"""16-bit colour and alpha of PNG and TIFF: every bit is read and written. The files read are made byte by byte."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_bytes import chunk, exif, png, profile, tiff
from image_files import wrote
from PIL import Image

from liif_fast.images import deep
from liif_fast.images.files import ImageError, Photo, read, write
from liif_fast.images.frames import frames_of
from liif_fast.images.frames_writing import write_frames

RNG = np.random.default_rng(7)
RGBA = RNG.integers(0, 65536, (6, 5, 4), dtype=np.uint16)
RGB, ALPHA = np.ascontiguousarray(RGBA[..., :3]), RGBA[..., 3].copy()
DEFLATE = 8


def check(photo: Photo, values: np.ndarray) -> None:
    colours = values.shape[2] - 1 + values.shape[2] % 2
    assert photo.notes == []
    np.testing.assert_array_equal(photo.pixels, values[..., :colours])
    if colours == values.shape[2]:
        assert photo.alpha is None
    else:
        np.testing.assert_array_equal(photo.alpha, values[..., -1])


@pytest.mark.parametrize(("colour", "channels"), [(2, [0, 1, 2]), (6, [0, 1, 2, 3]), (4, [0, 3])])
def test_png_is_read_whole(tmp_path, colour, channels):
    values = RGBA[..., channels]
    rows = [row.astype(">u2").tobytes() for row in values]
    check(read(wrote(tmp_path, png(5, 6, 16, colour, rows))), values)


def test_a_png_s_key_is_compared_with_all_bits(tmp_path):
    row = struct.pack(">6H", 256, 512, 768, 256, 512, 769)
    photo = read(wrote(tmp_path, png(2, 1, 16, 2, [row], chunk(b"tRNS", struct.pack(">3H", 256, 512, 768)))))
    assert photo.alpha.tolist() == [[0, 65535]]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", [False, True], ids=["interleaved", "planes"])
@pytest.mark.parametrize("channels", [3, 4])
def test_tiff_is_read_whole(tmp_path, channels, planes, order, packed):
    values = RGBA[..., :channels]
    parts = [values[..., c] for c in range(channels)] if planes else [values]
    strips = [part.astype(order + "u2").tobytes() for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    sizes = [len(strip) for strip in strips]
    more = {273: [8 + sum(sizes[:i]) for i in range(len(sizes))], 279: sizes, 284: [1 + planes]}
    more |= {259: [DEFLATE if packed else 1]} | ({338: [2]} if channels == 4 else {})
    data = tiff((5, 6), [16] * channels, 2, b"".join(strips), more=more, order=order)
    photo = read(wrote(tmp_path, data, "x.tif"))
    if not (planes and packed):
        check(photo, values)
    else:  # of which Pillow gives no lower bytes
        np.testing.assert_array_equal(photo.pixels, values[..., :3] >> 8)
        assert photo.notes == ["16 bits per channel are read as 8 (Pillow's limit for colour and for grey with alpha)"]


def test_premultiplied_and_unused_channels(tmp_path):
    premultiplied = struct.pack("<4H", 1000, 30000, 40000, 40000) + bytes(8)
    photo = read(wrote(tmp_path, tiff((2, 1), [16] * 4, 2, premultiplied, more={338: [1]}), "x.tif"))
    assert photo.alpha.tolist() == [[40000, 0]]
    assert photo.pixels.tolist() == [[[round(v * 65535 / 40000) for v in (1000, 30000, 40000)], [0, 0, 0]]]
    planes = np.frombuffer(premultiplied, "<u2").reshape(2, 4).T.tobytes()
    more = {273: [8, 12, 16, 20], 279: [4] * 4, 284: [2], 338: [1]}
    same = read(wrote(tmp_path, tiff((2, 1), [16] * 4, 2, planes, more=more), "x.tif"))
    np.testing.assert_array_equal(same.pixels, photo.pixels)
    photo = read(wrote(tmp_path, tiff((2, 1), [16] * 4, 2, premultiplied, more={338: [0]}), "x.tif"))
    assert photo.alpha is None
    assert photo.pixels.tolist() == [[[1000, 30000, 40000], [0, 0, 0]]]


def test_16_bit_planes_that_pillow_takes_for_bytes_are_refused(tmp_path):
    more = {273: [8, 10, 12, 14], 279: [2] * 4, 284: [2]}
    data = tiff((1, 1), [16] * 4, 5, struct.pack("<4H", 1, 2, 3, 4), more=more)
    with pytest.raises(ImageError, match=r"x\.tif: holds uncompressed planes of 16 bits; save it with interleaved"):
        read(wrote(tmp_path, data, "x.tif"))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    "photo",
    [Photo(RGB), Photo(RGB, ALPHA), Photo(RGB[..., :1].copy(), ALPHA)],
    ids=["rgb", "rgba", "grey and alpha"],
)
@pytest.mark.parametrize("strip", [1 << 20, 30])
def test_what_is_written_is_read_back_whole(tmp_path, monkeypatch, photo, suffix, strip):
    monkeypatch.setattr("liif_fast.images.modes.STRIP_PIXELS", strip)
    assert write(tmp_path / f"x.{suffix}", photo) == []
    back = read(tmp_path / f"x.{suffix}")
    assert back.notes == []
    np.testing.assert_array_equal(back.pixels, np.broadcast_to(photo.pixels, back.pixels.shape))
    assert (back.alpha is None) == (photo.alpha is None)
    if photo.alpha is not None:
        np.testing.assert_array_equal(back.alpha, photo.alpha)
    with Image.open(tmp_path / f"x.{suffix}") as image:  # and by Pillow alone
        eight = np.asarray(image)
    np.testing.assert_array_equal(eight[..., 0], photo.pixels[..., 0] >> 8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_metadata_are_those_of_a_file_of_8_bits(tmp_path, suffix):
    said = {"exif": exif(1), "icc": profile(b"RGB "), "xmp": b"<x:xmpmeta/>", "dpi": (300.0, 150.0)}
    for name, pixels in (("deep", RGB), ("flat", (RGB >> 8).astype(np.uint8))):
        text = {"Title": "a"} if suffix == "png" else {}
        assert write(tmp_path / f"{name}.{suffix}", Photo(pixels, **said, text=text)) == []
    deep_one, flat = (read(tmp_path / f"{name}.{suffix}") for name in ("deep", "flat"))
    for name in ("exif", "icc", "xmp", "dpi", "text", "colour"):
        assert getattr(deep_one, name) == getattr(flat, name), name
    assert deep_one.icc == said["icc"]
    assert deep_one.pixels.dtype == np.uint16


def test_orientation_is_applied(tmp_path):
    rows = [row.astype(">u2").tobytes() for row in RGB]
    photo = read(wrote(tmp_path, png(5, 6, 16, 2, rows, chunk(b"eXIf", exif(6)[6:]))))
    np.testing.assert_array_equal(photo.pixels, np.rot90(RGB, -1))


def test_pages_of_16_bits(tmp_path):
    pages = [Photo(RGB), Photo(RGBA[:3, :, :3].copy(), ALPHA[:3].copy()), Photo(RGB[..., :1].copy())]
    write_frames(tmp_path / "x.tif", pages, 3, None)
    back = frames_of(read(tmp_path / "x.tif"), tmp_path / "x.tif", "TIFF")
    for page, want in zip(back, pages, strict=True):
        np.testing.assert_array_equal(page.pixels, want.pixels)
        assert (page.alpha is None) == (want.alpha is None)


def test_upscaled_colours_are_the_model_s_rounded_to_16_bits(tmp_path, tiny):
    model = tiny()
    rows = [row.astype(">u2").tobytes() for row in RGB]
    photo = read(wrote(tmp_path, png(5, 6, 16, 2, rows)))
    write(tmp_path / "y.png", model.upscale(photo, scale=2))
    want = model.upscale(RGB / np.float32(65535), scale=2).astype(np.float64) * 65535
    got = read(tmp_path / "y.png").pixels
    assert got.dtype == np.uint16
    assert np.abs(got - want).max() <= 0.5 + 65535 * 1e-6  # of float32


def test_other_pictures_are_left_to_pillow(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert deep.samples(image, lambda: Image.open(io.BytesIO())) is None
    assert deep.mode(Photo(RGB), "WEBP") == deep.mode(Photo(RGB[..., :1]), "PNG") == ""
