"""SwinIR's state dict, initial weights and arguments: those of LTE's repository."""

from __future__ import annotations

import pytest
import torch
from small_encoders import make
from swinir_weights import SMALL
from torch import nn


def block_keys(at, dim, heads, hidden, tokens, mask):
    entries = [(f"{at}attn_mask", mask)] if mask else []
    entries += [(f"{at}norm1.weight", (dim,)), (f"{at}norm1.bias", (dim,))]
    entries += [(f"{at}attn.relative_position_bias_table", (225, heads))]
    entries += [(f"{at}attn.relative_position_index", (tokens, tokens))]
    for name, n_out, n_in in (("attn.qkv", 3 * dim, dim), ("attn.proj", dim, dim)):
        entries += [(f"{at}{name}.weight", (n_out, n_in)), (f"{at}{name}.bias", (n_out,))]
    entries += [(f"{at}norm2.weight", (dim,)), (f"{at}norm2.bias", (dim,))]
    for name, n_out, n_in in (("mlp.fc1", hidden, dim), ("mlp.fc2", dim, hidden)):
        entries += [(f"{at}{name}.weight", (n_out, n_in)), (f"{at}{name}.bias", (n_out,))]
    return entries


def test_state_dict():
    """Of the official checkpoints: 544 tensors with the masks and the positions."""

    def conv(name, n_out, n_in):
        return [(f"{name}.weight", (n_out, n_in, 3, 3)), (f"{name}.bias", (n_out,))]

    want = [*conv("conv_first", 180, 3), ("patch_embed.norm.weight", (180,)), ("patch_embed.norm.bias", (180,))]
    for layer in range(6):
        for b in range(6):
            at, mask = f"layers.{layer}.residual_group.blocks.{b}.", (36, 64, 64) if b % 2 else None
            want += block_keys(at, 180, 6, 360, 64, mask)
        want += conv(f"layers.{layer}.conv", 180, 180)
    want += [("norm.weight", (180,)), ("norm.bias", (180,))]
    want += conv("conv_after_body", 180, 180) + conv("conv_before_upsample.0", 64, 180)
    with torch.device("meta"):
        encoder = make("swinir", no_upsampling=True)
    assert [(key, tuple(t.shape)) for key, t in encoder.state_dict().items()] == want
    assert len(want) == 544
    assert sum(p.numel() for p in encoder.parameters()) == 11_603_044
    assert (encoder.out_dim, encoder.pad_to, encoder.in_channels) == (64, 8, 3)


def test_buffers_are_the_official_ones():
    """The mask by the official rule: regions of the shifted image, -100 between pixels of different ones."""
    encoder = make("swinir", **{**SMALL, "img_size": [16, 24]})
    block = encoder.layers[0].residual_group.blocks[1]
    region = torch.zeros(16, 24)
    for i, rows in enumerate((slice(0, -8), slice(-8, -4), slice(-4, None))):
        for j, cols in enumerate((slice(0, -8), slice(-8, -4), slice(-4, None))):
            region[rows, cols] = 3 * i + j
    region = region.view(2, 8, 3, 8).transpose(1, 2).reshape(6, 64)
    assert torch.equal(block.attn_mask == -100, region[:, :, None] != region[:, None])
    assert set(block.attn_mask.unique().tolist()) == {0, -100}
    index = block.attn.relative_position_index
    assert index.dtype == torch.int64
    assert [index[0, 0], index[0, 63], index[63, 0], index[1, 0], index[8, 0]] == [112, 0, 224, 113, 127]


def test_initial_weights_follow_the_seed_in_the_official_order():
    torch.manual_seed(3)
    state = make("swinir", **SMALL).state_dict()
    torch.manual_seed(3)
    linear = []

    def conv(name, n_out, n_in):
        layer = nn.Conv2d(n_in, n_out, 3)
        assert torch.equal(state[f"{name}.weight"], layer.weight), name
        assert torch.equal(state[f"{name}.bias"], layer.bias), name

    conv("conv_first", 12, 3)
    for layer in (0, 1):
        for b in (0, 1):
            at = f"layers.{layer}.residual_group.blocks.{b}."
            linear += [(f"{at}attn.qkv", nn.Linear(12, 36)), (f"{at}attn.proj", nn.Linear(12, 12))]
            table = nn.init.trunc_normal_(torch.zeros(225, 2), std=0.02)
            assert torch.equal(state[f"{at}attn.relative_position_bias_table"], table)
            linear += [(f"{at}mlp.fc1", nn.Linear(12, 24)), (f"{at}mlp.fc2", nn.Linear(24, 12))]
        conv(f"layers.{layer}.conv", 12, 12)
    conv("conv_after_body", 12, 12)
    conv("conv_before_upsample.0", 64, 12)
    for name, module in linear:  # at last, in place of torch's own
        weight = nn.init.trunc_normal_(torch.empty_like(module.weight), std=0.02)
        assert torch.equal(state[f"{name}.weight"], weight), name
        assert not state[f"{name}.bias"].any()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"no_upsampling": False}, "no_upsampling: True only, got False: this SwinIR has no upsampling end"),
        ({"ape": True}, "ape: False only, as positions"),
        ({"upsampler": "pixelshuffle"}, "upsampler: 'none' only, as .*; got 'pixelshuffle'"),
        ({"patch_size": 4}, "patch_size: 1 only"),
        ({"upscale": 4}, "upscale: 2 only"),
        ({"img_range": 255.0}, "img_range: 1.0 only"),
        ({"resi_connection": "2conv"}, "resi_connection: '1conv' or '3conv' is wanted, got '2conv'"),
        ({"embed_dim": 0}, "embed_dim: a positive whole number is wanted, got 0"),
        ({"window_size": 8.0}, "window_size: a positive whole number is wanted, got 8.0"),
        ({"window_size": 33, "img_size": 66}, "window_size: at most 32 is wanted, got 33"),
        ({"depths": 6}, "depths: a list of positive whole numbers is wanted, got 6"),
        ({"num_heads": [2, True]}, "num_heads: a list of positive whole numbers"),
        ({"drop_path_rate": 2}, "drop_path_rate: a number from 0 to 1 is wanted, got 2"),
        ({"attn_drop_rate": -0.1}, "attn_drop_rate: a number from 0 to 1 is wanted, got -0.1"),
        ({"drop_rate": True}, "drop_rate: a number from 0 to 1 is wanted, got True"),
        ({"num_heads": [2]}, "num_heads: one number for each of the 2 depths is wanted, got 1"),
        ({"num_heads": [2, 5]}, "num_heads: divisors of embed_dim = 12 are wanted, got 5"),
        ({"img_size": 8}, "img_size: a multiple of window_size = 8, and larger, is wanted"),
        ({"img_size": 50}, "img_size: a multiple of window_size = 8, and larger, is wanted.*got 50"),
    ],
)
def test_bad_arguments(args, message):
    with pytest.raises(ValueError, match=message):
        make("swinir", **{**SMALL, **args})


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="SwinIR has no argument 'depth'"):
        make("swinir", depth=3)
    same = {
        "ape": False,
        "upsampler": "none",
        "patch_size": 1,
        "upscale": 2,
        "img_range": 1,
        "norm_layer": nn.LayerNorm,
    }
    make("swinir", **SMALL, **same)
