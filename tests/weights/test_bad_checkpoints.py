"""Every way in which a checkpoint can be bad: one line that says which file, what is wrong and what to do."""

from __future__ import annotations

import json
import os
import pickle
import random

import pytest
import safetensors.torch
import torch

import liif_fast
from liif_fast import CheckpointError
from liif_fast.weights import checkpoints

SPEC = {
    "name": "liif",
    "args": {
        "encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 1, "no_upsampling": True}},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}},
    },
}
NORM = {key: {"sub": [0.5], "div": [0.5]} for key in ("inp", "gt")}


@pytest.fixture
def model():
    return liif_fast.make(SPEC).eval()


class Exploit:
    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


def test_code_in_a_pickle_never_runs(model, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "m.pth"
    for call in (os.mkdir, os.system, eval):
        what = Exploit(
            call, {os.mkdir: str(marker), os.system: f"touch {marker}"}.get(call, f"open({str(marker)!r},'w')")
        )
        for raw in (what, {"state_dict": {**model.state_dict(), "extra": what}}, {"message_hub": what}):
            for new in (True, False):
                torch.save(raw, path, _use_new_zipfile_serialization=new)
                with pytest.raises(CheckpointError, match=r"needs .*code to be run") as caught:
                    liif_fast.load(path)
                assert "weights_only" not in str(caught.value)
                assert "\n" not in str(caught.value)
    assert not marker.exists()
    torch.save(model, path)  # a whole module
    with pytest.raises(CheckpointError, match=r"needs liif_fast\.models\.liif\.LIIF"):
        liif_fast.load(path)


def with_sd(**changes):
    """An official checkpoint with some tensors replaced, or left out (None)."""
    sd = {**liif_fast.make(SPEC).state_dict(), **{k.replace("__", "."): t for k, t in changes.items()}}
    return {"model": {**SPEC, "sd": {k: t for k, t in sd.items() if t is not None}}}


def other_spec(**changes):
    raw = with_sd()
    raw["model"] = {**raw["model"], **changes}
    return raw


def encoder(name, **args):
    return {"encoder_spec": {"name": name, "args": args}}


KEY = "imnet.layers.0.weight"
BAD = {
    "no dictionary": (lambda: [torch.zeros(3)], "holds a list"),
    "a tensor": (lambda: torch.zeros(3), "holds a Tensor"),
    "empty": (dict, "no tensors"),
    "keys are numbers": (lambda: {1: torch.zeros(3)}, "not all names"),
    "no weights": (lambda: {"model": SPEC}, "no weights"),
    "one missing": (lambda: with_sd(imnet__layers__0__weight=None), f"{KEY} missing"),
    "five missing": (
        lambda: (
            with_sd(**{f"encoder__body__{k}": None for k in ("0__body__0__bias", "0__body__2__bias", "1__bias")})
            | other_spec(
                args={**SPEC["args"], "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16] * 5}}}
            )
        ),
        r"imnet\.layers\.10\.bias, .* and 5 more missing",
    ),
    "unexpected": (lambda: with_sd(extra__weight=torch.zeros(1)), r"extra\.weight not in the model"),
    "other shape": (lambda: with_sd(imnet__layers__0__weight=torch.zeros(16, 3)), r"shape \[16, 3\].*\[16, 580\]"),
    "integers": (lambda: with_sd(imnet__layers__0__bias=torch.zeros(16, dtype=torch.int32)), "torch.int32"),
    "complex": (lambda: with_sd(imnet__layers__0__bias=torch.zeros(16, dtype=torch.complex64)), "torch.complex64"),
    "sparse": (lambda: with_sd(imnet__layers__0__bias=torch.zeros(16).to_sparse()), "no ordinary tensor"),
    "without values": (lambda: with_sd(imnet__layers__0__bias=torch.zeros(16, device="meta")), "no ordinary tensor"),
    "unknown model": (lambda: other_spec(name="liif3"), "liif3.*register"),
    "unknown encoder": (lambda: other_spec(args=encoder("swin")), "swin.*register"),
    "unknown argument": (lambda: other_spec(args=encoder("edsr-baseline", depth=2)), "depth"),
    "impossible argument": (lambda: other_spec(args=encoder("edsr-baseline", n_feats=-1)), "cannot be built"),
    "arguments in a list": (lambda: other_spec(args=[1]), "cannot be built"),
    "no model": (lambda: other_spec(args=None), "cannot be built"),
    "bad data_norm": (lambda: {**with_sd(), "data_norm": {"inp": 1}}, "data_norm"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content(case, tmp_path):
    raw, words = BAD[case][0](), BAD[case][1]
    path = tmp_path / "bad.pth"
    torch.save(raw, path)
    with pytest.raises(CheckpointError, match=words) as caught:
        liif_fast.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_bad_metadata(model, tmp_path):
    path = tmp_path / "m.safetensors"
    good = {"format": 1, "version": "1", "spec": model.spec, "data_norm": NORM}
    for text, words in (
        ("{", "metadata is damaged"),
        ("[]", "metadata is damaged"),
        ("[" * 100_000, "metadata is damaged"),
        ("{}", "metadata is damaged"),
        (json.dumps({**good, "format": 2}), "format 2.*newer"),
        (json.dumps({**good, "spec": 5}), "cannot be built"),
        (json.dumps({**good, "data_norm": {"inp": 2}}), "data_norm"),
    ):
        safetensors.torch.save_file(model.state_dict(), path, {"liif_fast": text})
        with pytest.raises(CheckpointError, match=words):
            liif_fast.load(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html></html>", "neither safetensors nor a PyTorch file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "neither safetensors nor a PyTorch file"),
        (b"\xff" * 8 + b"{}", "damaged"),
        (b"PK\x03\x04" + b"\0" * 100, "damaged"),
        (pickle.dumps({"a": 1}), "damaged or no checkpoint"),
        (pickle.dumps({"a": 1}, protocol=2), "damaged or no checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(data, words, tmp_path):
    path = tmp_path / "m.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=words) as caught:
        liif_fast.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files(kind, tmp_path):
    """Cut short: always refused. A changed byte: refused, or only a number has changed; never another exception."""
    spec = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 2, "no_upsampling": True}}
    model, path = liif_fast.LIIF(spec), tmp_path / "m"
    if kind == "safetensors":
        model.save(path)
    else:
        raw = {"model": {**model.spec, "sd": model.state_dict()}}
        torch.save(raw, path, _use_new_zipfile_serialization=kind == "zip")
    data, rng = path.read_bytes(), random.Random(0)
    for n in [1, 7, 8, 9, 20, *(rng.randrange(1, len(data)) for _ in range(25)), len(data) - 1]:
        path.write_bytes(data[:n])
        with pytest.raises(CheckpointError):
            liif_fast.load(path)
    refused = 0
    for _ in range(150):
        at = rng.randrange(len(data) // 3 if kind == "safetensors" else len(data))  # where its header is
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :])
        try:
            liif_fast.load(path)
        except CheckpointError:
            refused += 1
    assert refused > 0


def test_nothing_there(tmp_path):
    with pytest.raises(checkpoints.UnknownModelError, match=r"no such file.*edsr-baseline-liif"):
        liif_fast.load("edsr-baseline-lif")
    with pytest.raises(checkpoints.UnknownModelError, match="no such file"):
        liif_fast.load(tmp_path / "edsr-baseline-liif")  # a path is never a name
    with pytest.raises(CheckpointError, match="it is a folder"):
        liif_fast.load(tmp_path)
    with pytest.raises(TypeError, match="a name or a path is wanted, got a NoneType"):
        liif_fast.load(None)


def test_bad_device(model, tmp_path):
    model.save(tmp_path / "m")
    for device in ("gpu", "cuda:99", 3.5):
        with pytest.raises(ValueError, match="device:") as caught:
            liif_fast.load(tmp_path / "m", device=device)
        assert "\n" not in str(caught.value)
    assert liif_fast.load(tmp_path / "m", device="meta").device.type == "meta"
