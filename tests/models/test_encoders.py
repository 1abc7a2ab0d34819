"""Encoders: the forward by hand, initial weights, gradients, precisions, compilation, errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_encoders import RDN, STEPS, TINY, make
from torch.testing import assert_close

from liif_fast.models.encoders import rdn


@pytest.fixture(autouse=True)
def _tiny_rdn(monkeypatch):
    monkeypatch.setitem(rdn._CONFIGS, "tiny", RDN["tiny"])


# --- the forward, by hand from the state dict in float64 ------------------------------------------------------------


class Convs:
    """``convs(key, x)``: the convolution of that key, or with ``shuffle=r`` the sub-pixel upsampling by r."""

    def __init__(self, module):
        self.state = {key: t.detach() for key, t in module.state_dict().items()}

    def __call__(self, key, x, shuffle=1):
        w = self.state[key + ".weight"]
        y = F.conv2d(x, w, self.state[key + ".bias"], padding=(w.shape[-1] - 1) // 2)
        b, c, h, w = y.shape
        r = shuffle
        y = y.reshape(b, c // (r * r), r, r, h, w).permute(0, 1, 4, 2, 5, 3)  # [B, C/r², H, r, W, r]
        return y.reshape(b, c // (r * r), h * r, w * r)


def end_by_hand(conv, x, scale, prefix, last):
    for i, r in enumerate(STEPS[scale]):
        x = conv(f"{prefix}{2 * i}", x, r)
    return conv(last, x)


def edsr_by_hand(conv, x, blocks, res_scale):
    head = conv("head.0", x)
    y = head
    for b in range(blocks):
        y = y + res_scale * conv(f"body.{b}.body.2", conv(f"body.{b}.body.0", y).clamp(min=0))
    return head + conv(f"body.{blocks}", y)


def rcan_by_hand(conv, x, groups, blocks):
    head = conv("head.0", x)
    y = head
    for g in range(groups):
        z = y
        for b in range(blocks):
            at = f"body.{g}.body.{b}.body."
            res = conv(at + "2", conv(at + "0", z).clamp(min=0))
            mean = res.mean((2, 3), keepdim=True)
            logit = conv(at + "3.conv_du.2", conv(at + "3.conv_du.0", mean).clamp(min=0))
            z = z + res / (1 + torch.exp(-logit))
        y = y + conv(f"body.{g}.body.{blocks}", z)
    return head + conv(f"body.{groups}", y)


def rdn_by_hand(conv, x, config):
    blocks, layers, _ = RDN[config]
    shallow = conv("SFENet1", x)
    y, outputs = conv("SFENet2", shallow), []
    for b in range(blocks):
        parts = [y]
        for c in range(layers):
            parts.append(conv(f"RDBs.{b}.convs.{c}.conv.0", torch.cat(parts, 1)).clamp(min=0))
        y = y + conv(f"RDBs.{b}.LFF", torch.cat(parts, 1))
        outputs.append(y)
    return shallow + conv("GFF.1", conv("GFF.0", torch.cat(outputs, 1)))


def by_hand(name, encoder, x, scale, config="tiny"):
    """The encoders of ``TINY`` recomputed; ``scale`` None: without upsampling."""
    conv = Convs(encoder)
    if name == "rdn":
        y = rdn_by_hand(conv, x, config)
        return y if scale is None else end_by_hand(conv, y, scale, "UPNet.", f"UPNet.{2 * len(STEPS[scale])}")
    y = rcan_by_hand(conv, x, 2, 2) if name == "rcan" else edsr_by_hand(conv, x, 3, 0.3)
    return y if scale is None else end_by_hand(conv, y, scale, "tail.0.", "tail.1")


def tiny_encoder(name, scale=None, dtype=torch.float64, **args):
    end = {"no_upsampling": True} if scale is None else {"scale": scale}
    return make(name, **{**TINY[name], **end, **args}).to(dtype)


CASES = [(name, scale, {}) for name in TINY for scale in (None, 2, 3, 4)]
CASES += [("edsr-baseline", 1, {}), ("rcan", 1, {}), ("rdn", None, {"config": "A"}), ("rdn", None, {"config": "B"})]


@pytest.mark.parametrize(("name", "scale", "config"), CASES)
def test_forward_by_hand(name, scale, config):
    encoder = tiny_encoder(name, scale, **{f"RDN{key}": value for key, value in config.items()})
    x = torch.rand(2, 3, 7, 5, dtype=torch.float64) * 2 - 1
    before = x.clone()
    with torch.no_grad():
        got, want = encoder(x), by_hand(name, encoder, x, scale, **config)
    assert got.shape == (2, encoder.out_dim, 7 * (scale or 1), 5 * (scale or 1))
    # the same operations in float64: 1e-16 times the depth of the sums (some thousand products)
    assert_close(got, want, rtol=1e-12, atol=1e-13)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", TINY)
def test_initial_weights_follow_the_seed_in_the_official_order(name):
    """The official programs make each convolution in the order of its state dict, but RCAN's add_mean after its body.
    Every convolution is torch's default: same seed, same weights."""
    torch.manual_seed(3)
    state = tiny_encoder(name, dtype=torch.float32).state_dict()
    keys = [key.removesuffix(".weight") for key in state if key.endswith(".weight")]
    if name == "rcan":
        keys.append(keys.pop(keys.index("add_mean")))
    torch.manual_seed(3)
    for key in keys:
        n_out, n_in, k, _ = state[key + ".weight"].shape
        conv = torch.nn.Conv2d(n_in, n_out, k)
        if "_mean" not in key:
            assert torch.equal(conv.weight, state[key + ".weight"]), key
            assert torch.equal(conv.bias, state[key + ".bias"]), key


