"""Encoders that need whole windows: padded, cut back, the same by every method; maps that do not fit are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import liif_fast
from liif_fast.models import padding, tiles
from liif_fast.reference import make_coord
from liif_fast.weights import checkpoints

IMNET = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}}


class Windowed(nn.Module):
    """Pads inside as SwinIR does, adds to each pixel what a linear layer makes of its 8x8 window, then a 3x3
    convolution: what a pixel sees is bounded, but depends on where its window begins."""

    def __init__(self, side: int = 8, inside: bool = True) -> None:
        super().__init__()
        self.side, self.inside, self.out_dim = side, inside, 6
        self.receptive_field = side - 1 + 1
        self.first = nn.Conv2d(3, 6, 1)
        self.mix = nn.Linear(side * side, side * side)
        self.last = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        s = self.side
        if self.inside:
            x = nn.functional.pad(x, (0, -x.shape[3] % s, 0, -x.shape[2] % s), "reflect")
        x = self.first(x)
        B, C, H, W = x.shape
        windows = x.view(B, C, H // s, s, W // s, s).transpose(3, 4).reshape(B, C, H // s, W // s, s * s)
        mixed = self.mix(windows).relu().view(B, C, H // s, W // s, s, s).transpose(3, 4).reshape(B, C, H, W)
        return self.last(x + mixed)


liif_fast.register("windowed-of-a-test")(Windowed)


def by_flips(image, side):
    """LTE's test program, with padding only where it is needed and as often as it is."""
    for dim in (2, 3):
        n = image.shape[dim]
        wanted = -(-n // side) * side
        while image.shape[dim] < wanted:
            image = torch.cat([image, image.flip(dim)], dim)
        image = image.narrow(dim, 0, wanted)
    return image


@pytest.fixture
def model():
    return liif_fast.LIIF(Windowed(), IMNET, pad_to=8).eval()


SIZES = [(17, 22), (8, 16), (3, 5), (1, 1), (9, 2), (24, 7)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [1, 2, 8, 13])
def test_padding_is_by_repeated_flips(size, side):
    image = torch.rand(2, 3, *size)
    assert torch.equal(padding.padded(image, side), by_flips(image, side))
    if not (size[0] % side or size[1] % side):
        assert padding.padded(image, side) is image


@pytest.mark.parametrize("size", SIZES)
def test_every_method_has_the_cut_map(model, size):
    inp = torch.rand(2, 3, *size) * 2 - 1
    want = model.encoder(by_flips(inp, 8))[:, :, : size[0], : size[1]]
    feat = model.gen_feat(inp)
    assert torch.equal(feat, want)
    out_size = (2 * size[0] + 1, 3 * size[1])
    coord = make_coord(out_size).expand(2, -1, -1)
    cell = torch.tensor([2 / n for n in out_size]).expand_as(coord)
    colours = model.query(want, coord, cell).detach()
    assert torch.equal(model(inp, coord, cell), colours)
    assert torch.equal(model.query_rgb(coord, cell), colours)
    image = colours.transpose(1, 2).unflatten(-1, out_size)
    # other kernels: rounding of some ten float32 additions
    for rendered in (model.render(inp, out_size), model.renderer(out_size)(inp)):
        assert (rendered - image).abs().max() <= 1e-5
    pixels = (inp + 1) / 2
    upscaled = model.upscale(pixels, size=out_size)
    assert (upscaled - ((image + 1) / 2).clamp(0, 1)).abs().max() <= 1e-5
    quantized = model.quantize(pixels)
    assert quantized.pad_to == 8
    assert (quantized.upscale(pixels, size=out_size) - upscaled).abs().mean() <= 0.01


def test_training_and_compile(model):
    inp, coord = torch.rand(1, 3, 11, 9), torch.rand(1, 20, 2) * 2 - 1
    cell = torch.full_like(coord, 0.1)
    model(inp, coord, cell).sum().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model.query(model.encoder(by_flips(inp, 8))[:, :, :11, :9], coord, cell).sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert torch.equal(compiled(inp, coord, cell), model(inp, coord, cell))


@pytest.mark.parametrize("size", [(61, 35), (40, 33), (50, 3), (1, 70)])
@pytest.mark.parametrize("tile", [3, 7, 16])
def test_tiles_keep_the_windows(model, size, tile):
    image = torch.rand(1, 3, *size)
    whole = model.upscale(image, scale=1.7, tile=0)
    tiled = torch.empty_like(whole)
    with torch.no_grad():
        tiles.upscale(model, image, tiled, tile=tile, dtype=torch.float32)
    assert (whole - tiled).abs().max() <= 1e-5
    assert (whole - model.upscale(image, scale=1.7, tile=32)).abs().max() <= 1e-5


def test_the_alignment_is_needed(model, monkeypatch):
    image = torch.rand(1, 3, 61, 45)
    whole = model.upscale(image, scale=1.7, tile=0)
    monkeypatch.setattr(tiles, "with_halo", lambda hidden, n, halo, align: (max(0, hidden[0] - halo),
                                                                             min(n, hidden[1] + halo)))  # fmt: skip
    tiled = torch.empty_like(whole)
    with torch.no_grad():
        tiles.upscale(model, image, tiled, tile=7, dtype=torch.float32)
    assert (whole - tiled).abs().max() > 1e-3


def test_the_attribute_of_the_encoder():
    encoder = Windowed()
    model = liif_fast.LIIF(encoder, IMNET)
    assert model.pad_to == 1
    encoder.pad_to = 8
    assert model.pad_to == 8
    assert model.gen_feat(torch.rand(1, 3, 9, 10)).shape == (1, 6, 9, 10)
    assert liif_fast.LIIF(encoder, IMNET, pad_to=16).pad_to == 16  # the argument wins
    encoder.pad_to = "8"
    with pytest.raises(ValueError, match=r"Windowed.pad_to: a whole number from 1 to 1024 is wanted, got '8'"):
        model.gen_feat(torch.rand(1, 3, 9, 10))
    for bad in (0, -8, 2.5, True, 10**9):
        with pytest.raises(ValueError, match="pad_to: a whole number"):
            liif_fast.LIIF(encoder, IMNET, pad_to=bad)


def test_saved_only_if_it_is_given(tmp_path):
    spec = {"name": "windowed-of-a-test", "args": {}}
    image = np.random.default_rng(0).random((13, 9, 3), np.float32)
    for given in ({"pad_to": 8}, {}):
        model = liif_fast.LIIF(spec, IMNET, **given)
        assert ("pad_to" in model.spec["args"]) == bool(given)
        for i, save in enumerate((checkpoints.save, checkpoints.save_official)):
            save(model, tmp_path / f"{i}{len(given)}")
            again = liif_fast.load(tmp_path / f"{i}{len(given)}")
            assert again.pad_to == (8 if given else 1)
            if given:
                assert np.array_equal(again.upscale(image, scale=2), model.upscale(image, scale=2))
            assert model.state_dict().keys() == again.state_dict().keys()


class Sized(nn.Module):
    """Any size of map for an image."""

    out_dim = 3

    def __init__(self, size) -> None:
        super().__init__()
        self.size = size

    def forward(self, x):
        return nn.functional.interpolate(x, self.size(*x.shape[2:]))


@pytest.mark.parametrize("size", [
    lambda h, w: (h + 7, w + 6), lambda h, w: (2 * h, 3 * w), lambda h, w: (h, 2 * w), lambda h, w: (h + 9, w + 9),
    lambda h, w: (h - 2, w - 2), lambda h, w: (h // 2, w // 3),
])  # fmt: skip
def test_a_map_that_does_not_fit_is_refused(size):
    model = liif_fast.LIIF(Sized(size), IMNET)
    image = torch.rand(1, 3, 18, 18)
    calls = (
        lambda: model.gen_feat(image),
        lambda: model.render(image, (36, 36)),
        lambda: model.upscale(image, scale=2),
        lambda: model.quantize(image),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"Sized returned features of .*for an image of 18x18: .*pad_to"):
            call()


@pytest.mark.parametrize(("size", "map_size"), [
    (lambda h, w: (2 * h, 2 * w), (36, 24)), (lambda h, w: (h // 3, w // 3), (6, 4)), (lambda h, w: (h, w), (18, 12)),
])  # fmt: skip
def test_one_factor_for_both_sides_is_taken(size, map_size):
    model = liif_fast.LIIF(Sized(size), IMNET)
    image = torch.rand(1, 3, 18, 12)
    assert model.gen_feat(image).shape[2:] == map_size
    assert model.upscale(image, scale=2).shape == (1, 3, 36, 24)
    # with windows: the factor holds for the part that is left
    padded = liif_fast.LIIF(Sized(size), IMNET, pad_to=15)
    assert padded.gen_feat(image).shape[2:] == map_size


def test_a_map_cut_inside_a_pixel_and_tiles_of_another_size_are_refused():
    half = liif_fast.LIIF(Sized(lambda h, w: (h // 2, w // 2)), IMNET, pad_to=2)
    with pytest.raises(ValueError, match=r"inp: Sized reduces the image by 2, .*got 9x8"):
        half.gen_feat(torch.rand(1, 3, 9, 8))
    half.encoder.receptive_field = 2
    with pytest.raises(ValueError, match="inp: this model's encoder changes the size"):
        half.upscale(torch.rand(1, 3, 80, 80), scale=2, tile=32)
    with pytest.raises(ValueError, match=r"Flat must return a tensor \[B, C, H, W\], got \[1, 3\]"):
        liif_fast.LIIF(Flat(), IMNET).gen_feat(torch.rand(1, 3, 8, 8))


class Flat(nn.Module):
    out_dim = 3

    def forward(self, x):
        return x.mean((2, 3))
