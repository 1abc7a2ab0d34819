"""SwinIR under torch.func, in forward mode, in graphs around whole images, exported for sides that are not fixed."""

from __future__ import annotations

import pytest
import torch
from small_encoders import make
from swinir_weights import SMALL, fill
from torch.func import grad, jvp, vmap
from torch.testing import assert_close

import liif_fast

IMNET = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}}


@pytest.fixture
def encoder():
    return fill(make("swinir", **SMALL).double()).eval()


def test_other_kinds_of_derivatives(encoder):
    x = torch.rand(2, 3, 10, 13, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    encoder(leaf).square().sum().backward()
    assert_close(grad(lambda a: encoder(a).square().sum())(x), leaf.grad)
    each = vmap(grad(lambda a: encoder(a[None]).square().sum()))(x)
    assert_close(each, leaf.grad)
    direction = torch.rand_like(x)
    _, moved = jvp(lambda a: encoder(a).square().sum(), (x,), (direction,))
    assert_close(moved, (leaf.grad * direction).sum())


@pytest.mark.parametrize("name", ["liif", "lte"])
def test_render_in_one_graph(encoder, name):
    model = liif_fast.make({"name": name, "args": {"encoder_spec": encoder.float(), "imnet_spec": IMNET}}).eval()
    x = torch.rand(1, 3, 10, 13)
    compiled = torch.compile(lambda a: model.render(a, (21, 30)), fullgraph=True, backend="eager")
    assert_close(compiled(x), model.render(x, (21, 30)), rtol=1e-5, atol=1e-6)


def test_exported_for_sides_that_fill_no_windows(encoder):
    sides = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    with torch.no_grad():
        exported = torch.export.export(encoder, (torch.rand(1, 3, 18, 21).double(),), dynamic_shapes=(sides,)).module()
        for size in ((18, 21), (40, 27)):
            x = torch.rand(1, 3, *size, dtype=torch.float64)
            assert_close(exported(x), encoder(x))
