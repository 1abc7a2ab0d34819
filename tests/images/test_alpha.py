"""Coverage after enlarging: exact where the input's is constant, the same for every kind of image and any tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from liif_fast.images.alpha import settle

RNG = np.random.default_rng(7)


def brute_force(alpha: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel: all input pixels less than 2 from an output pixel's centre, or 2 output pixels if
    these are larger, are at one end."""
    out, top = coverage.copy(), 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            at = [(k + 0.5) * n / m - 0.5 for k, n, m in zip((i, j), alpha.shape, out.shape, strict=True)]
            sides = zip(alpha.shape, out.shape, at, strict=True)
            near = [[p for p in range(n) if abs(p - c) < 2 * max(1, n / m)] for n, m, c in sides]
            part = alpha[np.ix_(*near)]
            for value in (0, top):
                if part.size and (part == value).all():
                    out[i, j] = value
    return out


@pytest.mark.parametrize("size", [(44, 52), (11, 13), (29, 31), (5, 7), (1, 1), (3, 60)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_settle_is_its_definition(size, dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    alpha = np.zeros((11, 13), dtype)
    alpha[:, 6:] = top
    alpha[8, 11] = 3 / 7 * top
    coverage = (RNG.random(size) * top).astype(dtype)
    want = brute_force(alpha, coverage)
    mirrored = settle(alpha[::-1, ::-1], coverage[::-1, ::-1].copy())
    np.testing.assert_array_equal(settle(alpha, coverage.copy()), want)
    np.testing.assert_array_equal(mirrored, want[::-1, ::-1])
    assert size[0] < 11 or (want == 0).any()


def disc(dtype=np.uint8) -> np.ndarray:
    """[40, 40, 4]: a coloured disc on nothing."""
    y, x = np.mgrid[:40, :40] - 19.5
    picture = RNG.integers(0, 256, (40, 40, 4)).astype(dtype)
    picture[..., 3] = np.where(x * x + y * y < 100, 255, 0)
    return picture * dtype(257) if dtype == np.uint16 else picture


@pytest.fixture
def model(tiny):
    """Untrained, and far from constant on constants; its output is near the middle."""
    return tiny(hidden=[8]).eval()


def test_where_nothing_is_nothing_comes_and_a_full_inside_stays_full(model):
    picture = disc()
    out = np.asarray(model.upscale(Image.fromarray(picture), scale=4))[..., 3]
    y, x = (np.mgrid[:160, :160] - 79.5) / 4
    away, inside = np.hypot(x, y) > 10 + 2 * 2**0.5 + 1, np.hypot(x, y) < 10 - 2 * 2**0.5 - 1
    assert (out[away] == 0).all()
    assert (out[inside] == 255).all()
    box = Image.fromarray(out).getbbox()
    assert box[0] >= 4 * (9 - 2)  # the disc begins at column 9.5 or so
    between = out[~away & ~inside]
    assert ((between > 0) & (between < 255)).any()  # the edge is the network's
    np.testing.assert_array_equal(np.asarray(model.upscale(picture, scale=4))[..., 3], out)
    tiled = np.asarray(model.upscale(picture, scale=4, tile=32))[..., 3]
    assert np.abs(tiled.astype(int) - out).max() <= 1  # float32 rounding across a half
    np.testing.assert_array_equal(tiled[away | inside], out[away | inside])


def test_16_bits_and_floats(model):
    for picture, top in ((disc(np.uint16), 65535), (disc().astype(np.float32) / 255, 1)):
        out = model.upscale(picture, scale=2.5)[..., 3]
        assert (out[:8, :8] == 0).all()
        assert (out[46:54, 46:54] == top).all()


def test_grey_with_alpha_and_without_change_of_size(model):
    grey = Image.fromarray(disc()).convert("LA")
    out = np.asarray(model.upscale(grey, scale=1))[..., 1]
    assert (out[:5] == 0).all()
    assert (out[18:22, 18:22] == 255).all()


def test_constant_alpha_of_any_value(model):
    picture = disc()
    picture[..., 3] = 77
    assert (model.upscale(picture, scale=3)[..., 3] == 77).all()


def test_a_phones_photo_comes_out_upright(model):
    stored = Image.fromarray(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.info["exif"] = exif.tobytes()
    out = model.upscale(stored, scale=2)
    assert out.size == (12, 18)
    assert out.getexif().get(0x0112, 1) == 1
    upright = model.upscale(np.ascontiguousarray(np.rot90(np.asarray(stored), -1)), scale=2)
    np.testing.assert_array_equal(np.asarray(out), upright)
    assert model.upscale(stored, size=(7, 5)).size == (5, 7)  # of the upright picture
    assert torch.is_tensor(model.upscale(torch.rand(3, 4, 5), scale=2))
