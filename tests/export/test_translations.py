"""``torch.onnx.export`` of what calls our operators, with the table that translates them."""

from __future__ import annotations

import pytest
import torch
from onnx_files import session, small
from torch import nn

import liif_fast
from liif_fast import export

pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")

pytestmark = pytest.mark.long
ANY = torch.export.Dim.DYNAMIC


class Asks(nn.Module):
    """``operator`` of a hidden map, with some of its pixels left out, as of a tile."""

    def __init__(self, operator, ensemble):
        super().__init__()
        self.operator, self.ensemble = operator, ensemble
        self.weights = [torch.randn(s) / 3 for s in ((16, 4), (2, 16, 16), (2, 16), (3, 16), (3,))]

    def forward(self, hidden, coord, cell):
        op, (w_pos, *rest) = getattr(torch.ops.liif_fast, self.operator), self.weights
        if self.operator == "corner_gather":
            return op(hidden, coord, cell, w_pos, (20, 30), (0, 4), self.ensemble)
        where = () if self.operator == "decode" else ((20, 30), (0, 4))
        return (op(hidden, coord, cell, w_pos, *rest, *where, self.ensemble),)


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("operator", ["corner_gather", "render", "decode"])
def test_translations_are_the_operators(tmp_path, operator, ensemble):
    torch.manual_seed(0)
    module, hidden, cell = Asks(operator, ensemble).eval(), torch.randn(2, 20, 20, 16), torch.rand(2, 15, 2)
    coord = torch.rand(2, 15, 2) * torch.tensor([2.1, 1.0]) - torch.tensor([1.05, 0.5])
    made = torch.onnx.export(
        module, (hidden, coord, cell), custom_translation_table=export.onnx_translations(), opset_version=18,
        input_names=["hidden", "coord", "cell"], verbose=False, dynamo=True,
    )  # fmt: skip
    made.save(tmp_path / "op.onnx")
    given = {"hidden": hidden.numpy(), "coord": coord.numpy(), "cell": cell.numpy()}
    got = session(tmp_path / "op.onnx").run(None, given)
    for one, other in zip(got, module(hidden, coord, cell), strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grad", [True, False])
def test_torchs_exporter_with_the_table(tmp_path, grad):
    model = small()
    given = torch.rand(2, 3, 11, 13), torch.rand(2, 31, 2) * 2 - 1, torch.full((2, 31, 2), 0.03)
    with torch.set_grad_enabled(grad):
        made = torch.onnx.export(
            model, given, custom_translation_table=export.onnx_translations(), input_names=["inp", "coord", "cell"],
            dynamic_shapes=({0: ANY, 2: ANY, 3: ANY}, {0: ANY, 1: ANY}, {0: ANY, 1: ANY}), verbose=False, dynamo=True,
        )  # fmt: skip
    made.save(tmp_path / "model.onnx")
    # an odd factor: on the centre of a border's pixels rounding decides the weights
    inp, coord = torch.rand(1, 3, 11, 3), liif_fast.make_coord((33, 9))[None]
    cell = torch.full_like(coord, 0.25)
    feed = {"inp": inp.numpy(), "coord": coord.numpy(), "cell": cell.numpy()}
    with torch.no_grad():
        want = model(inp, coord, cell)
    got = session(tmp_path / "model.onnx").run(None, feed)[0]
    torch.testing.assert_close(torch.from_numpy(got), want, rtol=1e-5, atol=1e-5)
