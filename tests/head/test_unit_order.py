"""The order of hidden units that lets kernels skip zeros: the same results, more zeros in groups."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from cpu_paths import PATHS, forced, sample
from random_head import head
from torch.testing import assert_close

from liif_fast import functional, make
from liif_fast.head import ops, unit_order


def test_units_that_are_zero_together_stand_together():
    pattern = torch.rand(200, 4) < 0.5
    zeros = pattern.repeat(1, 4)[:, torch.randperm(16)]  # four families of four equal columns
    order = unit_order.zero_together(zeros, 4)
    assert order.sort().values.equal(torch.arange(16))
    grouped = zeros[:, order].view(200, 4, 4)
    assert (grouped == grouped[..., :1]).all()


@pytest.mark.parametrize("units", [1, 5, 6, 7])
def test_widths_that_do_not_divide_keep_all_units(units):
    order = unit_order.zero_together(torch.rand(30, units) < 0.5, 4)
    assert order.sort().values.equal(torch.arange(units))


@pytest.mark.parametrize("L", [0, 1, 3])
def test_the_result_stays(L):
    before, feat = head(L, 32), torch.randn(2, 3, 5, 6)
    s = sample(h=5, w=6, D=32, Q=150)
    hidden = functional.hidden_map(feat, before)
    h = ops.PLAIN["corner_gather"](hidden, s.coord, s.cell, before.w_pos, (5, 6), (0, 0))[0]
    after = unit_order.applied(before, unit_order.find(before, h[0]))
    colours = [functional.query(functional.hidden_map(feat, x), x, s.coord, s.cell) for x in (before, after)]
    assert_close(colours[0], colours[1], rtol=1e-5, atol=1e-5)  # sums in another order
    assert (L == 0) == after.w_conv.equal(before.w_conv)


def test_more_groups_are_zero():
    before, feat = head(2, 64), torch.nn.functional.interpolate(torch.randn(1, 3, 3, 3), (12, 12), mode="bicubic")
    coord = functional.make_coord([48, 48])[None]
    cell = torch.full_like(coord, 2 / 48)

    def zero_groups(x):
        hidden = functional.hidden_map(feat, x)
        h = ops.PLAIN["corner_gather"](hidden, coord, cell, x.w_pos, (12, 12), (0, 0))[0][0]
        tiles = (h.unflatten(0, (-1, 48)).transpose(1, 2).reshape(-1, 6, 16, 4) == 0).all(3).all(1)
        return tiles.float().mean(), h

    share, h = zero_groups(before)
    assert zero_groups(unit_order.applied(before, unit_order.find(before, h)))[0] > share + 0.05


@pytest.fixture
def integers():
    """The kernels that multiply bfloat16 as integers, also where the processor has faster ones."""
    path = next((name for name in reversed(PATHS) if name.endswith("vnni")), None)
    with forced(path) if path else contextlib.nullcontext():
        if not ops.integer_bfloat16():
            pytest.skip("bfloat16 is not multiplied as integers here")
        yield


@pytest.mark.parametrize("whole", [True, False])
def test_bfloat16_images_are_the_same_to_the_bit(integers, whole, monkeypatch):
    model = make(
        {
            "name": "liif",
            "args": {
                "encoder_spec": {
                    "name": "edsr-baseline",
                    "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True},
                },
                "imnet_spec": {
                    "name": "mlp",
                    "args": {"out_dim": 3, "hidden_list": [48] * 3 if whole else [48, 32, 48]},
                },
            },
        }
    ).eval()
    image = torch.rand(1, 3, 24, 20) * 2 - 1
    before = model.render(image, (50, 60), dtype=torch.bfloat16)
    assert model._order._weights is None  # too few pixels
    monkeypatch.setattr(unit_order, "WORTH", 1)
    applied = []
    monkeypatch.setattr(unit_order, "applied", lambda *a, f=unit_order.applied: applied.append(a) or f(*a))
    after = [model.render(image, (50, 60), dtype=torch.bfloat16) for _ in range(2)]
    assert len(applied) == 2 * whole  # layers of different widths stay as they are
    assert all(x.equal(before) for x in after)
    order = model._order._orders
    with torch.no_grad():
        model.imnet.layers[2].weight.mul_(-1)
    model.render(image, (50, 60), dtype=torch.bfloat16)
    assert not whole or model._order._orders is not order
    assert copy.deepcopy(model)._order._weights is None
