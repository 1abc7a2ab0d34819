"""load and save of good checkpoints; the bad ones are in test_bad_checkpoints."""

from __future__ import annotations

import json
import os
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import liif_fast
from liif_fast import CheckpointError
from liif_fast.weights import checkpoints

SPEC = {
    "name": "liif",
    "args": {
        "encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 64, "no_upsampling": True}},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}},
    },
}
NORM = {"inp": {"sub": [0.1, 0.2, 0.3], "div": [2.0]}, "gt": {"sub": [0.25], "div": [0.75]}}


@pytest.fixture
def model():
    return liif_fast.make(SPEC).eval()


def assert_same_weights(a, b):
    one, two = a.state_dict(), b.state_dict()
    assert one.keys() == two.keys()
    for key in one:
        assert one[key].dtype == two[key].dtype
        assert torch.equal(one[key], two[key]), key


def assert_same(a, b):
    """Same weights and the same function, to the bit."""
    assert_same_weights(a, b)
    inp, coord = torch.rand(1, 3, 5, 4), torch.rand(1, 9, 2) - 0.5
    with torch.no_grad():
        assert torch.equal(a(inp, coord, coord.abs()), b(inp, coord, coord.abs()))


# --- what load reads ---


def test_official_form(model, tmp_path):
    path = tmp_path / "epoch-last.pth"
    trained = {"model": {**SPEC, "sd": model.state_dict()}, "optimizer": {"name": "adam", "sd": {}}, "epoch": 3}
    torch.save(trained, path)
    loaded = liif_fast.load(path)
    assert_same(loaded, model)
    assert not loaded.training
    assert loaded.spec == model.spec
    assert loaded.data_norm == {k: {"sub": [0.5], "div": [0.5]} for k in ("inp", "gt")}

    torch.save({**trained, "data_norm": NORM}, path)
    assert liif_fast.load(str(path)).data_norm == NORM


def test_official_weights(data_dir):
    path = data_dir / "weights" / "edsr-baseline-liif.pth"
    own = torch.load(path, weights_only=True)["model"]["sd"]
    loaded = liif_fast.load(path).state_dict()
    assert len(own) == len(loaded) == 82  # the published number of tensors
    assert all(torch.equal(t, loaded[key]) for key, t in own.items())


WRAPPED = {
    "bare": lambda sd: sd,
    "state_dict": lambda sd: {"state_dict": sd, "epoch": 3},
    "model": lambda sd: {"model": sd},
    "DataParallel": lambda sd: {"state_dict": {f"module.{k}": t for k, t in sd.items()}},
    "compiled": lambda sd: {
        f"module._orig_mod.{k.replace('encoder.', 'encoder._orig_mod.')}": t for k, t in sd.items()
    },
    "without the unused": lambda sd: {k: t for k, t in sd.items() if "_mean." not in k},
    "old file format": lambda sd: sd,
}


