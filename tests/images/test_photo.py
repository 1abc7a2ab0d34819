"""Images in memory: arrays and Pillow images to `Photo` and back; colours under transparency."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from image_bytes import exif, profile
from PIL import Image, ImageDraw, ImageOps

from liif_fast.images.photo import Photo, as_kind, as_photo, convert_depth, fill_transparent

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64, ">u2", ">f4"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_arrays_come_back_as_they_were(shape, dtype):
    dtype = np.dtype(dtype)
    array = RNG.random(shape).astype(dtype) if dtype.kind == "f" else RNG.integers(0, 256, shape).astype(dtype)
    photo = as_photo(array)
    assert photo.pixels.shape == (4, 5, 1 if len(shape) == 2 or shape[2] == 1 else 3)
    assert (photo.alpha is not None) == (shape[-1] == 4)
    back = as_kind(photo, array)
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    if dtype == np.float64:  # went through float32: half a unit in the last place of 24 bits
        np.testing.assert_allclose(back, array, rtol=2.0**-24)
    else:
        np.testing.assert_array_equal(back, array)


def test_native_arrays_share_memory():
    for array in (np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5), np.uint16), np.zeros((4, 5, 3), np.float32)):
        assert np.shares_memory(as_photo(array).pixels, array)


BAD = [
    (3, TypeError, "image: got int; pass a PIL image or a NumPy array"),
    ([[1]], TypeError, "image: got list"),
    (np.zeros((3, 8, 9), np.uint8), ValueError, r"image: got shape \(3, 8, 9\); pass \[H, W\]"),
    (np.zeros((8, 9, 2), np.uint8), ValueError, r"image: got shape \(8, 9, 2\)"),
    (np.zeros(8, np.uint8), ValueError, r"image: got shape \(8,\)"),
    (np.zeros((2, 8, 9, 3), np.uint8), ValueError, "image: got shape"),
    (np.zeros((0, 9, 3), np.uint8), ValueError, "image: shape .* has no pixels"),
    (Image.new("RGB", (0, 4)), ValueError, "image: 0x4 has no pixels"),
    (np.zeros((8, 9), np.int64), TypeError, "image: got dtype int64; pass uint8, uint16"),
    (np.zeros((8, 9), bool), TypeError, "image: got dtype bool"),
    (np.zeros((8, 9), complex), TypeError, "image: got dtype complex128"),
    (np.array([[0.0, 254.0]]), ValueError, "image: values span 0 to 254, .* divide by 255"),
    (np.array([[-0.1, 1.0]]), ValueError, "image: values span -0.1 to 1, .* scale or clip"),
    (np.array([[0.5, 1.01]]), ValueError, "scale or clip"),
    (np.array([[0.5, np.nan]]), ValueError, "image: values span nan .* replace NaN"),
    (np.array([[0.5, np.inf]]), ValueError, "image: values span 0.5 to inf"),
]


@pytest.mark.parametrize(("image", "error", "said"), BAD)
def test_bad_images_are_named(image, error, said):
    with pytest.raises(error, match=said) as caught:
        as_photo(image)
    assert len(str(caught.value).splitlines()) == 1


def test_bad_photos_are_named():
    pixels = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match=r"pixels: got shape \(4, 5\)"):
        Photo(pixels[:, :, 0])
    with pytest.raises(TypeError, match="pixels: got dtype int32"):
        Photo(pixels.astype(np.int32))
    for alpha in (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint16)):
        with pytest.raises(ValueError, match="alpha: got shape"):
            Photo(pixels, alpha)


@pytest.mark.parametrize(
    ("mode", "back"),
    [
        *((mode, mode) for mode in ("L", "LA", "RGB", "RGBA")),
        *((mode, "RGB") for mode in ("P", "RGBX", "CMYK", "YCbCr", "HSV")),
        *(("1", "L"), ("PA", "RGBA")),
    ],
)
def test_pil_images_come_back_in_their_mode_or_the_nearest(mode, back):
    source = Image.fromarray(RNG.integers(0, 256, (6, 7, 4), dtype=np.uint8), "RGBA")
    image = source if mode == "RGBA" else source.convert("RGB").convert(mode)
    photo = as_photo(image)
    assert photo.mode == mode
    result = as_kind(photo, image)
    assert result.mode == back
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image.convert(back)))
    assert bool(photo.notes) == (mode == "CMYK")


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", "<u2"), ("I", "<i4"), ("F", "<f4")])
def test_deep_pil_images_come_back_deep(mode, dtype):
    values = RNG.random((6, 7)) if mode == "F" else RNG.integers(0, 65536, (6, 7))
    image = Image.fromarray(values.astype(dtype))
    assert image.mode == mode
    photo = as_photo(image)
    assert photo.pixels.dtype == (np.float32 if mode == "F" else np.uint16)
    result = as_kind(photo, image)
    assert result.mode == mode
    np.testing.assert_array_equal(np.asarray(result), values.astype(dtype))
    with pytest.raises(ValueError, match=r"image has .* samples from 5"):
        as_photo(Image.fromarray(np.full((2, 2), 5 if mode == "F" else 500_000, "<i4" if mode != "F" else "<f4")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pil_images_are_turned_upright_and_metadata_go_along(orientation):
    image = Image.fromarray(RNG.integers(0, 256, (4, 5, 4), dtype=np.uint8), "RGBA")
    image.info.update(exif=exif(orientation), icc_profile=profile(b"RGB "))
    photo = as_photo(image)
    upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(photo.pixels, upright[:, :, :3])
    np.testing.assert_array_equal(photo.alpha, upright[:, :, 3])
    result = as_kind(photo, image)
    assert result.size == (upright.shape[1], upright.shape[0])
    assert result.getexif().get(0x0112, 1) == 1
    assert (result.info["exif"] == exif(orientation)) == (orientation == 1)
    assert result.info["icc_profile"] == profile(b"RGB ")
    assert image.info == {"exif": exif(orientation), "icc_profile": profile(b"RGB ")}  # the given one stays as it is


def test_an_orientation_in_xmp_or_set_by_hand_counts_and_damaged_exif_does_not():
    image = Image.new("RGB", (5, 4))
    image.info["xmp"] = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6" a="b"/></x:xmpmeta>'
    assert as_photo(image).pixels.shape == (5, 4, 3)
    image = Image.new("RGB", (5, 4))
    image.getexif()[0x0112] = 8
    assert as_photo(image).pixels.shape == (5, 4, 3)
    image = Image.new("RGB", (5, 4))
    image.info["exif"] = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    assert as_photo(image).pixels.shape == (4, 5, 3)


def test_as_kind_says_what_does_not_fit():
    photo = Photo(np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(TypeError, match="like: got list"):
        as_kind(photo, [])
    with pytest.raises(ValueError, match=r"photo: has 3 channels .* 1 was asked for"):
        as_kind(photo, np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"photo: has 3 channels .* 4 was asked for"):
        as_kind(photo, np.zeros((2, 2, 4), np.uint8))


def test_convert_depth_rounds_to_nearest():
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(convert_depth(deep, np.uint8), np.rint(deep / 257.0))
    byte = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(convert_depth(byte, np.uint16), byte * 257.0)
    for integers in (byte, deep):  # there and back changes nothing: float32 has 24 bits
        np.testing.assert_array_equal(convert_depth(convert_depth(integers, np.float32), integers.dtype), integers)
    beyond = np.array([[-1.0, 0.5, 7.0]], np.float32)
    assert convert_depth(beyond, np.uint8).tolist() == [[0, 128, 255]]
    assert convert_depth(None, np.uint8) is None
    assert convert_depth(byte, np.uint8) is byte


@pytest.mark.parametrize("size", [63, 64])
def test_a_white_disc_stays_white_to_its_edge(size):
    canvas = Image.new("L", (size * 4, size * 4))
    ImageDraw.Draw(canvas).ellipse((40, 48, size * 3, size * 3 + 5), fill=255)
    alpha = np.asarray(canvas.resize((size, size), Image.Resampling.BOX))
    assert {0, 255} < set(alpha.ravel().tolist())  # inside, outside, and an edge between
    pixels = np.where(alpha[:, :, None] > 0, 255, 0).astype(np.uint8).repeat(3, 2)
    before = pixels.copy()
    assert (fill_transparent(pixels, alpha) == 255).all()
    np.testing.assert_array_equal(pixels, before)


def test_filling_takes_the_colours_next_to_the_hole():
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :4], pixels[:, 12:] = (200, 0, 0), (0, 0, 100)
    alpha = np.zeros((8, 16), np.uint8)
    alpha[:, :4], alpha[:, 12:] = 255, 255
    filled = fill_transparent(pixels, alpha)
    assert (filled[:, :8] == (200, 0, 0)).all()
    assert (filled[:, 8:] == (0, 0, 100)).all()
    # the smallest block with anything visible is 8x8 here: 31 faint reds against one opaque green
    alpha[:, :4], alpha[0, 2], pixels[0, 2] = 1, 255, (0, 200, 0)
    assert fill_transparent(pixels, alpha)[0, 4].tolist() == [round(200 * 31 / 286), round(200 * 255 / 286), 0]


@settings(max_examples=60, deadline=None)
@given(
    alpha=hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 0, 0, 1, 255])
    ),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_filling_keeps_visible_pixels_and_stays_in_their_range(alpha, dtype, channels, seed):
    top = 1.0 if dtype is np.float32 else np.iinfo(dtype).max
    pixels = (np.random.default_rng(seed).random((*alpha.shape, channels)) * top).astype(dtype)
    filled = fill_transparent(pixels, alpha)
    seen = alpha > 0
    assert filled.dtype == dtype
    np.testing.assert_array_equal(filled[seen], pixels[seen])
    if not seen.any():
        assert filled is pixels
        return
    slack = 2e-7 * top if dtype is np.float32 else 0  # a mean in float32, one or two roundings
    for channel in range(channels):
        visible = pixels[..., channel][seen]
        assert filled[..., channel].min() >= visible.min() - slack * 4
        assert filled[..., channel].max() <= visible.max() + slack * 4


def test_fill_transparent_names_shapes_that_do_not_go_together():
    with pytest.raises(ValueError, match=r"alpha: got shape \(4, 4\), but pixels have \(4, 5, 3\)"):
        fill_transparent(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4), np.uint8))
