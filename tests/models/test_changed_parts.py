"""What reads a layer's numbers instead of calling it, beside the fold: tiles of a changed encoder, 8-bit weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import liif_fast
from liif_fast.models import tile_size, tiles

IMNET = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16, 16]}}


def encoder(name="edsr-baseline", **args):
    args = {"n_resblocks": 2, "n_feats": 4, "no_upsampling": True} if name == "edsr-baseline" else args
    return liif_fast.make({"name": name, "args": args}).eval()


class Average(nn.Module):
    """Sees the whole image."""

    def forward(self, x):
        return x + x.mean((2, 3), keepdim=True)


class Normal(nn.ReLU):
    def forward(self, x):
        return x / x.std((2, 3), keepdim=True)


def wide(m):
    m.head[0] = nn.Conv2d(3, 4, 7, padding=3)


def hooked(m):
    m.body[0].register_forward_hook(lambda module, args, out: out - out.amax((2, 3), keepdim=True))


def replaced(m):
    m.forward = lambda x, f=m.forward: f(x) - f(x).mean((2, 3), keepdim=True)


def block(m):
    m.body[1].forward = lambda x, f=m.body[1].forward: f(x).flip(3)


def dilated(m):
    m.body[0].body[0] = nn.Conv2d(4, 4, 3, padding=2, dilation=2)


def circular(m):
    m.body[0].body[0] = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")


CHANGES = {
    "attention": (lambda m: m.body.insert(1, Average()), None),
    "activation": (lambda m: m.body[0].body.__setitem__(1, Normal()), None),
    "pointwise": (lambda m: m.body[0].body.__setitem__(1, nn.GELU()), 6),
    "kernel": (wide, 8),
    "dilation": (dilated, 7),
    "circular": (circular, None),
    "hook": (hooked, None),
    "forward": (replaced, None),
    "forward of a block": (block, None),
    "block": (lambda m: m.body.insert(0, copy.deepcopy(m.body[0])), 8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_tiles_of_a_changed_encoder(change):
    """Exact with the halo that it needs now; where that is not known, none."""
    model = liif_fast.LIIF(encoder(), IMNET).eval()
    assert tile_size.halo(model) == 7
    apply, radius = CHANGES[change]
    apply(model.encoder)
    assert model.encoder.receptive_field == radius
    image = torch.rand(3, 40, 36)
    whole = model.upscale(image, scale=2, tile=0)
    if radius is None:
        with pytest.raises(ValueError, match=r"sees the whole image .*use tile=0"):
            model.upscale(image, scale=2, tile=8)
    else:
        # float32: the same sums, of other blocks
        assert_close(model.upscale(image, scale=2, tile=8), whole, rtol=0, atol=2e-6)
    assert_close(model.upscale(image, scale=2), whole, rtol=0, atol=2e-6)


def test_a_changed_dense_block():
    model = encoder("rdn", G0=4, no_upsampling=True)
    assert model.receptive_field == 131
    model.RDBs[3].convs[0].conv[0] = nn.Conv2d(4, 64, 5, padding=2)
    assert model.receptive_field == 132
    model.RDBs[3].forward = lambda x: x
    assert model.receptive_field is None


def shared(imnet):
    imnet.layers[4] = imnet.layers[2]


def shared_parameter(imnet):
    imnet.layers[4].weight = imnet.layers[2].weight


def normalised(imnet):
    nn.utils.parametrizations.weight_norm(imnet.layers[2])


def without_bias(imnet):
    imnet.layers[2] = nn.Linear(16, 16, bias=False)


@pytest.mark.parametrize("change", [shared, shared_parameter, normalised, without_bias])
def test_8_bit_copies_of_changed_layers(tiny, change):
    """Calibrating reorders units; layers whose numbers cannot be written one by one stay as they are."""
    model, image = tiny([16, 16, 16]).eval(), torch.rand(3, 20, 18)
    change(model.imnet)
    want, got = (m.upscale(image, scale=2) for m in (model, model.quantize(image)))
    # 8-bit steps in three layers: a hundredth of the range; with units mixed up it would be a tenth
    assert (got - want).abs().mean() < 0.01 * (want.max() - want.min())


def test_8_bit_layers_of_another_function_are_refused(tiny):
    model = tiny()
    model.imnet.layers[1] = nn.GELU()
    for act in (model.quantize, lambda: model.upscale(torch.rand(3, 5, 5), scale=2, dtype=torch.int8)):
        with pytest.raises(ValueError, match=r"^(quantize|dtype: int8): 8-bit layers are for liif_fast's own MLP"):
            act()


def test_out_of_memory_without_tiles(tiny, monkeypatch):
    """Where there are no exact tiles, none are tried: the error that came is the one that is told."""
    model = tiny()
    model.imnet.layers[1] = nn.GELU()

    def full(*args):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(tiles, "_upscale_tile", full)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        model.upscale(torch.rand(3, 64, 64), scale=2)