@pytest.mark.parametrize("form", WRAPPED)
def test_bare_state_dict_under_a_wrong_suffix(form, model, tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.save(WRAPPED[form](model.state_dict()), path, _use_new_zipfile_serialization=form != "old file format")
    assert_same(liif_fast.load(path), model)


def test_bare_safetensors_under_a_wrong_suffix(model, tmp_path):
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.pth")
    assert_same(liif_fast.load(tmp_path / "weights.pth"), model)


def test_given_spec_wins(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "w.pth")
    spec = {"name": "liif", "args": {**SPEC["args"], "local_ensemble": False}}
    assert liif_fast.load(tmp_path / "w.pth", spec=spec).local_ensemble is False
    model.save(tmp_path / "w.safetensors")
    assert liif_fast.load(tmp_path / "w.safetensors", spec=spec).local_ensemble is False


class Other(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.first = nn.Linear(n, 2)
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("codes", torch.zeros(3, dtype=torch.int8))
        self.spec = {"name": "test-other", "args": {"n": n}}


def test_other_registered_model_with_other_buffers(tmp_path):
    liif_fast.register("test-other")(Other)
    other = Other(5)
    other.steps.fill_(12)
    other.codes.copy_(torch.tensor([1, -2, 3]))
    torch.save({"model": {**other.spec, "sd": other.state_dict()}}, tmp_path / "a.pth")
    checkpoints.save(other, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        loaded = liif_fast.load(tmp_path / name)
        assert isinstance(loaded, Other)
        assert loaded.state_dict().keys() == other.state_dict().keys()
        assert all(torch.equal(t, other.state_dict()[key]) for key, t in loaded.state_dict().items())


def test_log_of_a_training_run_beside_the_weights(model, tmp_path, monkeypatch):
    """NumPy numbers and mmengine's log are no tensors; they are left out, not called."""
    log = types.ModuleType("mmengine.logging.history_buffer")
    log.HistoryBuffer = type("HistoryBuffer", (), {"__module__": log.__name__, "__qualname__": "HistoryBuffer"})
    names = [log.__name__.rsplit(".", n)[0] for n in range(3)]  # the module and its packages
    for name in names:
        monkeypatch.setitem(sys.modules, name, log)
    history = log.HistoryBuffer()
    history._log_history = np.arange(3.0)
    raw = {"state_dict": model.state_dict(), "best_psnr": np.float64(32.1), "message_hub": {"loss": history}}
    torch.save(raw, tmp_path / "iter_10.pth")
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    before = set(torch.serialization.get_safe_globals())
    assert_same(liif_fast.load(tmp_path / "iter_10.pth"), model)
    assert set(torch.serialization.get_safe_globals()) == before


# --- what save writes ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_save_and_load(dtype, model, tmp_path):
    model.to(dtype).data_norm = NORM
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = liif_fast.load(path)
    assert loaded.data_norm == NORM
    assert loaded.spec == model.spec
    assert_same(loaded, model)
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_metadata(model, tmp_path):
    checkpoints.save(model, tmp_path / "m", credit="somebody")
    with safetensors.safe_open(tmp_path / "m", "pt") as file:
        about = json.loads(file.metadata()["liif_fast"])
    assert about == {
        "format": 1,
        "version": liif_fast.__version__,
        "spec": model.spec,
        "data_norm": model.data_norm,
        "credit": "somebody",
        "hash": "liif_fast_sha256",
    }


def test_save_of_shared_and_strided_tensors(model, tmp_path):
    first, last = model.encoder.body[0].body[0], model.encoder.body[0].body[2]
    last.weight = first.weight
    first.bias.data = torch.rand(128)[::2]
    model.imnet.layers[0].weight.data = torch.rand(580, 16).t()
    model.encoder.head[0].weight.data = model.encoder.head[0].weight.data.to(memory_format=torch.channels_last)
    model.save(tmp_path / "m.safetensors")
    loaded = liif_fast.load(tmp_path / "m.safetensors")
    assert_same_weights(loaded, model)
    assert all(t.is_contiguous() for t in loaded.state_dict().values())


def test_save_of_a_compiled_encoder(model, tmp_path):
    expected = model.state_dict().keys()
    model.encoder = torch.compile(model.encoder)
    model.save(tmp_path / "m.safetensors")
    assert liif_fast.load(tmp_path / "m.safetensors").state_dict().keys() == expected


def test_official_form_goes_back(model, tmp_path):
    model.data_norm = NORM
    checkpoints.save_official(model, tmp_path / "m.pth")
    raw = torch.load(tmp_path / "m.pth", weights_only=True)
    assert_same(liif_fast.make(raw["model"], load_sd=True), model)
    assert_same(liif_fast.load(tmp_path / "m.pth"), model)
    assert liif_fast.load(tmp_path / "m.pth").data_norm == NORM


def test_full_disk_leaves_the_old_file(model, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # the file has about 300 kB
    try:
        with pytest.raises(CheckpointError, match=r"m\.safetensors: cannot be written") as caught:
            model.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_unwritable_targets(model, tmp_path):
    with pytest.raises(CheckpointError, match="make its folder first"):
        model.save(tmp_path / "no" / "m.safetensors")
    with pytest.raises(CheckpointError, match="cannot be written"):
        model.save(tmp_path)
    assert os.listdir(tmp_path) == []


def test_save_through_a_link_and_with_the_usual_mode(model, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    model.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert_same(liif_fast.load(tmp_path / "real"), model)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "real").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_save_without_a_spec(tiny, model, tmp_path):
    with pytest.raises(ValueError, match="encoder was given as a module"):
        tiny().save(tmp_path / "m")
    spec = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": np.int64(8), "no_upsampling": True}}
    with pytest.raises(CheckpointError, match="JSON"):
        liif_fast.LIIF(spec).save(tmp_path / "m")
    model.data_norm = {"inp": 3}
    with pytest.raises(ValueError, match="data_norm"):
        model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == []
