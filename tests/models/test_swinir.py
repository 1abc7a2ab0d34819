"""SwinIR: the official numbers and draws, any size, layouts and precisions, compilation."""

from __future__ import annotations

import copy

import pytest
import torch
from small_encoders import make
from swinir_weights import SMALL, fill, picture, weighted
from torch import nn
from torch.testing import assert_close

import liif_fast
from liif_fast.models import padding
from liif_fast.models.encoders import swinir_blocks

OTHER = {
    **{"resi_connection": "3conv", "qkv_bias": False, "patch_norm": False, "window_size": 4},
    **{"qk_scale": 0.2, "mlp_ratio": 1.5},
}
TABLE = "layers.0.residual_group.blocks.1.attn.relative_position_bias_table"
# By the official code (LTE's repository at a8815d6) in float64, the image padded by ``padding.padded`` and the map cut:
# ``weighted`` of the map, its largest value; with the loss (map ** 2).sum() ``weighted`` of the image's gradient, the
# sum of that of all parameters, that of one bias table.
OFFICIAL = [
    ({}, (16, 24), [-7.7103139903918, 1.4159458979727, -1209.6712575864, 8402.352634572, -2.1387763382859]),
    ({}, (50, 41), [0.6306936573787, 1.801175417731, 1056.3791101783, 51706.701469908, -10.2440716882]),
    ({}, (3, 5), [-1.0639857253765, 1.0400258607947, -480.56239363777, -2009.0964986639, 1.5884848795801]),
    (OTHER, (16, 24), [-3.8129027176442, 1.261933441586, -1681.1020148965, 9982.3536715304, -32.033054257554]),
    (OTHER, (50, 41), [-10.593399852571, 1.4818885009303, -496.20857523036, 85292.697543757, -133.04997607858]),
    (OTHER, (3, 5), [4.846177020805, 0.78215824249925, -52.16826643188, 413.7510731495, -1.5760683214289]),
]


def small(dtype=torch.float64, **args):
    return fill(make("swinir", **{**SMALL, **args}).to(dtype)).eval()


@pytest.mark.parametrize(("args", "size", "want"), OFFICIAL)
def test_the_official_numbers(args, size, want):
    encoder, x = small(**args), picture(*size).requires_grad_()
    y = encoder(x)
    (y * y).sum().backward()
    grads = {name: weighted(p.grad) for name, p in encoder.named_parameters()}
    got = [weighted(y), y.abs().max().item(), weighted(x.grad), sum(grads.values()), grads[TABLE]]
    # written with 14 digits; float64 rounding in sums of some 1e5 numbers of both signs
    assert got == pytest.approx(want, rel=1e-9)
    with torch.no_grad():  # torch's attention has other kernels without gradients
        assert_close(encoder(x), y, rtol=1e-11, atol=1e-11)
        single = encoder.float()(x.float())
    assert (single - y).abs().max() <= 1e-6 * y.abs().max()


# --- training -------------------------------------------------------------------------------------------------------


