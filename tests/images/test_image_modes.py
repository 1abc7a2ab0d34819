"""Reading image files of every mode and depth. Most are written byte by byte (image_bytes.py)."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from image_bytes import chunk, cmyk_profile, png, profile, tiff
from image_files import SMOOTH, saved, wrote
from PIL import Image

from liif_fast.images.containers import depth
from liif_fast.images.files import ImageError, read

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)

# Every mode: (mode saved, format, channels, alpha). Values are compared with Pillow's own conversion.
MODES = [
    ("1", "PNG", 1, False),
    ("L", "PNG", 1, False),
    ("LA", "PNG", 1, True),
    ("P", "PNG", 3, False),
    ("PA", "TIFF", 3, True),
    ("RGB", "PNG", 3, False),
    ("RGBA", "PNG", 3, True),
    ("RGBX", "TIFF", 3, False),
]


@pytest.mark.parametrize(("mode", "format", "channels", "alpha"), MODES)
def test_every_mode_becomes_grey_or_rgb_with_alpha_apart(tmp_path, mode, format, channels, alpha):
    source = Image.fromarray(RNG.integers(0, 256, (6, 7, 4), dtype=np.uint8), "RGBA")
    path = saved(tmp_path, source if mode == "RGBA" else source.convert("RGB").convert(mode), f"x.{format.lower()}")
    photo = read(path)
    assert photo.format == format
    assert photo.pixels.shape == (6, 7, channels)
    assert photo.pixels.dtype == np.uint8
    assert photo.notes == []
    with Image.open(path) as image:
        wanted = np.asarray(image.convert(("L" if channels == 1 else "RGB") + "A" * alpha)).reshape(6, 7, -1)
    np.testing.assert_array_equal(photo.pixels, wanted[:, :, :channels])
    if alpha:
        np.testing.assert_array_equal(photo.alpha, wanted[:, :, -1])
    else:
        assert photo.alpha is None


def test_images_larger_than_a_strip_are_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("liif_fast.images.modes.STRIP_PIXELS", 12)  # two rows of five at a time, the last one alone
    pixels = RNG.integers(0, 256, (5, 5, 4), dtype=np.uint8)
    photo = read(saved(tmp_path, Image.fromarray(pixels), "x.png"))
    np.testing.assert_array_equal(np.dstack((photo.pixels, photo.alpha)), pixels)


# Transparency by a key colour or a palette: (name, PNG, alpha wanted)
KEYS = [
    ("RGB 8", png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))), [0, 255]),
    ("grey 8", png(2, 1, 8, 0, [bytes([100, 200])], chunk(b"tRNS", struct.pack(">H", 100))), [0, 255]),
    ("grey 4", png(2, 1, 4, 0, [bytes([0x5F])], chunk(b"tRNS", struct.pack(">H", 5))), [0, 255]),
    ("grey 2", png(2, 1, 2, 0, [bytes([0b01100000])], chunk(b"tRNS", struct.pack(">H", 2))), [255, 0]),
    ("grey 1", png(2, 1, 1, 0, [bytes([0b01000000])], chunk(b"tRNS", struct.pack(">H", 1))), [255, 0]),
    ("grey 16", png(2, 1, 16, 0, [struct.pack(">2H", 1000, 40000)], chunk(b"tRNS", b"\x03\xe8")), [0, 65535]),
    ("RGB 16", png(2, 1, 16, 2, [struct.pack(">6H", *range(256, 1792, 256))],
                   chunk(b"tRNS", struct.pack(">3H", 256, 512, 768))), [0, 65535]),
    ("palette", png(2, 1, 8, 3, [bytes([0, 1])], chunk(b"PLTE", bytes(range(6))), chunk(b"tRNS", b"\x80")), [128, 255]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "alpha"), [k[1:] for k in KEYS], ids=[k[0] for k in KEYS])
def test_transparency_by_key_or_palette_becomes_alpha(tmp_path, data, alpha):
    photo = read(wrote(tmp_path, data))
    assert photo.alpha is not None
    assert photo.alpha.tolist() == [alpha]
    assert photo.alpha.dtype == photo.pixels.dtype


def test_16_bit_colour_of_other_formats_is_read_as_8_with_a_note(tmp_path):
    photo = read(wrote(tmp_path, b"P6 1 1 65535\n" + struct.pack(">3H", 0, 514, 65535)))
    assert photo.pixels.tolist() == [[[0, 2, 255]]]
    assert photo.notes == ["16 bits per channel are read as 8 (Pillow's limit for colour and for grey with alpha)"]


GREY16 = [
    ("PNG", png(2, 1, 16, 0, [struct.pack(">2H", 1, 65535)]), [1, 65535]),
    ("TIFF", tiff((2, 1), [16], 1, struct.pack("<2H", 1, 65535)), [1, 65535]),
    ("TIFF, white is zero", tiff((2, 1), [16], 0, struct.pack("<2H", 1, 65535)), [65534, 0]),
    ("TIFF, 12 bit", tiff((2, 1), [12], 1, bytes([0x80, 0x0F, 0xFF])), [32776, 65535]),  # 2048 / 4095 * 65535
    ("PGM", b"P5 2 1 65535\n" + struct.pack(">2H", 1, 65535), [1, 65535]),
]


@pytest.mark.parametrize(("data", "values"), [g[1:] for g in GREY16], ids=[g[0] for g in GREY16])
def test_16_bit_grey_stays_16_bit(tmp_path, data, values):
    photo = read(wrote(tmp_path, data))
    assert photo.pixels.dtype == np.uint16
    assert photo.pixels[0, :, 0].tolist() == values
    assert photo.notes == []


def test_floats_and_wide_integers_are_read_where_their_range_has_a_meaning(tmp_path):
    photo = read(wrote(tmp_path, tiff((2, 1), [32], 1, struct.pack("<2f", 0.5, 1), kind=3)))
    assert photo.pixels[0, :, 0].tolist() == [32768, 65535]
    assert "16 bit" in photo.notes[0]
    photo = read(wrote(tmp_path, tiff((2, 1), [32], 1, struct.pack("<2I", 7, 65535))))
    assert photo.pixels[0, :, 0].tolist() == [7, 65535]
    assert "16 bit" in photo.notes[0]
    for data, said in (
        (tiff((2, 1), [32], 1, struct.pack("<2f", 0.5, 255), kind=3), "0.5 to 255; scale them to"),
        (tiff((2, 1), [32], 1, struct.pack("<2f", 0.5, float("nan")), kind=3), "nan"),
        (tiff((2, 1), [16], 1, struct.pack("<2h", -1, 5), kind=2), "-1 to 5; convert"),
    ):
        with pytest.raises(ImageError, match=said):
            read(wrote(tmp_path, data))


def test_jpeg2000_and_avif_of_more_than_8_bits_are_noted(tmp_path):
    grey = Image.fromarray(RNG.integers(0, 65536, (40, 40), dtype=np.uint16))
    photo = read(saved(tmp_path, grey, "x.jp2"))
    np.testing.assert_array_equal(photo.pixels[:, :, 0], np.asarray(grey))
    assert photo.notes == []
    for name, find, patch, bits in (("y.jp2", b"\xff\x4f\xff\x51", {42: 11}, 12), ("y.avif", b"av1C", {6: 0x40}, 10)):
        path = saved(tmp_path, Image.fromarray(SMOOTH), name)
        data = bytearray(path.read_bytes())
        for offset, value in patch.items():  # claims a depth; the decoders need not agree, so only depth is asked
            data[data.index(find) + offset] = value
        with Image.open(path) as image:
            assert depth(image, io.BytesIO(path.read_bytes())) == 8
            assert depth(image, io.BytesIO(data)) == bits


def test_lab_is_converted(tmp_path):
    photo = read(wrote(tmp_path, tiff((3, 1), [8] * 3, 8, bytes([255, 0, 0, 0, 0, 0, 137, 0, 0]))))
    # L* = 100, 0, 53.7 are white, black and middle grey; lcms rounds within 1
    assert np.abs(photo.pixels[0].astype(int) - [[255] * 3, [0] * 3, [128] * 3]).max() <= 1
    assert photo.notes == ["LAB converted to sRGB"]


def test_cmyk_is_converted_with_its_profile_or_plainly(tmp_path):
    ink = np.zeros((1, 2, 4), np.uint8)
    ink[0, 1] = 255, 0, 0, 0  # paper, cyan
    image = Image.fromarray(ink, "CMYK")
    plain = read(saved(tmp_path, image, "x.tif"))
    assert plain.pixels.tolist() == [[[255, 255, 255], [0, 255, 255]]]
    assert "plain formula, colours may differ: no ICC profile" in plain.notes[0]
    broken = read(saved(tmp_path, image, "x.tif", icc_profile=profile(b"CMYK")))
    assert "embedded ICC profile is not usable" in broken.notes[0]
    # any one ink is L* = 137 / 2.55 = 53.7, neutral: middle grey, unlike the plain formula; lcms rounds within 2
    icc = cmyk_profile((137, 128, 128), (255, 128, 128))
    photo = read(saved(tmp_path, image, "x.tif", icc_profile=icc))
    assert np.abs(photo.pixels[0].astype(int) - [[255] * 3, [128] * 3]).max() <= 2
    assert photo.notes == ["CMYK converted to sRGB with the embedded ICC profile, which is dropped"]
    assert photo.icc is None
    assert photo.mode == "CMYK"
