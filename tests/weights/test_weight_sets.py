"""Which of the weights in a checkpoint are taken: the averaged ones, without prefixes, from wherever they lie."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import liif_fast
from liif_fast import CheckpointError
from liif_fast.cli import main as cli
from liif_fast.cli import reporting
from liif_fast.training import setup
from liif_fast.weights import checkpoints

ENCODER = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 64, "no_upsampling": True}}
SPEC = {
    "name": "liif",
    "args": {"encoder_spec": ENCODER, "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}}},
}
SMALL = {"name": "srcnn", "args": {"kernels": [3, 1, 3], "width": [4, 2]}}


def states(spec=SPEC):
    """Raw and averaged weights: all zeros, all ones."""
    own = liif_fast.make(spec).state_dict()
    return ({key: torch.full_like(t, value) for key, t in own.items()} for value in (0.0, 1.0))


def under(prefix, state):
    return {f"{prefix}{key}": t for key, t in state.items()}


def loaded(raw, path, **args):
    """The one value of the weights that are taken, and the notes."""
    torch.save(raw, path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = liif_fast.load(path, **args)
    values = {t.unique().item() for t in model.state_dict().values()}
    assert len(values) == 1, "a mixture"
    assert all(w.category is checkpoints.CheckpointNote for w in caught)
    return values.pop(), [str(w.message) for w in caught]


BOTH = {  # raw and averaged; the place of the averaged ones as the note names it
    "BasicSR": (lambda r, a: {"params": r, "params_ema": a}, "params_ema"),
    "model, ema": (lambda r, a: {"model": r, "ema": a, "epoch": 3}, "ema"),
    "model, model_ema": (lambda r, a: {"model_ema": a, "model": r}, "model_ema"),
    "timm": (lambda r, a: {"state_dict": r, "state_dict_ema": a, "arch": "liif"}, "state_dict_ema"),
    "official with ema": (lambda r, a: {"model": {**SPEC, "sd": r}, "ema": a}, "ema"),
    "official with sd_ema": (lambda r, a: {"model": {**SPEC, "sd": r, "sd_ema": a}}, "model.sd_ema"),
    "Lightning, in the module": (
        lambda r, a: {"state_dict": {**under("model.", r), **under("model_ema.module.", a)}},
        "state_dict.model_ema.module",
    ),
    "Lightning's callback": (
        lambda r, a: {
            "state_dict": under("model.", a),
            "current_model_state": under("model.", r),
            "averaging_state": {},
        },
        "state_dict.model",
    ),
    "AveragedModel": (
        lambda r, a: {"state_dict": r, "swa": {**under("module.", a), "n_averaged": torch.tensor(5)}},
        "swa.module",
    ),
    "mmagic": (
        lambda r, a: {"state_dict": {**under("generator.", mmagic(r)), **under("generator_ema.", mmagic(a))}},
        "state_dict.generator_ema",
    ),
    "nested": (lambda r, a: {"trainer": {"nets": {"net": r, "netEMA": a}}}, "trainer.nets.netEMA"),
    "beside its own": (lambda r, a: {**r, **under("ema.", a)}, "ema"),
}


def mmagic(state):
    """In mmagic's names, whose EDSR has no layers that are not used."""
    names = {
        "encoder.head.0.": "conv_first.",
        "encoder.body.0.body.0.": "body.0.conv1.",
        "encoder.body.0.body.2.": "body.0.conv2.",
        "encoder.body.1.": "conv_after_body.",
        "imnet.": "imnet.",
    }
    return {
        new + key.removeprefix(old): t for key, t in state.items() for old, new in names.items() if key.startswith(old)
    }


@pytest.mark.parametrize("case", BOTH)
def test_averaged_weights_are_preferred_and_it_is_said(case, tmp_path):
    raw, averaged = states()
    make, place = BOTH[case]
    if case == "mmagic":  # the layers that are not used are the constructor's
        torch.save(make(raw, averaged), tmp_path / "m.pth")
        with pytest.warns(checkpoints.CheckpointNote, match=rf"averaged weights \({place}\) are used"):
            assert liif_fast.load(tmp_path / "m.pth").imnet.layers[0].bias.unique().item() == 1
        return
    value, notes = loaded(make(raw, averaged), tmp_path / "m.pth")
    assert value == 1
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path / 'm.pth'}: ")
    assert f"averaged weights ({place}) are used, not the raw ones (" in notes[0]


