"""MATLAB's imresize against the benchmark files and against a definition by loops; Pillow's bicubic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from liif_fast.images.resize import imresize, pil_bicubic


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14)])
def test_every_benchmark_file_bit_for_bit(data_dir, name, count, scale):
    folder = data_dir / "benchmark" / name
    files = sorted((folder / "HR").glob("*.png"))
    assert len(files) == count
    for file in files:
        hr = np.asarray(Image.open(file))
        want = np.asarray(Image.open(folder / "LR_bicubic" / f"X{scale}" / f"{file.stem}x{scale}.png"))
        h, w = hr.shape[0] // scale, hr.shape[1] // scale
        cropped = hr[: h * scale, : w * scale]
        assert np.array_equal(imresize(cropped, (h, w)), want), file.name
        assert np.array_equal(imresize(cropped, 1 / scale), want), file.name


def by_definition(line, out):
    """One pass over a line of values: the continuous convolution, mirrored at the ends; before rounding."""
    n, scale = len(line), out / len(line)
    a, result = -0.5, []

    def kernel(x):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    stretch = min(1.0, scale)
    for i in range(out):
        center = (i + 0.5) / scale - 0.5
        reach = math.ceil(2 / stretch) + 1
        taps = [
            (j, kernel((center - j) * stretch)) for j in range(math.floor(center) - reach, math.ceil(center) + reach)
        ]
        mirrored = [j % (2 * n) if j % (2 * n) < n else 2 * n - 1 - j % (2 * n) for j, _ in taps]
        total = sum(weight for _, weight in taps)
        result.append(sum(float(line[m]) * weight for m, (_, weight) in zip(mirrored, taps, strict=True)) / total)
    return np.array(result)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 24), out=st.integers(1, 40), seed=st.integers(0, 99))
def test_one_axis_against_the_definition(n, out, seed):
    line = np.random.default_rng(seed).integers(0, 256, n, dtype=np.uint8)
    exact = by_definition(line, out)
    for image, size in ((line[:, None], (out, 1)), (line[None], (1, out))):
        got = imresize(image, size).ravel().astype(float)
        # half a grey level of rounding, plus float64's in the sum of at most 100 taps of 255
        assert np.abs(got - exact.clip(0, 255)).max() <= 0.5 + 1e-9


def test_rounds_after_each_axis_the_smaller_scale_first():
    image = noise(12, 20)
    one_way = imresize(imresize(image, (5, 20)), (5, 13))  # rows shrink more: 5/12 < 13/20
    assert np.array_equal(imresize(image, (5, 13)), one_way)
    assert not np.array_equal(imresize(image, (5, 13)), imresize(imresize(image, (12, 13)), (5, 13)))
    transposed = imresize(imresize(image.T, (20, 5)), (13, 5))
    assert np.array_equal(imresize(image.T, (13, 5)), transposed)


@pytest.mark.parametrize("function", [imresize, pil_bicubic])
def test_channels_are_independent_and_any_strides_do(function):
    image = noise(30, 44, 4)[::2, ::-1]
    got = function(image, (7, 50))
    assert got.shape == (7, 50, 4)
    assert got.dtype == np.uint8
    for c in range(4):
        assert np.array_equal(got[..., c], function(image[..., c], (7, 50)))
    assert function(image[..., :1], (7, 50)).shape == (7, 50, 1)


@pytest.mark.parametrize("function", [imresize, pil_bicubic])
def test_same_size_and_constant_images_stay(function):
    image = noise(9, 7, 3)
    assert np.array_equal(function(image, (9, 7)), image)
    for value in (0, 1, 127, 255):
        assert (function(np.full((11, 5), value, np.uint8), (23, 2)) == value).all()


def test_scale_gives_the_rounded_up_size():
    assert imresize(noise(10, 11), 0.25).shape == (3, 3)
    assert imresize(noise(10, 11), 2).shape == (20, 22)
    assert np.array_equal(imresize(noise(10, 11), np.float64(2)), imresize(noise(10, 11), (20, 22)))


@pytest.mark.parametrize("size", [(10, 13), (61, 80), (1, 1)])
def test_pil_bicubic_is_pillow_on_rgb_and_grey(size):
    rgb = noise(33, 40, 3)
    wh = size[::-1]
    assert np.array_equal(pil_bicubic(rgb, size), np.asarray(Image.fromarray(rgb).resize(wh, Image.Resampling.BICUBIC)))
    grey = rgb[..., 0]
    want = np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize(wh, Image.Resampling.BICUBIC))
    assert np.array_equal(pil_bicubic(grey, size), want)


@pytest.mark.parametrize("function", [imresize, pil_bicubic])
@pytest.mark.parametrize(
    ("image", "size", "error", "words"),
    [
        ([[1]], (1, 1), TypeError, "numpy array, got list"),
        (np.zeros((4, 4)), (2, 2), TypeError, "uint8, got float64"),
        (np.zeros((2, 4, 4, 3), np.uint8), (2, 2), ValueError, r"\[2, 4, 4, 3\]"),
        (np.zeros((0, 4), np.uint8), (2, 2), ValueError, "not empty"),
        (np.zeros((4, 4), np.uint8), (2, 0), ValueError, "at least 1x1"),
        (np.zeros((4, 4), np.uint8), (2, 2, 3), TypeError, "height, width"),
        (np.zeros((4, 4), np.uint8), (2.0, 2.0), TypeError, "whole numbers"),
        (np.zeros((4, 4), np.uint8), "22", TypeError, "whole numbers"),
        (np.zeros((4, 4), np.uint8), True, TypeError, "whole numbers"),
    ],
)
def test_bad_arguments(function, image, size, error, words):
    with pytest.raises(error, match=words) as caught:
        function(image, size)
    assert str(caught.value).startswith(function.__name__)


@pytest.mark.parametrize("scale", [0, -1, 0.0, math.inf, math.nan])
def test_bad_scale(scale):
    with pytest.raises(ValueError, match="positive finite"):
        imresize(noise(4, 4), scale)
