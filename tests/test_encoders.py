"""Encoders and MLP: state dicts, sizes and numbers of the official registry."""

from __future__ import annotations

import inspect
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import liif_fast
from liif_fast import registry
from liif_fast.models.encoders import rdn

# blocks, convolutions in each, growth: A and B as in the RDN paper, tiny for what does not depend on the size
RDN = {"A": (20, 6, 32), "B": (16, 8, 64), "tiny": (2, 3, 4)}
TINY = {
    "edsr-baseline": {"n_resblocks": 3, "n_feats": 8, "res_scale": 0.3},
    "rdn": {"G0": 8, "RDNconfig": "tiny", "RDNkSize": 5},
    "rcan": {"n_resgroups": 2, "n_resblocks": 2, "n_feats": 8, "reduction": 4},
}
STEPS = {1: [], 2: [2], 3: [3], 4: [2, 2]}  # the PixelShuffles that make a scale


@pytest.fixture(autouse=True)
def _tiny_rdn(monkeypatch):
    monkeypatch.setitem(rdn._CONFIGS, "tiny", RDN["tiny"])


def make(name, **args):
    return liif_fast.make({"name": name, "args": args})


# --- state dicts by rule: lists of (prefix, outputs, inputs, kernel size) -----------------------------------------


def mean_shifts():
    return [("sub_mean", 3, 3, 1), ("add_mean", 3, 3, 1)]


def tail(scale, feats):
    """The end of EDSR and RCAN: every convolution is followed by a PixelShuffle without parameters."""
    convs = [(f"tail.0.{2 * i}", r * r * feats, feats, 3) for i, r in enumerate(STEPS[scale])]
    return [*convs, ("tail.1", 3, feats, 3)]


def edsr_convs(blocks, feats):
    body = [(f"body.{b}.body.{i}", feats, feats, 3) for b in range(blocks) for i in (0, 2)]
    return [*mean_shifts(), ("head.0", feats, 3, 3), *body, (f"body.{blocks}", feats, feats, 3)]


def rdn_convs(config, width, kernel=3):
    blocks, layers, growth = RDN[config]
    convs = [("SFENet1", width, 3, kernel), ("SFENet2", width, width, kernel)]
    for b in range(blocks):
        convs += [(f"RDBs.{b}.convs.{c}.conv.0", growth, width + c * growth, 3) for c in range(layers)]
        convs.append((f"RDBs.{b}.LFF", width, width + layers * growth, 1))
    return [*convs, ("GFF.0", width, blocks * width, 1), ("GFF.1", width, width, kernel)]


def rdn_end(config, width, scale, kernel=3):
    growth = RDN[config][2]
    if scale == 4:
        ups = [("UPNet.0", 4 * growth, width, kernel), ("UPNet.2", 4 * growth, growth, kernel)]
        return [*ups, ("UPNet.4", 3, growth, kernel)]
    return [("UPNet.0", scale * scale * growth, width, kernel), ("UPNet.2", 3, growth, kernel)]


def rcan_convs(n_resgroups, n_resblocks, n_feats, reduction):
    n, squeezed = n_feats, n_feats // reduction
    convs = [*mean_shifts(), ("head.0", n, 3, 3)]
    for g in range(n_resgroups):
        for b in range(n_resblocks):
            at = f"body.{g}.body.{b}.body."
            convs += [(at + "0", n, n, 3), (at + "2", n, n, 3)]
            convs += [(at + "3.conv_du.0", squeezed, n, 1), (at + "3.conv_du.2", n, squeezed, 1)]
        convs.append((f"body.{g}.body.{n_resblocks}", n, n, 3))
    return [*convs, (f"body.{n_resgroups}", n, n, 3)]


STATE_DICTS = [
    ("edsr-baseline", {"no_upsampling": True}, edsr_convs(16, 64)),
    ("edsr-baseline", {}, edsr_convs(16, 64) + tail(2, 64)),
    ("edsr", {"no_upsampling": True}, edsr_convs(32, 256)),
    ("edsr", {"n_resblocks": 1, "n_feats": 8, "scale": 4}, edsr_convs(1, 8) + tail(4, 8)),
    ("rdn", {"no_upsampling": True}, rdn_convs("B", 64)),
    ("rdn", {"no_upsampling": True, "RDNconfig": "A", "G0": 32}, rdn_convs("A", 32)),
    ("rdn", {"RDNkSize": 5}, rdn_convs("B", 64, 5) + rdn_end("B", 64, 2, 5)),
    ("rdn", {"scale": 3}, rdn_convs("B", 64) + rdn_end("B", 64, 3)),
    ("rdn", {"RDNconfig": "A", "scale": 4}, rdn_convs("A", 64) + rdn_end("A", 64, 4)),
    ("rcan", {"no_upsampling": True}, rcan_convs(10, 20, 64, 16)),
    ("rcan", {"scale": 3, **TINY["rcan"]}, rcan_convs(**TINY["rcan"]) + tail(3, 8)),
]


