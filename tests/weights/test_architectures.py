"""Bare state dicts of LIIF's kin: LTE, LTE+, SwinIR in front of any head. The model that is inferred is the same."""

from __future__ import annotations

import inspect

import pytest
import safetensors.torch
import small_encoders
import swinir_weights
import torch

import liif_fast
from liif_fast.encoders import SwinIR
from liif_fast.weights import architectures, checkpoints, state_dicts

EDSR = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "no_upsampling": True}}
SWINIR = {"name": "swinir", "args": {**swinir_weights.SMALL, "no_upsampling": True}}
MLP = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [24, 16]}}
HEADS = {
    "liif": {"imnet_spec": MLP},
    "metasr": {},
    "lte": {"imnet_spec": MLP, "hidden_dim": 32},
    "lte without hidden layers": {"imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": []}}},
    "lte-fast": {"num_layer": 2, "hidden_dim": 32, "out_dim": 3},
    "lte-fast without hidden layers": {"num_layer": 0, "hidden_dim": 18, "out_dim": 3},
}


def made(head, encoder=EDSR, **args):
    name = head.partition(" ")[0]
    torch.manual_seed(1)
    return liif_fast.make({"name": name, "args": {"encoder_spec": encoder, **HEADS[head], **args}}).eval()


@pytest.mark.parametrize("encoder", [EDSR, SWINIR], ids=lambda spec: spec["name"])
@pytest.mark.parametrize("head", HEADS)
def test_a_bare_state_dict_is_the_model(head, encoder, tmp_path):
    model = made(head, encoder)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "bare.safetensors")
    torch.save({"params": {f"module.{key}": t for key, t in model.state_dict().items()}}, tmp_path / "bare.pth")
    image = torch.rand(1, 3, 9, 13)
    coord, cell = torch.rand(1, 20, 2) * 2 - 1, torch.full((1, 20, 2), 0.1)
    for name in ("bare.safetensors", "bare.pth"):
        loaded = liif_fast.load(tmp_path / name)
        assert type(loaded) is type(model)
        assert loaded.data_norm == model.data_norm
        with torch.no_grad():
            assert torch.equal(loaded(image, coord, cell), model(image, coord, cell))
    assert liif_fast.make(loaded.spec).spec == loaded.spec


@pytest.mark.parametrize("encoder", small_encoders.TINY)
@pytest.mark.parametrize("head", ["lte", "lte-fast"])
def test_waves_on_the_other_encoders(head, encoder):
    sizes = {"rdn": {"RDNconfig": "A"}, "edsr-baseline": {"n_feats": 64}}.get(encoder, {})
    args = {**small_encoders.TINY[encoder], **sizes, "no_upsampling": True}
    if encoder.startswith("edsr"):
        del args["res_scale"]
    with torch.device("meta"):  # shapes are all that counts
        model = made(head, {"name": encoder, "args": args})
        inferred = liif_fast.make(state_dicts.infer_spec(model.state_dict()))
    assert type(inferred) is type(model)
    assert {k: t.shape for k, t in inferred.state_dict().items()} == {k: t.shape for k, t in model.state_dict().items()}


# --- SwinIR ---

SIZES = {
    "all official": {},
    "another image": {"img_size": 64},
    "other windows": {"window_size": 4, "img_size": 20},
    "unlike groups": {"depths": [1, 3, 2], "num_heads": [2, 3, 4], "embed_dim": 24},
    "no shifted windows": {"depths": [1, 1], "num_heads": [2, 2], "embed_dim": 12},
    "none, and small ones": {"depths": [1], "num_heads": [2], "embed_dim": 12, "window_size": 3, "img_size": 6},
    "wide MLP": {"mlp_ratio": 3.5, "depths": [2], "num_heads": [2], "embed_dim": 12},
    "three convolutions": {"resi_connection": "3conv", "depths": [2], "num_heads": [2], "embed_dim": 12},
    "neither bias nor norm": {"qkv_bias": False, "patch_norm": False, "depths": [2], "num_heads": [2], "embed_dim": 12},
    "what leaves no trace": {"drop_path_rate": 0.1, "drop_rate": 0.0, "use_checkpoint": False, "qk_scale": None},
}


@pytest.mark.parametrize("case", SIZES)
def test_sizes_of_swinir(case):
    encoder = {"name": "swinir", "args": {**SIZES[case], "no_upsampling": True}}
    with torch.device("meta"):
        model = made("lte", encoder)
    spec = state_dicts.infer_spec(model.state_dict())["args"]["encoder_spec"]
    wanted = inspect.signature(SwinIR).bind(**SIZES[case])
    wanted.apply_defaults()
    found = inspect.signature(SwinIR).bind(**{k: v for k, v in spec["args"].items() if k != "no_upsampling"})
    found.apply_defaults()
    plain = [{k: list(v) if isinstance(v, tuple) else v for k, v in each.arguments.items()} for each in (wanted, found)]
    assert plain[0] == plain[1]


def test_the_official_swinir_is_the_official_spec():
    """Its program takes no sizes: so a file that is written in its form is one that it reads."""
    with torch.device("meta"):
        model = made("lte-fast", {"name": "swinir", "args": {"no_upsampling": True}})
    encoder = state_dicts.infer_spec(model.state_dict())["args"]["encoder_spec"]
    assert encoder == {"name": "swinir", "args": {"no_upsampling": True}}
    defaults = {name: p.default for name, p in inspect.signature(SwinIR).parameters.items()}
    kept = {name: list(v) if isinstance(v := defaults[name], tuple) else v for name in architectures._SWINIR}
    assert kept == architectures._SWINIR


