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