@pytest.mark.parametrize(("name", "args", "convs"), STATE_DICTS, ids=lambda x: str(x) if isinstance(x, dict) else None)
def test_state_dict(name, args, convs):
    with torch.device("meta"):
        encoder = make(name, **args)
    assert [(key, tuple(t.shape)) for key, t in encoder.state_dict().items()] == [
        entry for at, o, i, k in convs for entry in ((f"{at}.weight", (o, i, k, k)), (f"{at}.bias", (o,)))
    ]
    assert encoder.out_dim == (convs[-1][1] if args.get("no_upsampling") else 3)


def test_official_file(data_dir):
    """Keys in order, shapes, and the numbers that no training changes."""
    path = data_dir / "weights" / "edsr-baseline-liif.pth"
    state = torch.load(path, weights_only=True, map_location="cpu")["model"]["sd"]
    assert len(state) == 82
    for part, module in {
        "encoder.": make("edsr-baseline", no_upsampling=True),
        "imnet.": liif_fast.MLP(64 * 9 + 4, 3, [256] * 4),
    }.items():
        theirs = {key.removeprefix(part): t for key, t in state.items() if key.startswith(part)}
        ours = module.state_dict()
        assert [(key, t.shape) for key, t in theirs.items()] == [(key, t.shape) for key, t in ours.items()]
        for key in theirs:
            if "_mean." in key:
                assert torch.equal(theirs[key], ours[key]), key
        module.load_state_dict(theirs)


def conv_size(kernel, n_in, n_out):
    return n_out * (n_in * kernel * kernel + 1)


def test_parameter_counts():
    """The LIIF paper's encoders; literal totals beside the formulas, so that neither can drift alone."""
    means = 2 * conv_size(1, 3, 3)
    edsr = means + conv_size(3, 3, 64) + (16 * 2 + 1) * conv_size(3, 64, 64)
    dense = sum(conv_size(3, 64 + 64 * c, 64) for c in range(8)) + conv_size(1, 64 + 64 * 8, 64)
    shallow_and_fusion = conv_size(3, 3, 64) + 2 * conv_size(3, 64, 64) + conv_size(1, 16 * 64, 64)
    attention = conv_size(1, 64, 4) + conv_size(1, 4, 64)
    group = 20 * (2 * conv_size(3, 64, 64) + attention) + conv_size(3, 64, 64)
    rcan = means + conv_size(3, 3, 64) + 10 * group + conv_size(3, 64, 64)
    for name, want, total in [
        ("edsr-baseline", edsr, 1_220_440),
        ("rdn", 16 * dense + shallow_and_fusion, 21_973_952),
        ("rcan", rcan, 15_295_224),
    ]:
        with torch.device("meta"):
            encoder = make(name, no_upsampling=True)
        assert sum(p.numel() for p in encoder.parameters()) == want == total


END = {"scale": 2, "no_upsampling": False}


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("edsr-baseline", {"n_resblocks": 16, "n_feats": 64, "res_scale": 1, **END, "rgb_range": 1}),
        ("edsr", {"n_resblocks": 32, "n_feats": 256, "res_scale": 0.1, **END, "rgb_range": 1}),
        ("rdn", {"G0": 64, "RDNkSize": 3, "RDNconfig": "B", **END}),
        ("rcan", {"n_resgroups": 10, "n_resblocks": 20, "n_feats": 64, "reduction": 16, **END, "rgb_range": 1}),
        ("mlp", dict.fromkeys(["in_dim", "out_dim", "hidden_list"], inspect.Parameter.empty)),
    ],
)
def test_arguments_and_defaults(name, want):
    parameters = inspect.signature(registry._MODELS[name]).parameters
    assert [(key, p.default) for key, p in parameters.items()] == list(want.items())


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


# --- the MLP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [[], [7], [7, 5, 6]], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3), (2, 1, 3)], ids=str)
def test_mlp(hidden, shape):
    mlp = make("mlp", in_dim=9, out_dim=2, hidden_list=hidden).double()
    sizes = list(enumerate(pairwise([9, *hidden, 2])))
    want = [
        (f"layers.{2 * i}.{k}", (o, n) if k == "weight" else (o,)) for i, (n, o) in sizes for k in ("weight", "bias")
    ]
    state = mlp.state_dict()
    assert [(key, tuple(t.shape)) for key, t in state.items()] == want
    x = torch.randn(9, *shape, dtype=torch.float64).movedim(0, -1)  # not contiguous
    y = x
    for i, _ in sizes:
        y = (state[f"layers.{2 * i}.weight"] * y[..., None, :]).sum(-1) + state[f"layers.{2 * i}.bias"]
        y = y if i == len(hidden) else y.clamp(min=0)
    assert y.shape == (*shape, 2)
    assert_close(mlp(x).detach(), y, rtol=1e-12, atol=1e-13)  # the same sums in another order
