"""LTE, LTE+ and SwinIR in ONNX files and AOTInductor's packages, beside ``upscale`` and ``query``."""

from __future__ import annotations

import shutil

import pytest
import torch
from onnx_files import ran, session
from torch import nn

import liif_fast
from liif_fast import export
from liif_fast.models.lte import LTE

pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")

pytestmark = pytest.mark.long
ENCODERS = {
    "edsr": {"name": "edsr-baseline", "args": {"n_resblocks": 2, "n_feats": 8, "no_upsampling": True}},
    "swinir": {
        "name": "swinir",
        "args": {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 4, "img_size": 8},
    },
}
NORM = {"inp": {"sub": [0.4, 0.5, 0.3], "div": [0.5, 0.4, 0.6]}, "gt": {"sub": [0.5], "div": [0.4]}}
SIZES = [
    ((13, 17), (31, 50)),
    ((8, 9), (8, 9)),
    ((20, 31), (55, 33)),
    ((5, 3), (40, 7)),
    ((1, 1), (3, 2)),
    ((3, 11), (9, 33)),  # on the centre of a border's pixels rounding decides the weights
]


def small(name="lte", encoder="edsr"):
    """Of weights that make waves of several periods, and colours as large as those of the image."""
    mlp = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [24, 32]}}
    args = {"lte": {"hidden_dim": 12, "imnet_spec": mlp}, "lte-fast": {"hidden_dim": 12}, "liif": {"imnet_spec": mlp}}
    torch.manual_seed(0)
    spec = ENCODERS.get(encoder, encoder)
    made = liif_fast.make({"name": name, "args": {"encoder_spec": spec, **args[name]}}).eval()
    made.data_norm = NORM
    with torch.no_grad():
        for layer in (made.coef, made.freq, made.phase) if name != "liif" else ():
            layer.weight *= 10
        [layer for layer in made.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1].weight *= 3
    return made


def test_colours_are_the_heads_too():
    """What the tests below compare is not the image alone."""
    model, image = small(), torch.rand(1, 3, 13, 17)
    waves = model.upscale(image, size=(31, 50), point=True)
    with torch.no_grad():
        model.coef.weight.zero_()
        model.coef.bias.zero_()
    assert (waves - model.upscale(image, size=(31, 50), point=True)).std() > 0.02


@pytest.mark.parametrize("name", ["lte", "lte-fast"])
def test_any_size(tmp_path, name):
    model = small(name)
    export.to_onnx(model, tmp_path / "lte.onnx")
    for batch, (given, size) in enumerate(SIZES):
        image = torch.rand(1 + batch % 3, 3, *given)
        want = model.upscale(image, size=size, point=True)
        got = ran(tmp_path / "lte.onnx", image=image, size=size)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)  # sums in another order


@pytest.mark.parametrize("scale", [2, 0.5])
def test_features_of_another_size_than_the_image(tmp_path, scale):
    """The image is read between its own pixels."""

    class Scaled(nn.Module):
        out_dim = 4

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            return nn.functional.interpolate(self.conv(x), scale_factor=scale)

    model, image = small("lte-fast", encoder=Scaled()), torch.rand(1, 3, 8, 6)
    export.to_onnx(model, tmp_path / "lte.onnx", fixed=(8, 6), scale=2.5)
    want = model.upscale(image, size=(20, 15), point=True)
    torch.testing.assert_close(ran(tmp_path / "lte.onnx", image=image), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("encoder", ["edsr", "swinir"])
def test_float16(tmp_path, encoder):
    model, image = small(encoder=encoder), torch.rand(1, 3, 13, 17)
    export.to_onnx(model, tmp_path / "half.onnx", dtype=torch.float16, fixed=(13, 17))
    got = ran(tmp_path / "half.onnx", image=image, size=(30, 40))
    want = model.upscale(image, size=(30, 40))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-2)  # frequencies up to 6, of 11 bits
    assert (got - want).square().mean().sqrt() < 1e-3


@pytest.mark.parametrize("name", ["lte", "lte-fast"])
def test_head_alone(tmp_path, name):
    model = small(name)
    export.to_onnx(model, tmp_path / "head.onnx", part="head")
    names = ["feat", "coord", "cell", "inp"]
    assert [x.name for x in session(tmp_path / "head.onnx").get_inputs()] == names
    larger = (2, 14) if name == "lte-fast" else (1, 7)
    for size, queries, images in ((9, 4), 33, (9, 4)), ((1, 7), 1, larger), ((11, 3), 297, (11, 3)):
        feat, coord = torch.randn(2, 8, *size), torch.rand(2, queries, 2) * 2.2 - 1.1
        if size == (11, 3):  # on the centre of a border's pixels rounding decides the weights
            coord = liif_fast.make_coord((33, 9)).expand(2, -1, -1)
        cell, inp = torch.rand(2, queries, 2) * 0.2, torch.randn(2, 3, *images)
        with torch.no_grad():
            want = model.query(feat, coord, cell, inp)
        given = {"feat": feat, "coord": coord, "cell": cell, "inp": inp}
        got = ran(tmp_path / "head.onnx", **{name: given[name] for name in names})
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)  # as query from float64: angles of tens


@pytest.mark.parametrize("name", ["liif", "lte"])
@pytest.mark.parametrize("given", [(13, 17), (3, 5)], ids=["large", "small"])
def test_swinir(tmp_path, name, given):
    """Sides that are no whole windows; ``small`` ones have no window inside of the image."""
    model = small(name, "swinir")
    export.to_onnx(model, tmp_path / "swinir.onnx", fixed=given)
    for batch, size in (1, (29, 40)), (3, (61, 34)):
        image = torch.rand(batch, 3, *given)
        want = model.upscale(image, size=size, point=True)
        got = ran(tmp_path / "swinir.onnx", image=image, size=size)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize(("encoder", "how"), [("edsr", {}), ("swinir", {"fixed": (13, 17)})])
def test_packages(tmp_path, encoder, how):
    model = small(encoder=encoder)
    export.to_pt2(model, tmp_path / "lte.pt2", **how)
    run = torch._inductor.aoti_load_package(str(tmp_path / "lte.pt2"))
    for (batch, given), size in zip([(1, (13, 17)), (2, (9, 14))], [(31, 50), (8, 57)], strict=True):
        image = torch.rand(batch, 3, *how.get("fixed", given))
        want = model.upscale(image, size=size, point=True)
        torch.testing.assert_close(run(image, torch.tensor(size)), want, rtol=0, atol=1e-5)


class Own(LTE):
    def query(self, feat, coord, cell=None, inp=None):
        return super().query(feat, coord, cell, inp) * 0


def hooked():
    model = small()
    model.freq.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("make", "how", "match"),
    [
        (lambda: Own(**small()._arguments()), {}, "export: Own has a query of its own"),
        (hooked, {}, "export: this model's MLP is not liif_fast's, or a layer of its head has been changed"),
        (lambda: small("lte", "swinir"), {}, "fixed: this model's encoder works on windows of 4: give images'"),
        (small, {"part": "head", "scale": 2}, "size, scale: the head is asked at coordinates"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, make, how, match):
    with pytest.raises(ValueError, match=match):
        export.to_onnx(make(), tmp_path / "lte.onnx", **how)
    assert not list(tmp_path.iterdir())
