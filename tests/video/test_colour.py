"""Colours by the formulas of H.273 in float64, and there and back."""

from __future__ import annotations

import numpy as np
import pytest

av = pytest.importorskip("av")
from video_files import PATCHES, bars, components, picture_frame, rgb_of  # noqa: E402

from liif_fast.video import colour  # noqa: E402
from liif_fast.video.kinds import Colours  # noqa: E402

FORMATS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv444p16le"]
SEEN = np.concatenate([PATCHES, np.random.default_rng(0).random((30, 3))])
SIZE = 16 * len(SEEN), 32


def planes(frame) -> list[np.ndarray]:
    return [p.astype(float) for p in colour._planes(frame)]


def middles(plane: np.ndarray) -> np.ndarray:
    """A value for each bar."""
    step = plane.shape[1] // len(SEEN)
    return plane[plane.shape[0] // 2, step // 2 :: step].astype(float)


def bits_of(pixel_format: str) -> int:
    return av.VideoFormat(pixel_format).components[0].bits


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_flat_patches_by_the_formulas(pixel_format, matrix, full_range):
    bits, colours = bits_of(pixel_format), Colours(matrix, 1, 1, full_range)
    top = 255 if bits == 8 else 65535
    unit = 1 if bits == 8 else 65535 / (2**bits - 1)
    exact = components(SEEN, matrix, full_range, bits)
    codes = np.clip(np.rint(exact), 0, 2**bits - 1)
    rgb = colour.to_rgb(picture_frame(bars(SIZE, SEEN), pixel_format, matrix, full_range), colours, bits)
    assert rgb.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert rgb.shape == (SIZE[1], SIZE[0], 3)
    want = np.clip(rgb_of(codes, matrix, full_range, bits), 0, 1) * top
    got = np.stack([middles(rgb[..., i]) for i in range(3)], 1)
    assert np.abs(got - want).max() <= max(0.55, 0.05 * unit)

    back = colour.from_rgb(rgb, pixel_format, colours)
    told = np.stack([middles(p) for p in planes(back)], 1)
    allowed = 0 if bits > 8 and bits < 16 else 1  # 8 bits of R'G'B' hold not all codes; 16 are as many
    inside = ((rgb_of(codes, matrix, full_range, bits) >= 0) & (rgb_of(codes, matrix, full_range, bits) <= 1)).all(1)
    assert np.abs(told - codes)[inside].max() <= allowed

    source = np.rint(bars(SIZE, SEEN) * top).astype(rgb.dtype)
    made = np.stack([middles(p) for p in planes(colour.from_rgb(source, pixel_format, colours))], 1)
    exact = components(np.rint(SEEN * top) / top, matrix, full_range, bits).clip(0, 2**bits - 1)
    assert np.abs(made - exact).max() <= 0.55
