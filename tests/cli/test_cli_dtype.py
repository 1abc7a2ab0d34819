"""--dtype auto and int8 on a CPU with matrix units (AMX) and without: what is chosen, and what is said of it."""

from __future__ import annotations

import json

import command
import numpy as np
import pytest
import torch
import training_files
from PIL import Image

import liif_fast
from liif_fast.cli import common
from liif_fast.head import precision
from liif_fast.models.liif import LIIF
from liif_fast.weights import checkpoints

NOTE = "this processor multiplies it by matrix units (AMX); on Set5 and Set14 at most 0.007 dB below float32"
AUTO = f": bfloat16: {NOTE} (x2 to x4, EDSR-baseline-LIIF); --dtype float32 for the exact result\n"
CPU = torch.device("cpu")


@pytest.fixture
def run(model_file, capsys):
    return command.caller(model_file, capsys)


@pytest.fixture(params=[True, False], ids=["AMX", "no AMX"])
def amx(request, monkeypatch) -> bool:
    monkeypatch.delenv("LIIF_FAST_MATMUL", raising=False)
    monkeypatch.setattr(precision, "FAST_HALF_CPU", (torch.bfloat16,))  # AMD's without AMX has it too
    monkeypatch.setattr(precision, "MATRIX_UNITS_CPU", (torch.bfloat16,) if request.param else ())
    return request.param


@pytest.fixture
def asked(monkeypatch) -> list[torch.dtype]:
    """What ``upscale`` is asked for."""
    seen, upscale = [], LIIF.upscale

    def recorded(self, *args, dtype=None, **options):
        seen.append(dtype)
        return upscale(self, *args, dtype=dtype, **options)

    monkeypatch.setattr(LIIF, "upscale", recorded)
    return seen


def test_upscale(run, amx, asked, photo, tmp_path):
    made = {}
    for dtype in ("auto", "bfloat16", "float32", "int8"):
        out = tmp_path / f"{dtype}.png"
        code, _, stderr = run(photo, "-o", out, "-s", "3", "--device", "cpu", "--dtype", dtype)
        assert code == 0
        assert stderr.endswith(AUTO) is (amx and dtype == "auto")
        assert (": int8 beside an encoder in bfloat16: this processor multiplies it faster; " in stderr) is (
            dtype == "int8"
        )
        assert (NOTE in stderr) is (amx and dtype == "auto")
        made[dtype] = np.asarray(Image.open(out))
    assert asked == [torch.bfloat16 if amx else torch.float32, torch.bfloat16, torch.float32, torch.int8]
    assert np.array_equal(made["auto"], made["bfloat16" if amx else "float32"])


def test_a_quantized_file_is_not_called_bfloat16(run, amx, model_file, photo, tmp_path):
    file = tmp_path / "quantized.safetensors"
    liif_fast.load(model_file).quantize(Image.open(photo)).save(file)
    for dtype in ("auto", "int8"):
        arguments = (photo, "-o", tmp_path / f"{dtype}.png", "-s", "2", "--device", "cpu", "--dtype", dtype, "-m", file)
        code, _, stderr = run(*arguments)
        assert (code, ": bfloat16:" in stderr) == (0, False)
        loss = "with int8 on Set5 and Set14 at most 0.013 dB below float32 (x2 to x4, EDSR-baseline-LIIF)"
        said = f": int8 beside an encoder in bfloat16: this processor multiplies it faster; {loss}; "
        assert f"{said}--dtype float32 for one in float32\n" in stderr


def test_eval_and_compare(run, amx, asked, model_file, tmp_path, capsys):
    folder = training_files.make_images(tmp_path / "images", sizes=((40, 48),))
    code, stdout, stderr = run("--data", folder, "-s", "2", "--device", "cpu", "--json", command="eval")
    assert code == 0
    assert json.loads(stdout)["dtype"] == ("bfloat16" if amx else "float32")
    assert stderr.endswith(AUTO) is amx
    arguments = ["--data", folder, "-s", "2", "--device", "cpu", "--json", "-m", model_file]
    code, stdout, stderr = command.outcome(capsys, "compare", *arguments)
    assert code == 0
    assert json.loads(stdout)["methods"][1]["dtype"] == ("bfloat16" if amx else "float32")
    assert stderr.count(AUTO) == amx
    assert set(asked) == {torch.bfloat16 if amx else torch.float32}


def test_a_test_configuration_is_in_float32(run, amx, tmp_path):
    folder = training_files.make_images(tmp_path / "images", sizes=((40, 48),))
    config = training_files.write(tmp_path / "test.yaml", training_files.eval_configuration(folder))
    code, _, stderr = run("--config", config, "--device", "cpu", command="eval")
    assert code == 0
    assert "bfloat16" not in stderr


SPECS = (training_files.TINY_LIIF, training_files.SRCNN, training_files.SRRESNET)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s["name"])
def test_a_test_configuration_of_weights_in_half_precision(spec, tmp_path, capsys):
    """In float32 too: the figure of the same weights in a file of float32."""
    folder = training_files.make_images(tmp_path / "images", sizes=((40, 48),))
    config = training_files.write(tmp_path / "test.yaml", training_files.eval_configuration(folder))
    model, found = liif_fast.make(spec), []
    for dtype in (torch.float16, torch.float32):  # in this order: the latter has the former's values
        checkpoints.save(model.to(dtype), tmp_path / "m.safetensors")
        arguments = ["--config", config, "--device", "cpu", "-m", tmp_path / "m.safetensors"]
        code, stdout, stderr = command.outcome(capsys, "eval", *arguments)
        assert code == 0, stderr
        found.append(stdout)
    assert found[0] == found[1]


def test_other_networks_and_devices_keep_theirs(amx, tiny):
    other = liif_fast.make({"name": "srcnn", "args": {}})
    for model in (other, tiny()):
        assert common.dtype("auto", torch.device("mps"), model) == torch.float32
        assert common.dtype("float16", CPU, model) == torch.float16
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    lte = liif_fast.make({"name": "lte-fast", "args": {"encoder_spec": encoder, "hidden_dim": 8}})
    for model in (other, lte):  # whose loss in bfloat16 has not been measured
        assert common.dtype("auto", CPU, model) == torch.float32
        assert common._note("auto", CPU, model) is None
    assert common.dtype("auto", CPU, tiny()) == (torch.bfloat16 if amx else torch.float32)


def test_doctor(run, amx, monkeypatch):
    text = " ".join(run(command="doctor")[1].split())
    facts = json.loads(run("--json", command="doctor")[1])["cpu"]
    assert facts["encoder"] == ["float32", "bfloat16"]
    assert facts["dtype"] == ("bfloat16" if amx else "float32")
    assert "encoders run fast in float32, bfloat16; beside int8 in bfloat16; LIIF by --dtype auto in" in text
    assert facts["int8_encoder"] == "bfloat16"
    assert (f"in bfloat16: {NOTE}" in text) is amx
    assert ("in float32: this processor has no matrix units (AMX) for bfloat16" in text) is not amx
    monkeypatch.setenv("LIIF_FAST_MATMUL", "float32")
    monkeypatch.setattr(precision, "FAST_HALF_CPU", ())
    monkeypatch.setattr(precision, "MATRIX_UNITS_CPU", ())
    text = run(command="doctor")[1]
    assert "encoders run fast in float32; beside int8 in float32; LIIF by --dtype auto" in text
    assert "in float32: LIIF_FAST_MATMUL=float32\n" in text