@pytest.mark.parametrize("name", ["edsr-baseline", "rcan"])
def test_mean_colour_is_kept_but_not_applied(name):
    encoder = tiny_encoder(name, dtype=torch.float32, rgb_range=255)
    x = torch.rand(1, 3, 4, 4)
    before = encoder(x)
    for shift, sign in ((encoder.sub_mean, -1), (encoder.add_mean, 1)):
        # one rounding of float32
        assert_close(shift.bias, sign * 255 * torch.tensor([0.4488, 0.4371, 0.4040]), rtol=1e-6, atol=0)
        assert torch.equal(shift.weight[:, :, 0, 0], torch.eye(3))
        assert not any(p.requires_grad for p in shift.parameters())
        shift.bias.fill_(7)
    assert torch.equal(encoder(x), before)


@pytest.mark.parametrize("name", TINY)
def test_no_receptive_field_with_upsampling(name):
    assert tiny_encoder(name, 2).receptive_field is None


# --- training and faster inference ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [None, 2])
@pytest.mark.parametrize("name", TINY)
def test_gradients_reach_every_parameter(name, scale):
    encoder = tiny_encoder(name, scale)
    with torch.no_grad():
        for key, p in encoder.named_parameters():
            if key.endswith("conv_du.0.bias"):
                p.fill_(1)  # two channels behind a ReLU are dead by chance else
    x = torch.rand(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    encoder(x).square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.ne(0).all()
    for key, p in encoder.named_parameters():
        if "_mean." in key:
            assert p.grad is None, key
        else:
            assert p.grad.isfinite().all(), key
            assert p.grad.any(), key


@pytest.mark.parametrize("scale", [None, 3])
@pytest.mark.parametrize("name", TINY)
def test_channels_last(name, scale):
    encoder = tiny_encoder(name, scale)
    x = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        want = encoder(x)
        got = encoder.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert want.is_contiguous()
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert_close(got, want, rtol=1e-12, atol=1e-13)  # the same sums in another order


@pytest.mark.parametrize("how", ["autocast", "to"])
@pytest.mark.parametrize("name", TINY)
def test_bfloat16(name, how):
    encoder = tiny_encoder(name, dtype=torch.float32)
    x = torch.rand(1, 3, 9, 8) * 2 - 1
    with torch.no_grad():
        want = encoder(x)
        if how == "to":
            got = encoder.to(torch.bfloat16)(x.bfloat16())
        else:
            with torch.autocast("cpu", torch.bfloat16):
                got = encoder(x)
    assert got.dtype == torch.bfloat16
    # each of the roundings on the residual path is 2^-9 of the value; 8 of them in a row, against the range
    assert (got.float() - want).abs().max() <= 8 * 2**-9 * want.abs().max()


@pytest.mark.parametrize("scale", [None, 2])
@pytest.mark.parametrize("name", TINY)
def test_compiles_as_one_graph(name, scale):
    encoder = tiny_encoder(name, scale)
    x = torch.rand(1, 3, 6, 7, dtype=torch.float64)
    # without code generation: what can break a graph is the tracing, forward and backward
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    grads = []
    for module in (encoder, compiled):
        y = module(x)
        grads.append((y, *torch.autograd.grad(y.sum(), [p for p in encoder.parameters() if p.requires_grad])))
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=1e-10, atol=1e-12)  # the same operations; sums of a gradient in another order
    torch.compiler.reset()


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("rdn", {"RDNconfig": "C"}, "RDNconfig: 'A' or 'B' is wanted, got 'C'"),
        ("rdn", {"RDNkSize": 4}, "RDNkSize: an odd number is wanted.*got 4"),
        ("rdn", {"scale": 5}, "scale: 2, 3 or 4 is wanted, got 5"),
        ("edsr-baseline", {"n_resblocks": 1, "scale": 6}, "scale: a power of two or 3 is wanted, got 6"),
        ("rcan", {**TINY["rcan"], "scale": 5}, "scale: a power of two or 3 is wanted, got 5"),
        ("rcan", {"n_feats": 8, "reduction": 16}, "reduction: a number from 1 to n_feats = 8 is wanted, got 16"),
    ],
)
def test_bad_arguments(name, args, message):
    with pytest.raises(ValueError, match=message):
        make(name, **args)


@pytest.mark.parametrize("name", ["edsr-baseline", "edsr"])
def test_an_unknown_argument_names_the_function(name):
    with pytest.raises(TypeError, match=f"make_{name.replace('-', '_')}.*depth"):
        make(name, depth=3)