ALONE = {
    "params_ema": lambda s: {"params_ema": s},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {0: {"encoder.x": s}}}},
    "Lightning": lambda s: {"state_dict": under("model.", s), "hyper_parameters": {"lr": 1}},
    "Lightning with a loss": lambda s: {"state_dict": {**under("model.", s), "loss.vgg.weight": torch.ones(3)}},
    "net.": lambda s: under("net.", s),
    "module.module.": lambda s: under("module.module.", s),
    "any prefix": lambda s: {"checkpoint": {"weights": under("a.b_c.", s)}},
    "twice the same": lambda s: {"model": s, "best": {k: t.clone() for k, t in s.items()}},
    "own training with ema": lambda s: {
        "model": {**SPEC, "sd": s},
        "optimizer": {"name": "adam", "sd": {}},
        "training": {"weights": {k: t + 1 for k, t in s.items()}},
    },
    "an encoder elsewhere": lambda s: {"state_dict": {**under("model.", s), "perceptual.encoder.w": torch.ones(2)}},
    "official under DataParallel": lambda s: {"model": {**SPEC, "sd": under("module.", s)}},
    "official under another prefix": lambda s: {"model": {**SPEC, "sd": under("net.", s)}},
}


@pytest.mark.parametrize("case", ALONE)
def test_nested_and_prefixed_weights_are_found(case, tmp_path):
    raw, _ = states()
    assert loaded(ALONE[case](raw), tmp_path / "m.pth") == (0, [])


def test_other_models_than_liif(tmp_path):
    raw, averaged = states(SMALL)
    assert loaded({"params": raw}, tmp_path / "m.pth", spec=SMALL) == (0, [])
    assert loaded(under("net.", raw), tmp_path / "m.pth", spec=SMALL) == (0, [])
    assert loaded({"state_dict": under("model.", raw)}, tmp_path / "m.pth", spec=SMALL) == (0, [])
    for both in ({"params": raw, "params_ema": averaged}, {"model": {**SMALL, "sd": raw}, "ema": averaged}):
        value, notes = loaded(both, tmp_path / "m.pth", spec=SMALL)
        assert value == 1
        assert "averaged" in notes[0]


def test_an_encoder_inside_the_mlp_is_no_second_model(tmp_path):
    class Positions(nn.Module):
        def __init__(self, in_dim):
            super().__init__()
            self.encoder = nn.Linear(in_dim, 3)

        def forward(self, x):
            return self.encoder(x)

    liif_fast.register("test-positions")(Positions)
    model = liif_fast.LIIF(ENCODER, {"name": "test-positions", "args": {}})
    torch.save({"state_dict": under("model.", model.state_dict())}, tmp_path / "m.pth")
    again = liif_fast.load(tmp_path / "m.pth", spec=model.spec)
    assert all(torch.equal(t, model.state_dict()[key]) for key, t in again.state_dict().items())


@pytest.mark.parametrize("names", [("model", "best"), ("ema_0.999", "ema_0.9999"), ("state_dict", "teacher")])
def test_several_sets_are_refused_with_their_names(names, tmp_path):
    raw, other = states()
    torch.save(dict(zip(names, (raw, other), strict=True)), tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=r"m\.pth: it holds several sets of weights \(") as caught:
        liif_fast.load(tmp_path / "m.pth")
    assert all(name in str(caught.value) for name in names)
    assert "\n" not in str(caught.value)


def test_averages_of_an_unknown_form_are_said(tmp_path):
    raw, averaged = states()
    flat = {"model_ema." + key.replace(".", ""): t for key, t in averaged.items()}
    value, notes = loaded({"state_dict": {**under("model.", raw), **flat}}, tmp_path / "m.pth")
    assert value == 0
    assert "state_dict.model_ema), in a form that is not known; the raw ones are used" in notes[0]


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    from PIL import Image

    raw, averaged = states()
    torch.save({"params": raw, "params_ema": averaged}, tmp_path / "m.pth")
    Image.new("RGB", (6, 5)).save(tmp_path / "a.png")
    args = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "-s", "2", "-m", str(tmp_path / "m.pth")]
    assert cli.main([*args, "--device", "cpu"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "averaged" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"liif-fast: note: {tmp_path / 'm.pth'}: its averaged weights (params_ema) are used")


def test_init_of_a_training_says_it_too(tmp_path, capsys):
    raw, averaged = states()
    torch.save({"model": raw, "ema": averaged}, tmp_path / "m.pth")
    module = liif_fast.make(SPEC)
    with reporting.log_as_lines():
        setup._load_init(module, tmp_path / "m.pth")
    assert module.imnet.layers[0].bias.unique().item() == 1
    assert "liif-fast: note: init: " in capsys.readouterr().err


def test_averages_in_a_list_are_said_and_those_of_callbacks_found(tmp_path):
    raw, averaged = states()
    shadow = {"decay": 0.999, "num_updates": 7, "shadow_params": list(averaged.values())}
    value, notes = loaded({"model": raw, "ema": shadow}, tmp_path / "torch_ema.pth")
    assert value == 0
    assert len(notes) == 1
    assert "averaged weights too (ema.shadow_params)" in notes[0]
    callbacks = {"EMA": {"ema_state_dict": under("model.", averaged)}, "ModelCheckpoint": {"best_model_score": 1.0}}
    value, notes = loaded({"state_dict": under("model.", raw), "callbacks": callbacks}, tmp_path / "lightning.ckpt")
    assert value == 1
    assert len(notes) == 1
