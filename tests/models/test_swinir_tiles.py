"""How far a pixel of SwinIR sees, exactly, and tiles that are the whole."""

from __future__ import annotations

import pytest
import torch
from small_encoders import make
from swinir_weights import SMALL, fill, picture
from torch import nn

import liif_fast
from liif_fast.models import tile_size, tiles

NARROW = {**SMALL, "embed_dim": 4, "num_heads": [1, 1]}
CASES = [
    (NARROW, 23),
    ({**NARROW, "depths": [1, 3], "resi_connection": "3conv", "window_size": 4}, 17),
    ({**NARROW, "depths": [3, 1], "window_size": 7, "img_size": 14}, None),
    ({**NARROW, "depths": [1], "num_heads": [1], "window_size": 1}, 4),
]


def farthest(encoder, axis):
    """How far the change of one pixel is seen, over all its places in a window, in float64.

    The image is black and there are no biases, so that all maps are 0 and every change is seen, however small. What the
    mask lets through, e^-100 = 4e-44, does not count.
    """
    encoder = fill(encoder.double()).eval()
    side, far = encoder.window_size, 0
    n = -(-(4 * encoder.receptive_field + 20) // side) * side
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if p.ndim == 1 and name.endswith("bias"):
                p.zero_()
        for pixel in range(n // 2 // side * side, n // 2 // side * side + side):
            x = torch.zeros(1, 3, n, side, dtype=torch.float64)
            x[:, :, pixel] = picture(1, side)[:, :, 0]
            y = encoder(x if axis == 0 else x.transpose(2, 3)).abs().amax(1)[0].amax(1 - axis)
            seen = (y > 1e-30 * y.max()).nonzero().flatten()
            far = max(far, pixel - seen.min().item(), seen.max().item() - pixel)
    return far


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("args", "radius"), CASES)
def test_receptive_field_is_right_and_tight(args, radius, axis):
    encoder = make("swinir", **args)
    assert radius in (None, encoder.receptive_field)
    assert farthest(encoder, axis) == encoder.receptive_field


def test_receptive_field_of_the_official_size():
    with torch.device("meta"):
        assert make("swinir").receptive_field == 151


def swap(path, module):
    return lambda encoder: encoder.set_submodule(path, module)


BLOCK = "layers.1.residual_group.blocks.0"
CHANGES = {
    "a hook": lambda encoder: encoder.get_submodule(BLOCK).attn.proj.register_forward_hook(lambda m, x, y: y),
    "a method": lambda encoder: setattr(encoder.layers[0], "forward", lambda x, edges: x),
    "a layer": swap(f"{BLOCK}.mlp", nn.AdaptiveAvgPool2d(1)),
    "a norm": swap(f"{BLOCK}.norm1", nn.LayerNorm([16, 16, 4])),
    "a norm of all": swap("norm", nn.LayerNorm([16, 16, 4])),
    "a block": swap(BLOCK, nn.Identity()),
    "a group": swap("layers.0", nn.Identity()),
    "a convolution": swap("layers.0.conv", nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")),
    "an embedding": swap("patch_embed", nn.Identity()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_receptive_field_with_what_may_see_further(change):
    encoder = make("swinir", **NARROW)
    CHANGES[change](encoder)
    assert encoder.receptive_field is None


def test_a_convolution_that_sees_further_counts():
    encoder = make("swinir", **NARROW)
    encoder.conv_first = nn.Conv2d(3, 4, 7, padding=3)
    assert encoder.receptive_field == 23 + 2
    encoder.get_submodule(BLOCK).mlp = nn.Linear(4, 4)
    assert encoder.receptive_field == 23 + 2


@pytest.fixture
def model():
    encoder = fill(make("swinir", **NARROW))
    return liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}}).eval()


@pytest.mark.parametrize("size", [(61, 35), (3, 130), (97, 90)])
def test_tiles_are_the_whole(model, size):
    image = (picture(*size).float() + 1) / 2
    whole = model.upscale(image, scale=1.7, tile=0)
    assert (whole - model.upscale(image, scale=1.7, tile=32)).abs().max() <= 1e-5  # rounding of float32
    tiled = torch.empty_like(whole)
    with torch.no_grad():
        tiles.upscale(model, image, tiled, tile=9, dtype=torch.float32)
    assert (whole - tiled).abs().max() <= 1e-5


def test_a_smaller_halo_would_show(model, monkeypatch):
    """Two windows less, since tiles begin and end with windows: what is one pixel too small is rounded up by most."""
    image = (picture(16, 190).float() + 1) / 2
    model = model.double()
    spread = []
    for halo in (tile_size.halo(model), 8):
        monkeypatch.setattr(tiles, "halo", lambda _, halo=halo: halo)
        whole, tiled = torch.empty(1, 3, 16, 190, dtype=torch.float64), torch.empty(1, 3, 16, 190, dtype=torch.float64)
        with torch.no_grad():
            tiles.upscale(model, image.double(), whole, tile=0, dtype=torch.float64)
            tiles.upscale(model, image.double(), tiled, tile=9, dtype=torch.float64)
        spread.append((whole - tiled).abs().max().item())
    assert spread[0] <= 1e-6  # coordinates are of float32
    assert spread[1] > 1e-4
