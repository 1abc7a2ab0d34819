"""Bicubic interpolation and nearest pixels, by parts: those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from liif_fast.images.resize import pil_bicubic
from liif_fast.viewing import interpolation

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


@pytest.mark.parametrize("scale", [4, 2, 0.5])
def test_parts_of_the_whole(scale):
    height, width = round(30 * scale), round(40 * scale)
    whole = pil_bicubic(PIXELS, (height, width))
    y, x, h, w = 3, 5, height // 2, width // 3
    part = interpolation.bicubic(IMAGE, (x / scale, y / scale, (x + w) / scale, (y + h) / scale), (h, w))
    # Pillow's positions are float64, its weights of 22 bits: one may round otherwise
    assert np.abs(part.astype(int) - whole[y : y + h, x : x + w]).max() <= 1


@pytest.mark.parametrize("scale", [4, 2.5, 1, 0.7, 63.7])
def test_the_pixels_under_the_centres(scale):
    size = 17, 23
    got = interpolation.nearest(IMAGE, (2 / scale, 1 / scale, (2 + 23) / scale, (1 + 17) / scale), size)
    rows, cols = (
        ((start + np.arange(n) + 0.5) / scale + 1e-9).astype(int) for start, n in zip((1, 2), size, strict=True)
    )
    assert np.array_equal(got, PIXELS[rows][:, cols])


def test_a_box_that_rounding_puts_beyond_the_end():
    for how in (interpolation.bicubic, interpolation.nearest):
        assert how(IMAGE, (30, 20, 40 + 1e-9, 30 + 1e-9), (20, 20)).shape == (20, 20, 3)
        assert how(Image.new("L", (1, 1), 7), (0, 0, 1, 1), (3, 5)).tolist() == [[7] * 5] * 3
