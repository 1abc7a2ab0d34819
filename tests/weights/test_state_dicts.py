"""Formats of state dicts: each foreign one is built here from its own names and run by a few lines of its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import liif_fast
from liif_fast import reference
from liif_fast.weights import state_dicts

# Other orders of addition than the library's: float32 rounding of values of about 1, over at most 120 convolutions.
CLOSE = {"atol": 2e-5, "rtol": 0}


def conv(state, name, x):
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def mlp(state, name, layers):
    def run(x):
        for i in range(layers):
            x = F.linear(x, state[f"{name}.{2 * i}.weight"], state[f"{name}.{2 * i}.bias"])
            x = x.relu() if i < layers - 1 else x
        return x

    return run


def random_state(shapes):
    """Weights that keep values at about 1, biases too, so that a mistake anywhere shows."""
    state = {}
    for name, shape in shapes.items():
        fan_in = torch.Size(shape[1:]).numel()
        state[f"{name}.weight"] = torch.randn(shape) / fan_in**0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0])
    return state


def lornatang(width=8, blocks=3):
    square = (width, width, 3, 3)
    shapes = {"encoder.conv1": (width, 3, 3, 3), "encoder.conv2": square}
    shapes |= {f"encoder.trunk.{i}.rcb.{j}": square for i in range(blocks) for j in (0, 2)}
    shapes |= {"mlp.layers.0": (16, 9 * width + 4), "mlp.layers.2": (16, 16), "mlp.layers.4": (3, 16)}
    state = random_state(shapes)

    def features(x):
        first = x = conv(state, "encoder.conv1", x)
        for i in range(blocks):
            inner = conv(state, f"encoder.trunk.{i}.rcb.0", x).relu()
            x = 0.1 * conv(state, f"encoder.trunk.{i}.rcb.2", inner) + x
        return conv(state, "encoder.conv2", x) + first

    return state, features, mlp(state, "mlp.layers", 3)


def mmagic_edsr(width=8, blocks=3):
    square = (width, width, 3, 3)
    shapes = {"conv_first": (width, 3, 3, 3), "conv_after_body": square}
    shapes |= {f"body.{i}.conv{j}": square for i in range(blocks) for j in (1, 2)}
    shapes |= {"imnet.layers.0": (16, 9 * width + 4), "imnet.layers.2": (3, 16)}
    state = random_state(shapes)

    def features(x):
        first = x = conv(state, "conv_first", x)
        for i in range(blocks):
            x = x + conv(state, f"body.{i}.conv2", conv(state, f"body.{i}.conv1", x).relu())
        return conv(state, "conv_after_body", x) + first

    return state, features, mlp(state, "imnet.layers", 2)


def mmagic_rdn(width=4, blocks=20, layers=6, growth=32):
    shapes = {"sfe1": (width, 3, 3, 3), "sfe2": (width, width, 3, 3)}
    for i in range(blocks):
        shapes |= {f"rdbs.{i}.layers.{j}.conv": (growth, width + j * growth, 3, 3) for j in range(layers)}
        shapes[f"rdbs.{i}.lff"] = (width, width + layers * growth, 1, 1)
    shapes |= {"gff.0": (width, blocks * width, 1, 1), "gff.1": (width, width, 3, 3)}
    shapes |= {"imnet.layers.0": (16, 9 * width + 4), "imnet.layers.2": (3, 16)}
    state = random_state(shapes)
    for i in range(blocks):  # twenty residuals of size 1 would grow
        state[f"rdbs.{i}.lff.weight"] *= 0.2

    def features(x):
        first = conv(state, "sfe1", x)
        x = conv(state, "sfe2", first)
        outs = []
        for i in range(blocks):
            dense = x
            for j in range(layers):
                dense = torch.cat([dense, conv(state, f"rdbs.{i}.layers.{j}.conv", dense).relu()], 1)
            x = x + conv(state, f"rdbs.{i}.lff", dense)
            outs.append(x)
        return conv(state, "gff.1", conv(state, "gff.0", torch.cat(outs, 1))) + first

    return state, features, mlp(state, "imnet.layers", 2)


NORMS = {
    "lornatang": {"sub": [0.0], "div": [1.0]},
    "mmagic_edsr": {"sub": [0.4488, 0.4371, 0.4040], "div": [1.0]},
    "mmagic_rdn": {"sub": [0.5], "div": [0.5]},
}


@pytest.mark.parametrize("program", [lornatang, mmagic_edsr, mmagic_rdn], ids=lambda f: f.__name__)
def test_foreign_checkpoint_is_the_same_function(program, tmp_path):
    state, features, imnet = program()
    if program is lornatang:
        other = {key: torch.zeros_like(t) for key, t in state.items()}
        raw = {"epoch": 7, "best_psnr": 30.1, "state_dict": state, "ema_state_dict": other, "optimizer": {"lr": 1}}
    else:
        inner = {f"generator.{key}": t for key, t in state.items()}
        raw = {"meta": {"epoch": 7}, "state_dict": {**inner, "step_counter": torch.zeros(1)}}
    torch.save(raw, tmp_path / "best.pth.tar")
    model = liif_fast.load(tmp_path / "best.pth.tar")
    assert model.data_norm == {"inp": NORMS[program.__name__], "gt": NORMS[program.__name__]}
    x, coord = torch.rand(2, 3, 7, 9), torch.rand(2, 50, 2) * 2 - 1
    cell = torch.full_like(coord, 0.1)
    expected = reference.liif(features(x), coord, cell, imnet)
    assert 0.05 < expected.std() < 20, "the weights of this test make the comparison meaningless"
    torch.testing.assert_close(model(x, coord, cell), expected, **CLOSE)
    # every one of the file's numbers is in the model, once
    mine = sorted(t.sum().item() for key, t in model.state_dict().items() if "_mean." not in key)
    assert mine == sorted(t.sum().item() for t in state.values())

    model.save(tmp_path / "again.safetensors")
    again = liif_fast.load(tmp_path / "again.safetensors")
    assert again.data_norm == model.data_norm
    assert torch.equal(again(x, coord, cell), model(x, coord, cell)), "the residual scale has to travel with the model"


def test_lornatang_averaged_weights_alone():
    state, _, _ = lornatang()
    averaged = {f"module.{key}": t for key, t in state.items()} | {"n_averaged": torch.tensor(5)}
    contents = state_dicts.read({"ema_state_dict": averaged})
    assert contents.data_norm == state_dicts.read(state).data_norm
    assert torch.equal(contents.state["encoder.body.3.weight"], state["encoder.conv2.weight"])
    assert len(contents.state) == len(state)


FLAGS = [(u, c) for u in (True, False) for c in (True, False)]
MLP_SPEC = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [24, 16]}}
ENCODERS = {
    "edsr-baseline": {"n_resblocks": 2},
    "edsr": {},
    "rdn": {"RDNconfig": "A", "G0": 8, "RDNkSize": 5},
    "rcan": {"n_resgroups": 2, "n_resblocks": 3, "n_feats": 20, "reduction": 3},
}


def shapes_of(model):
    return {key: t.shape for key, t in model.state_dict().items()}


@pytest.mark.parametrize(("unfold", "cell"), FLAGS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_architecture_is_inferred(encoder, unfold, cell):
    spec = {"name": encoder, "args": {**ENCODERS[encoder], "no_upsampling": True}}
    with torch.device("meta"):  # shapes are all that counts
        model = liif_fast.LIIF(spec, MLP_SPEC, feat_unfold=unfold, cell_decode=cell)
        inferred = liif_fast.make(state_dicts.infer_spec(model.state_dict()))
    assert (inferred.feat_unfold, inferred.cell_decode, inferred.local_ensemble) == (unfold, cell, True)
    assert shapes_of(inferred) == shapes_of(model)
    assert type(inferred.encoder) is type(model.encoder)
    if encoder.startswith("edsr"):
        assert (
            inferred.encoder.body[0].res_scale == model.encoder.body[0].res_scale == (0.1 if encoder == "edsr" else 1)
        )


@pytest.mark.parametrize("imnet", [None, {"name": "mlp", "args": {"out_dim": 1, "hidden_list": []}}])
def test_architecture_without_hidden_layers(imnet):
    model = liif_fast.LIIF({"name": "edsr-baseline", "args": {"n_resblocks": 1, "no_upsampling": True}}, imnet)
    inferred = liif_fast.make(state_dicts.infer_spec(model.state_dict()))
    assert shapes_of(inferred) == shapes_of(model)
    assert (inferred.imnet is None) == (imnet is None)


def small(**args):
    spec = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "no_upsampling": True, **args}}
    return liif_fast.LIIF(spec, MLP_SPEC).state_dict()


UNCLEAR = {
    "width that is nobody's": (lambda: small(n_feats=8), "res_scale"),
    "upsampling": (lambda: small(no_upsampling=False), "upsamples"),
    "other imnet": (lambda: {**small(), "imnet.film.weight": torch.zeros(2, 2)}, "not a plain MLP"),
    "odd number of inputs": (lambda: {**small(), "imnet.layers.0.weight": torch.zeros(24, 582)}, "582 inputs"),
    "other encoder": (lambda: {"encoder.patch.weight": torch.zeros(3)}, "none of edsr"),
    "no LIIF": (lambda: {"conv1.weight": torch.zeros(3), "fc": torch.zeros(2)}, "conv1.weight, fc"),
    "nothing": (lambda: {}, "no tensors"),
    "flat weight": (lambda: {**small(), "encoder.head.0.weight": torch.zeros(64)}, "4 dimensions"),
    "other RDN": (lambda: state_dicts.read(mmagic_rdn(4, 3, 2, 8)[0]).state, "neither configuration"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_unclear_architecture(case):
    make_state, words = UNCLEAR[case]
    with pytest.raises(ValueError, match=words) as caught:
        state_dicts.read(make_state())
    assert "\n" not in str(caught.value)


def test_spec_settles_what_is_unclear():
    spec = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "res_scale": 0.3, "no_upsampling": True}}
    model = liif_fast.LIIF(spec, MLP_SPEC, local_ensemble=False)
    contents = state_dicts.read(model.state_dict(), model.spec)
    assert contents.spec == model.spec
    assert contents.state.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    "data_norm",
    [
        7,
        {},
        {"inp": {"sub": [0.5], "div": [0.5]}},
        {"inp": {"sub": [0.5], "div": [0.0]}, "gt": {"sub": [0.5], "div": [0.5]}},
        {"inp": {"sub": [0.5], "div": []}, "gt": {"sub": [0.5], "div": [0.5]}},
        {"inp": {"sub": ["x"], "div": [1]}, "gt": {"sub": [0.5], "div": [0.5]}},
        {"inp": {"sub": [float("nan")], "div": [1]}, "gt": {"sub": [0.5], "div": [0.5]}},
    ],
)
def test_bad_data_norm(data_norm):
    with pytest.raises(ValueError, match="data_norm"):
        state_dicts.check_data_norm(data_norm)
