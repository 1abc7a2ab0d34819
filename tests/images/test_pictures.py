"""model.upscale returns the kind of image that it gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

SIZE = (6, 9)  # height, width


def identity(model):
    """Make a model of TinyEncoder return its nearest input pixel, so that colours are known."""
    model.encoder = torch.nn.Identity()
    model.encoder.out_dim = 3
    model.encoder.receptive_field = 0
    model.imnet = None
    return model


@pytest.fixture
def nearest(tiny):
    return identity(tiny(None, 3))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
def test_pil(nearest, mode):
    rng = np.random.default_rng(0)
    channels = {"RGB": 3, "RGBA": 4, "LA": 2}.get(mode)
    top = 65536 if mode == "I;16" else 256
    array = rng.integers(0, top, (*SIZE, channels) if channels else SIZE).astype(np.uint16 if top > 256 else np.uint8)
    if mode in ("RGBA", "LA"):
        array[..., -1] |= 1  # visible everywhere, so that no colour is filled in
    image = Image.fromarray(array)
    assert image.mode == mode
    done = nearest.upscale(image, scale=2)
    assert done.mode == mode
    assert done.size == (18, 12)
    assert np.array_equal(np.asarray(done), array.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("shape", [SIZE, (*SIZE, 1), (*SIZE, 3), (*SIZE, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_numpy(nearest, shape, dtype):
    rng = np.random.default_rng(0)
    array = (
        rng.random(shape).astype(dtype) if np.dtype(dtype).kind == "f" else rng.integers(1, 255, shape).astype(dtype)
    )
    for given in (array, np.asfortranarray(array), array[::-1], array[:, ::-1]):
        done = nearest.upscale(given, scale=3)
        assert done.dtype == dtype
        # float32 inside: 2^-24 for each of a few roundings
        np.testing.assert_allclose(
            done, given.repeat(3, 0).repeat(3, 1), rtol=0, atol=5e-7 if array.dtype.kind == "f" else 0
        )


@pytest.mark.parametrize("shape", [(3, *SIZE), (2, 3, *SIZE), (1, *SIZE), (2, 1, *SIZE)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_tensor(nearest, shape, dtype):
    tensor = torch.rand(shape).to(dtype) if dtype.is_floating_point else torch.randint(0, 256, shape, dtype=dtype)
    done = nearest.upscale(tensor, size=(12, 27))
    assert done.dtype == dtype
    want = tensor.repeat_interleave(2, -2).repeat_interleave(3, -1)
    torch.testing.assert_close(done, want, rtol=0, atol=5e-7)


def test_grey_is_the_mean_of_the_colours(tiny):
    model = tiny()
    grey = torch.rand(1, 1, 8, 8)
    done = model.upscale(grey, scale=2)
    torch.testing.assert_close(done, model.upscale(grey.expand(-1, 3, -1, -1), scale=2).mean(1, keepdim=True))


def test_transparent_pixels_do_not_darken_edges(official):
    """A white disc on black that nobody sees: the visible edge must stay white."""
    y, x = np.mgrid[-12:12, -12:12]
    inside = x * x + y * y < 80
    rgba = np.zeros((24, 24, 4), np.uint8)
    rgba[inside] = 255
    done = official.upscale(Image.fromarray(rgba), scale=3)
    colours, alpha = np.asarray(done)[..., :3], np.asarray(done)[..., 3]
    assert colours[alpha > 64].min() >= 235
    assert alpha.min() == 0
    assert alpha.max() == 255


def test_opaque_alpha_stays_opaque(tiny):
    rgba = np.full((5, 5, 4), 255, np.uint8)
    assert (tiny().upscale(rgba, scale=2)[..., 3] == 255).all()


def test_scale_and_size(nearest):
    image = torch.rand(3, 10, 7)
    assert nearest.upscale(image, scale=0.05).shape == (3, 1, 1)
    assert nearest.upscale(image, scale=1.5).shape == (3, 15, 10)
    for arguments, words in [
        ({}, "give either scale or size"),
        ({"scale": 2, "size": (4, 4)}, "give either scale or size"),
        ({"scale": 0}, "scale: a number above 0"),
        ({"scale": -1.0}, "scale: a number above 0"),
        ({"scale": float("nan")}, "scale: a number above 0"),
        ({"scale": "2"}, "scale: a number above 0"),
        ({"size": (0, 4)}, "size: "),
        ({"size": 4}, "size: "),
        ({"scale": 2, "tile": -1}, "tile: "),
        ({"scale": 2, "tile": "big"}, "tile: "),
        ({"scale": 2, "dtype": torch.int32}, "dtype: "),
    ]:
        with pytest.raises(ValueError, match=words):
            nearest.upscale(image, **arguments)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (torch.full((3, 4, 4), 254.5), ValueError, r"image: .*\[0, 1\].*255"),
        (torch.full((3, 4, 4), float("nan")), ValueError, r"image: .*\[0, 1\]"),
        (torch.zeros(4, 4), ValueError, "image: a tensor"),
        (torch.zeros(2, 4, 4), ValueError, "image: a tensor"),
        (torch.zeros(3, 0, 4), ValueError, "image: a tensor"),
        (torch.zeros(3, 4, 4, dtype=torch.int32), TypeError, "image: a tensor of dtype"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, "image"),
        (np.zeros((4, 4, 3), np.int64), TypeError, "image"),
        (np.full((4, 4, 3), 255.0), ValueError, "image.*255"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "image"),
        ("photo.jpg", TypeError, "image"),
        (None, TypeError, "image"),
    ],
    ids=str,
)
def test_bad_images(nearest, image, error, words):
    with pytest.raises(error, match=words):
        nearest.upscale(image, scale=2)
