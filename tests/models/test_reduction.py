"""Below scale 1 nothing aliases, unless points are asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from liif_fast.head import sampling
from liif_fast.models import reduction


@pytest.mark.parametrize("size", [(37, 50), (20, 31), (3, 1), (40, 12), (7, 53)])
def test_lanczos_is_pillows(size):
    image = np.random.default_rng(1).random((40, 53), np.float32)
    got = reduction.reduced(torch.from_numpy(image)[None, None], sampling.of(size))[0, 0].numpy()
    want = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS)).clip(0, 1)
    np.testing.assert_allclose(got, want, atol=2e-6)  # float32 sums in another order; Pillow reduces the columns first


def test_what_is_not_coarser_stays(tiny):
    image = torch.randint(0, 256, (1, 3, 6, 8), dtype=torch.uint8)
    assert reduction.reduced(image, sampling.of((6, 8))) is image
    assert reduction.reduced(image, sampling.of((60, 8))) is image
    assert reduction.reduced(image, sampling.window((6, 8), (3, 4), (0, 0, 3, 4))) is image
    assert reduction.reduced(image, sampling.of((60, 5))).shape == (1, 3, 6, 5)
    assert reduction.reduced(image, sampling.window((6, 8), (3, 4), (0, 0, 6, 4))).shape == (1, 3, 3, 8)


@pytest.mark.parametrize("scale", [0.5, 0.3])
def test_a_checkerboard_becomes_grey(official, scale):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    board = np.repeat(board[..., None], 3, 2).astype(np.uint8)
    grey = official.upscale(board, scale=scale)
    inside = grey[2:-2, 2:-2]
    assert abs(inside.mean() - 127.5) < 2  # LIIF's answer to grey
    assert inside.std() < 3
    points = official.upscale(board, scale=0.5, point=True)
    assert points.mean() > 200  # every second point


@pytest.mark.parametrize(("scale", "least"), [(0.7, 48), (0.5, 46), (0.3, 43)])
def test_close_to_lanczos(official, data_dir, scale, least):
    """PSNR on a photo; the figures of all are in the module's docstring."""
    image = Image.open(data_dir / "benchmark/Set5/HR/bird.png").convert("RGB")
    small = official.upscale(image, scale=scale)
    want = image.resize(small.size, Image.Resampling.LANCZOS)
    mse = np.square(np.asarray(small, float) - np.asarray(want, float)).mean()
    assert 10 * math.log10(255**2 / mse) > least


def test_tiles_and_windows_of_a_reduction(tiny):
    model, image = tiny(), torch.rand(1, 3, 40, 60)
    whole = model.upscale(image, size=(20, 75))
    assert (model.upscale(image, size=(20, 75), tile=32) - whole).abs().max() <= 1e-5
    part = model.upscale(image, size=(8, 30), window=(10, 12, 16, 24))
    assert (part - whole[:, :, 5:13, 15:45]).abs().max() <= 1e-5


def test_points_are_the_official_ones(tiny):
    model, image = tiny(), torch.rand(1, 3, 21, 16)
    want = (model.render(image * 2 - 1, (9, 50)) / 2 + 0.5).clamp(0, 1)
    assert (model.upscale(image, size=(9, 50), point=True) - want).abs().max() <= 1e-6


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("how", [{"scale": 0.5}, {"size": (32, 16)}, {"scale": 0.5, "window": (4, 4, 20, 20)}])
def test_colours_that_are_hardly_seen_hardly_count(official, frames, how):
    """As Pillow reduces, by premultiplied colours."""
    image = np.zeros((32, 32, 4), np.uint8)
    image[:, ::2] = 230, 20, 20, 255
    image[:, 1::2] = 20, 230, 20, 3
    small = next(official.stream([image], **how)) if frames else official.upscale(image, **how)
    want = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.LANCZOS))[8, 8]
    inside = small[2:-2, 2:-2].reshape(-1, 4).astype(int)
    assert np.abs(inside[:, :3] - want[:3]).max() <= 6  # LIIF's answer to one colour
    assert np.abs(inside[:, 3] - want[3]).max() <= 3


def test_alpha_that_is_one_value_changes_no_bit(tiny):
    model, image = tiny(), np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    with_alpha = np.concatenate([image, np.full_like(image[..., :1], 90)], -1)
    small = model.upscale(with_alpha, scale=0.6)
    np.testing.assert_array_equal(small[..., :3], model.upscale(image, scale=0.6))
    assert (small[..., 3] == 90).all()
