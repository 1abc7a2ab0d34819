"""The module in half precision, by autocast and by ``to``."""

from __future__ import annotations

import copy

import pytest
import torch
from liif_queries import by_reference, queries

from liif_fast import functional


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grad", [True, False])
def test_half_precision_by_autocast_and_by_to(tiny, products, dtype, grad):
    model = tiny([32, 32, 32], 16)
    inp, (coord, cell) = torch.randn(2, 3, 8, 8), queries(2, 500)
    with torch.set_grad_enabled(grad):
        want = model(inp, coord, cell)
        with torch.autocast("cpu", dtype=dtype):
            cast = model(inp, coord, cell)
            reference_error = (by_reference(model, inp, coord, cell) - want).abs().max()
        half = copy.deepcopy(model).to(dtype)(inp, coord, cell)
    # as good as plain torch in that precision is, twice over for another order of roundings
    for got in (cast, half):
        assert got.dtype == torch.float32
        assert (got - want).abs().max() <= 2 * max(reference_error, torch.finfo(dtype).eps * want.abs().max())


def test_half_precision_coordinates_stay_float32(tiny):
    """At width 2000, float32 queries must not be rounded to bfloat16 (three digits) inside a bfloat16 model."""
    model = tiny().to(torch.bfloat16)
    coord = functional.make_coord((1, 2000))[None]
    feat = torch.randn(1, 6, 1, 2000, dtype=torch.bfloat16)
    with torch.no_grad():
        got = model.query(feat, coord, torch.full_like(coord, 1e-3))
        want = model.float().query(feat.float(), coord, torch.full_like(coord, 1e-3))
    assert (got - want).abs().mean() <= 2**-7 * want.abs().mean() * 4  # bfloat16's step, a few layers deep
