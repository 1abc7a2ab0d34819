"""State dicts, sizes and arguments of the encoders of the official registry."""

from __future__ import annotations

import inspect

import pytest
import torch
from small_encoders import RDN, STEPS, TINY, make

import liif_fast
from liif_fast import registry

# By rule: lists of (prefix, outputs, inputs, kernel size).


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
