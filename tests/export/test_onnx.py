"""ONNX files of a LIIF, run by ONNX Runtime, beside ``upscale`` and ``query``; and ``torch.onnx.export`` of models."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
import torch
from onnx_files import PLAIN, ran, session, small
from torch import nn

import liif_fast
from liif_fast import export

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")

pytestmark = pytest.mark.long
SIZES = [
    ((13, 17), (31, 50)),
    ((8, 9), (8, 9)),
    ((20, 31), (55, 33)),
    ((5, 3), (40, 7)),
    ((1, 1), (3, 2)),
    ((24, 24), (99, 97)),
    ((3, 11), (9, 33)),  # on the centre of a border's pixels rounding decides the weights
]


@pytest.mark.parametrize("flags", [{}, PLAIN], ids=["all", "none"])
def test_any_size(tmp_path, flags):
    model = small(**flags)
    model.data_norm = {"inp": {"sub": [0.4, 0.5, 0.3], "div": [0.5, 0.4, 0.6]}, "gt": {"sub": [0.5], "div": [0.4]}}
    export.to_onnx(model, tmp_path / "liif.onnx")
    for batch, (given, size) in enumerate(SIZES):
        image = torch.rand(1 + batch % 3, 3, *given)
        want = model.upscale(image, size=size, point=True)
        got = ran(tmp_path / "liif.onnx", image=image, size=size)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)  # sums in another order


def test_only_standard_operators_and_free_sizes(tmp_path):
    export.to_onnx(small(), tmp_path / "liif.onnx")
    made = onnx.load(tmp_path / "liif.onnx")
    onnx.checker.check_model(made, full_check=True)
    assert [(x.domain, x.version) for x in made.opset_import] == [("", 18)]
    assert not made.functions
    assert {node.domain for node in made.graph.node} == {""}
    assert (made.producer_name, "any size" in made.doc_string) == ("liif_fast", True)
    (image, size), (result,) = (
        session(tmp_path / "liif.onnx").get_inputs(),
        session(tmp_path / "liif.onnx").get_outputs(),
    )
    assert (image.name, image.type, image.shape[1]) == ("image", "tensor(float)", 3)
    assert all(isinstance(image.shape[i], str) for i in (0, 2, 3))
    assert (size.name, size.type, size.shape) == ("size", "tensor(int64)", [2])
    assert (result.name, result.type) == ("result", "tensor(float)")
    assert [path.name for path in tmp_path.iterdir()] == ["liif.onnx"]


@pytest.mark.parametrize(
    ("how", "given", "size"),
    [
        ({"scale": 3}, (9, 14), (27, 42)),
        ({"size": (33, 20)}, (9, 14), (33, 20)),
        ({"fixed": (11, 12), "scale": 2.5}, (11, 12), (28, 30)),
    ],
)
def test_size_in_the_file(tmp_path, how, given, size):
    model = small()
    export.to_onnx(model, tmp_path / "liif.onnx", **how)
    assert [x.name for x in session(tmp_path / "liif.onnx").get_inputs()] == ["image"]
    image = torch.rand(2, 3, *given)
    torch.testing.assert_close(
        ran(tmp_path / "liif.onnx", image=image), model.upscale(image, size=size), rtol=0, atol=1e-5
    )


def test_float16(tmp_path):
    model = small()
    export.to_onnx(model, tmp_path / "half.onnx", dtype=torch.float16, fixed=(13, 17))
    kinds = {t.data_type for t in onnx.load(tmp_path / "half.onnx").graph.initializer if len(t.dims) > 1}
    assert onnx.TensorProto.FLOAT16 in kinds
    image = torch.rand(1, 3, 13, 17)
    got = ran(tmp_path / "half.onnx", image=image, size=(30, 40))
    torch.testing.assert_close(got, model.upscale(image, size=(30, 40)), rtol=0, atol=3e-3)  # rounded in every layer


def test_opsets(tmp_path, capfd, caplog):
    """A later one is what the file has, or is refused: torch would leave the file at 18, with a trace of why."""
    model, image = small(), torch.rand(1, 3, 9, 11)
    export.to_onnx(model, tmp_path / "later.onnx", opset=21, fixed=(9, 11))
    assert [x.version for x in onnx.load(tmp_path / "later.onnx").opset_import] == [21]
    got = ran(tmp_path / "later.onnx", image=image, size=(20, 31))
    torch.testing.assert_close(got, model.upscale(image, size=(20, 31)), rtol=0, atol=1e-5)
    caplog.clear()
    capfd.readouterr()
    with pytest.raises(ValueError, match="opset: this onnx does not convert to 99; 18 can be had"):
        export.to_onnx(model, tmp_path / "never.onnx", opset=99, fixed=(9, 11))
    assert (capfd.readouterr().err, [r for r in caplog.records if r.levelno > logging.INFO]) == ("", [])
    assert not (tmp_path / "never.onnx").exists()


@pytest.mark.parametrize("flags", [{}, PLAIN], ids=["all", "none"])
def test_head_alone(tmp_path, flags):
    model = small(**flags)
    export.to_onnx(model, tmp_path / "head.onnx", part="head")
    for size, queries in ((9, 4), 33), ((1, 7), 1), ((11, 3), 297):
        feat, coord = torch.randn(2, 8, *size), torch.rand(2, queries, 2) * 2.2 - 1.1
        if size == (11, 3):  # on the centre of a border's pixels rounding decides the weights
            coord = liif_fast.make_coord((33, 9)).expand(2, -1, -1)
        cell = torch.rand(2, queries, 2) * 0.2
        given = {"feat": feat, "coord": coord, **({"cell": cell} if model.cell_decode else {})}
        with torch.no_grad():
            want = model.query(feat, coord, cell)
        torch.testing.assert_close(ran(tmp_path / "head.onnx", **given), want, rtol=1e-5, atol=1e-5)


def test_the_official_weights_on_a_photo(tmp_path, data_dir):
    from PIL import Image

    model = liif_fast.load(data_dir / "weights" / "edsr-baseline-liif.pth")
    export.to_onnx(model, tmp_path / "liif.onnx")
    photo = np.asarray(Image.open(data_dir / "benchmark/Set5/HR/butterfly.png").convert("RGB").crop((30, 40, 78, 80)))
    image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    for size in (80, 96), (131, 157), (40, 48), (160, 50), (61, 200):
        want = model.upscale(image, size=size)
        got = ran(tmp_path / "liif.onnx", image=image, size=size)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


def test_autocast_around_it_changes_nothing(tmp_path):
    model, image = small(), torch.rand(1, 3, 9, 14)
    with torch.autocast("cpu", torch.bfloat16):
        export.to_onnx(model, tmp_path / "liif.onnx", scale=2)
    torch.testing.assert_close(
        ran(tmp_path / "liif.onnx", image=image), model.upscale(image, scale=2), rtol=0, atol=1e-5
    )


def test_openvino_runs_it(tmp_path):
    openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
    model, image = small(), torch.rand(1, 3, 9, 14)
    export.to_onnx(model, tmp_path / "liif.onnx")
    compiled = openvino.Core().compile_model(str(tmp_path / "liif.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    got = compiled([image.numpy(), np.array([20, 31])])[0]
    torch.testing.assert_close(torch.from_numpy(got), model.upscale(image, size=(20, 31)), rtol=0, atol=1e-4)


class Own(liif_fast.LIIF):
    def query(self, feat, coord, cell=None):
        return super().query(feat, coord, cell) * 0


def own():
    model = small()
    return Own(model.encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}})


@pytest.mark.parametrize(
    ("make", "how", "error", "match"),
    [
        (lambda: nn.Linear(2, 2), {}, TypeError, "model: a LIIF is wanted, got a Linear"),
        (lambda: small().quantize(), {}, ValueError, "model: 8-bit layers have no standard form"),
        (own, {}, ValueError, "export: Own has a query of its own"),
        (lambda: small(hidden=()), {"part": "encoder"}, ValueError, "part: one of 'image', 'head' is wanted"),
        (small, {"dtype": torch.bfloat16}, ValueError, "dtype: torch.float32 or torch.float16"),
        (small, {"opset": 17}, ValueError, "opset: a whole number from 18"),
        (small, {"fixed": (0, 3)}, ValueError, "fixed: .*two integers above 0"),
        (small, {"scale": 2.5}, ValueError, "scale: a whole number is wanted where images have any size, got 2.5"),
        (small, {"scale": 2, "size": (3, 4)}, ValueError, "either scale or size"),
        (small, {"part": "head", "scale": 2}, ValueError, "size, scale: the head is asked at coordinates"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, make, how, error, match):
    with pytest.raises(error, match=match):
        export.to_onnx(make(), tmp_path / "liif.onnx", **how)
    assert not list(tmp_path.iterdir())


def test_without_onnxscript(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    for call in (lambda: export.to_onnx(small(), tmp_path / "liif.onnx"), export.onnx_translations):
        with pytest.raises(ImportError, match=r"ONNX needs onnxscript .*pip install"):
            call()


def test_an_encoder_that_cannot_be_traced_is_one_line(tmp_path):
    class Odd(nn.Module):
        out_dim = 3

        def forward(self, x):
            return x * (2 if x.mean() > 0 else 1)

    model = liif_fast.LIIF(Odd(), {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}}).eval()
    with pytest.raises(RuntimeError, match=r"^export: torch.export cannot trace this model: .+$") as caught:
        export.to_onnx(model, tmp_path / "liif.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_halves_says_so(tmp_path):
    class Half(nn.Module):
        out_dim = 4

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 2, stride=2)

        def forward(self, x):
            return self.conv(x)

    model = liif_fast.LIIF(Half(), {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}}).eval()
    with pytest.raises(ValueError, match=r"^fixed: other sides than 13x17 are wanted: .*$"):
        export.to_onnx(model, tmp_path / "liif.onnx")
    export.to_onnx(model, tmp_path / "liif.onnx", fixed=(8, 6))
    image = torch.rand(1, 3, 8, 6)
    want = model.upscale(image, size=(20, 15))
    torch.testing.assert_close(ran(tmp_path / "liif.onnx", image=image, size=(20, 15)), want, rtol=0, atol=1e-5)


def test_what_has_no_form_there_is_one_line(tmp_path):
    class Sorts(nn.Module):
        out_dim = 3

        def forward(self, x):
            return x + torch.linalg.matrix_exp(x[..., :2, :2]).sum()

    model = liif_fast.LIIF(Sorts(), {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}}).eval()
    with pytest.raises(RuntimeError, match=r"^export: torch.onnx cannot translate this model: .+$") as caught:
        export.to_onnx(model, tmp_path / "liif.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [export.to_onnx, export.to_pt2])
def test_a_place_that_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch, write):
    monkeypatch.setattr(torch.export, "export", None)
    (tmp_path / "there.pt2").mkdir()
    with pytest.raises(FileNotFoundError):
        write(small(), tmp_path / "no" / "liif.pt2")
    with pytest.raises(IsADirectoryError, match=r"there\.pt2"):
        write(small(), tmp_path / "there.pt2")
