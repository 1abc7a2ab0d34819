"""``liif-fast export``: the files that it writes and what it says."""

from __future__ import annotations

import sys

import command
import numpy as np
import pytest
import torch

import liif_fast
from liif_fast.cli.main import main


@pytest.fixture
def checkpoint(tmp_path):
    return str(command.small_model(tmp_path))


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "image [B, 3, H, W] in [0, 1], size [2] (height, width) -> result [B, 3, *size]"),
        (["-s", "2", "--fixed", "12x14"], "image [B, 3, 12, 14] in [0, 1] -> result [B, 3, 24, 28]"),
        (["--part", "head"], "feat [B, 8, H, W], coord [B, Q, 2], cell [B, Q, 2] -> result [B, Q, 3]"),
    ],
)
def test_it_writes_what_it_says(tmp_path, checkpoint, capsys, arguments, says):
    runtime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
    output = tmp_path / "liif.onnx"
    assert main(["export", "-m", checkpoint, "-o", str(output), *arguments]) == 0
    said = capsys.readouterr()
    assert (says in said.out, said.err) == (True, "")
    session = runtime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    model = liif_fast.load(checkpoint)
    if "head" in arguments:
        feat, coord = torch.randn(1, 8, 5, 6), torch.rand(1, 9, 2)
        given, want = {"feat": feat, "coord": coord, "cell": coord / 9}, model.query(feat, coord, coord / 9).detach()
    else:
        image = torch.rand(1, 3, 12, 14)
        given, want = {"image": image}, model.upscale(image, size=(24, 28))
        if not arguments:
            given["size"] = np.array([24, 28])
    (got,) = session.run(None, {name: np.asarray(value) for name, value in given.items()})
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert main(["export", "-m", checkpoint, "-o", str(output), *arguments]) == 2
    assert "liif.onnx exists: give --overwrite" in capsys.readouterr().err


@pytest.mark.long
def test_a_head_that_adds_to_the_image_says_so(tmp_path, capsys):
    runtime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    model = liif_fast.make({"name": "lte-fast", "args": {"encoder_spec": encoder, "num_layer": 1, "hidden_dim": 8}})
    model.save(tmp_path / "lte.safetensors")
    output = tmp_path / "lte.onnx"
    assert main(["export", "-m", str(tmp_path / "lte.safetensors"), "-o", str(output), "--part", "head"]) == 0
    said = capsys.readouterr().out
    assert "coord [B, Q, 2], cell [B, Q, 2], inp [B, 3, H, W] -> result [B, Q, 3]" in said
    session = runtime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    assert [x.name for x in session.get_inputs()] == ["feat", "coord", "cell", "inp"]


MISTAKES = """
export                                          | -o FILE: a file for the model is wanted
export -o liif.bin                              | -o liif.bin: the suffix says the kind, .onnx or .pt2
export -o no/liif.onnx                          | -o no/liif.onnx: there is no such folder
export -o liif.pt2 --dtype float16              | --dtype float16: packages of AOTInductor are in float32
export -o liif.onnx --fixed 0x4                 | 0x4: HEIGHTxWIDTH of the images is wanted, e.g. 480x640
export -o liif.onnx -s 2 --size 4x4             | --size not allowed with argument -s/--scale
export -o liif.onnx -m none.pth                 | none.pth: there is no such file
export -o liif.onnx -m CHECKPOINT -s 2.5        | scale: a whole number is wanted where images have any size, got 2.5
export -o liif.onnx -m CHECKPOINT --opset 3     | opset: a whole number from 18 is wanted, got 3
export -o liif.onnx -m CHECKPOINT --part head --size 4x4 | size, scale: the head is asked at coordinates; give neither
""".strip().splitlines()


@pytest.mark.parametrize("line", MISTAKES, ids=lambda line: line.split("|")[0].strip())
def test_mistakes_are_one_line(tmp_path, checkpoint, capsys, monkeypatch, line):
    typed, answer = (part.strip() for part in line.split("|"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    try:
        code = main([checkpoint if word == "CHECKPOINT" else word for word in typed.split()])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert (code, answer in said, said.count("\n")) == (2, True, 1), said
    assert not list((tmp_path / "work").iterdir())


def test_without_the_extra(tmp_path, checkpoint, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", "-m", checkpoint, "-o", str(tmp_path / "liif.onnx")]) == 2
    assert "ONNX needs onnxscript" in capsys.readouterr().err
    assert not (tmp_path / "liif.onnx").exists()