def test_masks_that_are_not_there_are_made(tmp_path):
    """Some programs leave buffers out; the masks are of a training image's size and not used."""
    model = made("lte", {"name": "swinir", "args": {**swinir_weights.SMALL, "img_size": 48}})
    state = {k: t for k, t in model.state_dict().items() if not k.endswith("attn_mask")}
    torch.save(state, tmp_path / "bare.pth")
    loaded = liif_fast.load(tmp_path / "bare.pth")
    image = torch.rand(1, 3, 9, 13)
    assert torch.equal(loaded.upscale(image, 2), model.upscale(image, 2))
    assert loaded.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("change", ["order", "negative", "beyond"])
def test_an_index_that_is_not_the_windows_is_refused(tmp_path, change):
    model = made("lte", SWINIR)
    state = model.state_dict()
    key = next(k for k in state if k.endswith("relative_position_index"))
    state[key] = {"order": state[key].flip(0), "negative": state[key] - 1, "beyond": state[key] + 99}[change]
    torch.save(state, tmp_path / "bare.pth")
    for spec in (None, model.spec):
        with pytest.raises(checkpoints.CheckpointError, match=f"{key} is another than the spec's windows have") as said:
            liif_fast.load(tmp_path / "bare.pth", spec=spec)
        assert "\n" not in str(said.value)


# --- what is nearly one ---


def without(*names):
    def change(state):
        return {key: t for key, t in state.items() if not key.startswith(names)}

    return change


def replaced(**shapes):
    def change(state):
        return {**state, **{key.replace("__", "."): torch.zeros(shape) for key, shape in shapes.items()}}

    return change


GONE = "it has parts of an LTE but lacks {}; fetch it again, or give the model's spec, .*'name': '{}'"
NEARLY = {
    "no coefficients": ("lte", without("coef."), GONE.format("coef.bias, coef.weight", "lte")),
    "no frequencies": ("lte", without("freq."), GONE.format("freq.bias, freq.weight", "lte")),
    "no phase": ("lte-fast", without("phase."), GONE.format("phase.weight", "lte-fast")),
    "one bias less": ("lte-fast", without("freq.bias"), GONE.format("freq.bias", "lte-fast")),
    "no waves": ("lte", without("coef.", "freq.", "phase."), "its imnet takes 32 inputs, .* a LIIF, and of an LTE "),
    "layers alone": (
        "lte-fast",
        without("coef.", "freq.", "phase."),
        "parts of an LTE but lacks coef.bias, coef.weight, f",
    ),
    "no MLP": ("lte", without("imnet."), r"its MLP is missing \(imnet.layers.0.weight"),
    "both MLPs": ("lte", replaced(layers__0__weight=(3, 32, 1, 1)), "it has both imnet, as LTE, and layers, as LTE+"),
    "a layer less": ("lte", without("imnet.layers.0"), "imnet is not a plain MLP"),
    "a bias less": ("lte-fast", without("layers.2.bias"), "its layers is not a plain MLP"),
    "a flat layer": ("lte-fast", replaced(layers__0__weight=(32, 32)), "4 dimensions is wanted, got .32, 32."),
    "LTEW's phase": ("lte", replaced(phase__weight=(16, 18)), "its phase takes 18 numbers, LTE's takes the 2"),
    "half the waves": ("lte", replaced(coef__weight=(16, 64, 3, 3)), "MLP takes 32 inputs, but .* 16 coefficients"),
    "fewer frequencies": ("lte", replaced(freq__weight=(16, 64, 3, 3)), r"freq.weight has shape \[16, 64, 3, 3\]"),
    "a phase's bias": ("lte", replaced(phase__bias=(16,)), "phase.bias not in the model"),
    "more beside them": ("lte", replaced(gamma__weight=(16, 2)), "gamma.weight not in the model"),
    "an upsampling SwinIR": ("lte", replaced(encoder__upsample__0__weight=(16, 2)), "its encoder upsamples"),
    "other masks": (
        "lte",
        replaced(encoder__layers__0__residual_group__blocks__1__attn_mask=(6, 64, 64)),
        "is of 6 windows, which are no square image",
    ),
}


@pytest.mark.parametrize("case", NEARLY)
def test_what_is_nearly_one_is_refused(case, tmp_path):
    head, change, words = NEARLY[case]
    torch.save(change(made(head, SWINIR).state_dict()), tmp_path / "bare.pth")
    with pytest.raises(checkpoints.CheckpointError, match=words) as said:
        liif_fast.load(tmp_path / "bare.pth")
    assert "\n" not in str(said.value)
    assert "bare.pth: " in str(said.value)


def test_a_sibling_beside_another_encoder_is_found():
    """LTE+ has no imnet by which the network is told from, say, that of a loss in the same file."""
    model = made("lte-fast")
    other = {f"loss.encoder.{i}.weight": torch.zeros(3) for i in range(2)}
    contents = state_dicts.read({"state_dict": {**{f"net.{k}": t for k, t in model.state_dict().items()}, **other}})
    assert contents.spec["name"] == "lte-fast"
    assert contents.state.keys() == model.state_dict().keys()
