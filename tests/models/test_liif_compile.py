"""The module through torch.compile, torch.export and torch.vmap."""

from __future__ import annotations

import pytest
import torch
from liif_queries import queries
from torch.testing import assert_close

from liif_fast import functional
from liif_fast.head import precision


@pytest.mark.parametrize("grad", [True, False])
def test_compile_fullgraph(tiny, grad):
    model = tiny()
    inp, (coord, cell) = torch.randn(2, 3, 6, 6), queries(2, 20)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.set_grad_enabled(grad):
        for Q in (20, 13):
            got, want = compiled(inp, coord[:, :Q], cell[:, :Q]), model(inp, coord[:, :Q], cell[:, :Q])
            assert_close(got, want)
    if grad:
        parameters = list(model.parameters())
        for a, b in zip(*(torch.autograd.grad(y.square().sum(), parameters) for y in (got, want)), strict=True):
            assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_compile_with_inductor_and_autocast(tiny, monkeypatch):
    """Whole model, forward and backward, dynamic shapes, once with the real backend."""
    monkeypatch.setattr(precision, "FAST_HALF_CPU", (torch.bfloat16,))  # or nothing of it would be in half precision
    model = tiny()
    inp, (coord, cell) = torch.randn(2, 3, 6, 6), queries(2, 20)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    parameters = list(model.parameters())

    def run(module, Q):
        out = module(inp, coord[:, :Q], cell[:, :Q])
        return out, *torch.autograd.grad(out.square().sum(), parameters)

    for Q in (20, 13):
        for a, b in zip(run(compiled, Q), run(model, Q), strict=True):
            assert_close(a, b, rtol=1e-4, atol=1e-4)  # inductor fuses: sums in another order
    wanted = run(model, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(compiled, 20), run(model, 20)
    assert not all(torch.equal(eager, want) for eager, want in zip(found[1], wanted, strict=True))
    for got, eager, want in zip(*found, wanted, strict=True):
        # twice what eager mode loses here, for another order of roundings, or one rounding of the largest value
        tolerance = max(2 * (eager - want).abs().max(), torch.finfo(torch.bfloat16).eps * want.abs().max())
        assert (got - want).abs().max() <= tolerance


@pytest.mark.parametrize("grad", [True, False])
def test_export(tiny, grad):
    model = tiny()
    inp, (coord, cell) = torch.randn(2, 3, 6, 6), queries(2, 20)
    B, H, W, Q = (torch.export.Dim(name, min=1 if name in "BQ" else 2) for name in "BHWQ")
    shapes = {"inp": {0: B, 2: H, 3: W}, "coord": {0: B, 1: Q}, "cell": {0: B, 1: Q}}
    with torch.set_grad_enabled(grad):
        exported = torch.export.export(model, (inp, coord, cell), dynamic_shapes=shapes).module()
        other, at = torch.randn(3, 3, 9, 7), queries(3, 11)
        assert_close(exported(other, *at), model(other, *at))


@pytest.mark.parametrize("function", [functional.query, functional.render])
@pytest.mark.filterwarnings("ignore:.*performance drop")
def test_vmap_of_the_head(tiny, function):
    """By torch's own fallback, one call for each element. (Encoders run channels last, which vmap does not know.)"""
    head = functional.Head(*tiny().requires_grad_(False).head())
    hidden, (coord, cell) = torch.randn(4, 1, 5, 5, 16), queries(1, 9)
    got = torch.vmap(lambda h: function(h, head, coord, cell))(hidden)
    for a, h in zip(got, hidden, strict=True):
        assert_close(a, function(h, head, coord, cell), rtol=1e-5, atol=1e-5)