def test_stochastic_depth_draws_as_timm_does():
    """Of each block with a rate one number a sample for the attention, then for the MLP; no other draw."""
    encoder = small(drop_path_rate=0.6).train()
    factors = []
    for module in encoder.modules():
        if isinstance(module, swinir_blocks.DropPath):
            module.register_forward_hook(lambda m, x, y: factors.append((y / x[0]).flatten(1).nanmedian(1).values))
    torch.manual_seed(5)
    encoder(picture(16, 16).repeat(6, 1, 1, 1))
    after = torch.rand(1)
    torch.manual_seed(5)
    assert len(factors) == 6
    for i, factor in enumerate(factors):
        keep = 1 - 0.6 * (i // 2 + 1) / 3
        want = torch.empty(6, dtype=torch.float64).bernoulli_(keep) / keep
        assert_close(factor, want, rtol=1e-6, atol=0)  # the rates are of float32
    assert torch.equal(after, torch.rand(1))


def test_dropout_of_attention_has_the_official_order_of_windows():
    """Then all windows are computed with their own mask; a rate of almost nothing drops nothing."""
    x = torch.cat([picture(24, 17), picture(24, 17).flip(3)])
    rates = {"drop_path_rate": 0.0, "attn_drop_rate": 1e-13}
    assert_close(small(**rates).train()(x), small()(x), rtol=1e-10, atol=1e-11)
    masks = []
    encoder = small(**rates).train()
    encoder.layers[0].residual_group.blocks[1].attn.register_forward_hook(lambda m, given, y: masks.append(given[1]))
    encoder(x)
    assert masks[0].shape == (2 * 9, 2, 64, 64)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients(checkpointed):
    encoder = make("swinir", **{**SMALL, "depths": [1, 2], "use_checkpoint": checkpointed}, drop_path_rate=0.3)
    encoder = fill(encoder.double()).train()
    x = picture(9, 4).repeat(4, 1, 1, 1).requires_grad_()  # some of which are dropped

    def loss(image):
        torch.manual_seed(2)
        return (encoder(image) ** 2).sum()

    loss(x).backward()
    assert x.grad.ne(0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in encoder.parameters())
    with torch.no_grad():
        for at in ((0, 0, 2, 1), (0, 2, 8, 3)):
            step = torch.zeros_like(x)
            step[at] = 1e-6
            slope = (loss(x + step) - loss(x - step)) / 2e-6
            assert slope == pytest.approx(x.grad[at].item(), rel=1e-5)  # of the difference: 1e-16 / 1e-6 and a square


# --- any size, layout, precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (50, 41), (3, 5), (1, 9)])
def test_any_size_is_padded_and_cut(size):
    encoder, x = small(), picture(*size)
    with torch.no_grad():
        want = encoder(padding.padded(x, 8))[:, :, : size[0], : size[1]]
        assert torch.equal(encoder(x), want)
        model = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}}).double()
        assert model.pad_to == 8
        assert torch.equal(model.gen_feat(x), want)


def test_memory_of_masks(monkeypatch):
    """No tensor holds a mask for every window: that would be 8 times the tokens of a large image."""
    sizes = []
    original = nn.functional.scaled_dot_product_attention

    def look(q, k, v, attn_mask, **others):
        sizes.append(attn_mask.untyped_storage().nbytes() // attn_mask.element_size())
        return original(q, k, v, attn_mask=attn_mask, **others)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", look)
    with torch.no_grad():
        small()(picture(40, 48))
    assert len(sizes) == 2 * (1 + 4)
    assert max(sizes) == 2 * 64 * 64  # one for each head


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last(batch):
    encoder, x = small(), picture(11, 16).repeat(batch, 1, 1, 1)
    last = torch.channels_last
    with torch.no_grad():
        got = copy.deepcopy(encoder).to(memory_format=last)(x.to(memory_format=last))
        assert_close(got, encoder(x), rtol=1e-11, atol=1e-12)  # the same sums in another order


@pytest.mark.parametrize("how", ["autocast", "to"])
def test_bfloat16(how):
    encoder, x = small(torch.float32), picture(16, 19).float()
    with torch.no_grad():
        want = encoder(x)
        if how == "to":
            got = encoder.to(torch.bfloat16)(x.bfloat16())
        else:
            with torch.autocast("cpu", torch.bfloat16):
                got = encoder(x)
    assert got.dtype == torch.bfloat16
    # roundings of 2^-9 on the residual path: 16 in a row, against the range
    assert (got.float() - want).abs().max() <= 16 * 2**-9 * want.abs().max()


def test_masks_have_code_generated():
    """Of comparisons between booleans torch 2.13 makes none."""
    like = torch.empty(0)
    compiled = torch.compile(swinir_blocks.edge_masks, fullgraph=True)
    assert torch.equal(compiled(8, 4, like), swinir_blocks.edge_masks(8, 4, like))
    torch.compiler.reset()


def test_compiles_as_one_graph():
    encoder, x = small(), picture(11, 16)
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    grads = []
    for module in (encoder, compiled):
        y = module(x)
        grads.append((y, *torch.autograd.grad(y.sum(), list(encoder.parameters()))))
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-10)
    with torch.no_grad():
        assert_close(compiled(x), grads[0][0], rtol=1e-10, atol=1e-11)
    torch.compiler.reset()


def test_saved_and_loaded(tmp_path):
    spec = {"name": "swinir", "args": {"no_upsampling": True, **SMALL}}
    model = liif_fast.LIIF(spec, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}}).eval()
    model.save(tmp_path / "m.safetensors")
    again, x = liif_fast.load(tmp_path / "m.safetensors"), picture(9, 10).float()
    assert torch.equal(again.upscale(x.abs(), scale=2), model.upscale(x.abs(), scale=2))
    assert torch.equal(again.gen_feat(x), model.gen_feat(x))
