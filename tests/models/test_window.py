"""Windows of real numbers: the part of the whole picture that they name, at any size, in tiles and without."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from liif_fast import reference
from liif_fast.head import sampling
from liif_fast.models import tiles

# the same products in other blocks, and coordinates that are rounded in other places
CLOSE = 1e-5


def by_definition(model, inp, size, window):
    """The equation of ``LIIF.render``'s docstring, by the official interface."""
    (top, left, height, width), (h, w) = window, inp.shape[-2:]
    spans = (2 * top / h - 1, 2 * (top + height) / h - 1), (2 * left / w - 1, 2 * (left + width) / w - 1)
    coord = reference.make_coord(size, spans).clamp(-1 + 1e-6, 1 - 1e-6).expand(len(inp), -1, -1)
    cell = (2 / torch.tensor(size) * torch.tensor([height / h, width / w])).float().expand_as(coord)
    with torch.no_grad():
        return model(inp, coord, cell).transpose(1, 2).unflatten(-1, size)


@pytest.mark.parametrize(
    "window",
    [
        (0, 0, 11, 14),
        (2, 3, 5, 6),
        (1.25, 0.7, 3.1, 9.99),
        (-2, -1.5, 8, 20),
        (9, 12, 4, 5),
        (-30, 40, 3, 2),
        (4, 4, 0.01, 0.02),
    ],
)
@pytest.mark.parametrize("size", [(7, 9), (22, 28), (1, 1), (3, 40)])
def test_a_window_is_its_definition(tiny, window, size):
    model, inp = tiny(), torch.rand(2, 3, 11, 14) * 2 - 1
    want = by_definition(model, inp, size, window)
    assert (model.render(inp, size, window=window) - want).abs().max() <= CLOSE
    with_features = model.renderer(size, window=window)(inp)
    assert torch.equal(with_features, model.render(inp, size, window=window))


@pytest.mark.parametrize("tile", [0, 5])
def test_windows_of_a_grid_are_its_region(tiny, tile):
    """Random windows that begin and end with pixels of the whole picture at some scale."""
    model, image, rng = tiny(), torch.rand(1, 3, 24, 31), random.Random(3)
    size = (60, 93)
    whole = model.upscale(image, size=size)
    for _ in range(20):
        (a, b), (c, d) = (sorted(rng.sample(range(n + 1), 2)) for n in size)
        window = [x * n / m for x, n, m in ((a, 24, 60), (c, 31, 93), (b - a, 24, 60), (d - c, 31, 93))]
        got = torch.empty(1, 3, b - a, d - c)
        pixels = sampling.window((24, 31), (b - a, d - c), window)
        assert [axis.whole for axis in pixels] == list(size)  # so the coordinates are the same bits
        tiles.upscale(model, image, got, tile=tile, dtype=torch.float32, pixels=pixels)
        assert (got - whole[:, :, a:b, c:d]).abs().max() <= CLOSE
        assert (model.upscale(image, size=(b - a, d - c), window=window) - got).abs().max() <= CLOSE


def test_beyond_the_border_its_colours_go_on(official):
    image = np.random.default_rng(2).integers(0, 256, (12, 12, 3), np.uint8)
    large = official.upscale(image, scale=4, window=(-5, -6, 22, 24)).astype(int)
    for border, beyond in ((large[20], large[:18]), (large[-21], large[-18:])):
        assert np.abs(beyond - beyond[0]).max() == 0
        assert np.abs(beyond[0] - border)[24:-24].max() < 60  # half a pixel apart, in noise


def test_the_cell_follows_the_window(tiny):
    model, seen = tiny(), []
    model.query_rgb = lambda coord, cell=None: seen.append(cell) or torch.zeros(1, coord.shape[1], 3)
    model.render(torch.rand(1, 3, 10, 8), (8, 4), window=(1, 1, 2, 2))
    assert torch.allclose(seen[0], torch.tensor([2 / 8 * 2 / 10, 2 / 4 * 2 / 8]).expand(1, 32, 2))


def test_kinds_of_pictures_have_windows(tiny):
    model = tiny()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
    pixels[:, :12, 3], pixels[:, 12:, 3] = 0, 255
    whole = np.asarray(model.upscale(pixels, scale=2))
    part = model.upscale(pixels, scale=2, window=(2, 5, 10, 14))
    assert part.shape == (20, 28, 4)
    assert np.abs(part.astype(int) - whole[4:24, 10:38]).max() <= 1  # roundings to 8 bits
    np.testing.assert_array_equal(part[..., 3], whole[4:24, 10:38, 3])  # also where it is settled
    assert model.upscale(Image.fromarray(pixels), size=(7, 9), window=(0.5, 0.5, 3, 3)).size == (9, 7)


def test_reflection():
    axis = sampling.Axis(20, 8, -6, mirror=True)
    folded = axis.centres(0, 20, None, torch.float64)
    inside = sampling.Axis(8, 8).centres(0, 8, None, torch.float64)
    want = torch.cat([inside[:6].flip(0), inside, inside[2:].flip(0)])
    torch.testing.assert_close(folded, want, atol=1e-12, rtol=0)
    far = sampling.Axis(100, 4, -47.3, mirror=True)
    for start in range(0, 100, 7):
        for stop in range(start + 1, 101, 5):
            low, high = far.ends(torch.tensor([start]), torch.tensor([stop]))[0].tolist()
            coords = far.centres(start, stop, None, torch.float64)
            assert -1 <= low <= coords.min() + 1e-12
            assert coords.max() - 1e-12 <= high <= 1
            assert stop - start > 1 or low == high


def test_a_window_encodes_what_it_depends_on(tiny, monkeypatch):
    model, seen = tiny(), []
    encode = model._encode
    monkeypatch.setattr(model, "_encode", lambda x: seen.append(tuple(x.shape[-2:])) or encode(x))
    model.render(torch.rand(1, 3, 100, 90), (8, 8), window=(40, 40, 8, 8))
    assert max(seen[0]) < 30


@pytest.mark.parametrize(
    "window",
    [
        (0, 0, 5),
        (0, 0, 0, 5),
        (0, 0, 5, -1),
        (0, 0, float("nan"), 5),
        (0, float("inf"), 5, 5),
        "abcd",
        7,
        (True, 0, 5, 5),
    ],
)
def test_what_is_no_window_is_refused(tiny, window):
    model, image = tiny(), torch.rand(3, 9, 9)
    for call in (
        lambda: model.upscale(image, scale=2, window=window),
        lambda: model.render(image[None], (4, 4), window=window),
        lambda: model.renderer((4, 4), window=window),
    ):
        with pytest.raises(ValueError, match=r"window: \(top, left, height, width\) in the image's pixels"):
            call()


def test_models_of_whole_images_refuse_windows(tiny):
    import liif_fast

    srcnn = liif_fast.make({"name": "srcnn", "args": {}})
    with pytest.raises(ValueError, match="window: srcnn makes whole images"):
        srcnn.upscale(torch.rand(3, 8, 8), scale=2, window=(0, 0, 4, 4))
    with pytest.raises(ValueError, match="point: srcnn"):
        srcnn.upscale(torch.rand(3, 8, 8), scale=0.5, point=True)
    model = tiny()
    model.render = lambda inp, size: torch.zeros(1, 3, *size)
    with pytest.raises(ValueError, match="window: LIIF has a render of its own"):
        model.upscale(torch.rand(3, 8, 8), scale=2, window=(0, 0, 4, 4))
