"""Results kept between calls hold only as long as what they were computed from: any write shows."""

from __future__ import annotations

import copy

import pytest
import torch
from liif_queries import by_reference, queries
from torch.testing import assert_close

import liif_fast
from liif_fast.head import kept, unit_order


def fused(kind, **options):
    def step(model):
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1, fused=True, **options)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()

    return step


def through_numpy(model):
    model.imnet.layers[0].weight.detach().numpy()[:] *= 2


def by_data(model):
    model.imnet.layers[0].weight.data.mul_(2)


def foreach(model):
    torch._foreach_mul_([p.data for p in model.parameters()], 2)


def inference(model):
    with torch.inference_mode():
        model.imnet.layers[0].bias.add_(1)


def storage(model):
    other = torch.randn_like(model.imnet.layers[0].weight)
    model.imnet.layers[0].weight.data.untyped_storage().copy_(other.untyped_storage())


def state_dict(model):
    model.load_state_dict({name: t * 2 for name, t in model.state_dict().items()})


def features_by_numpy(model):
    model.feat.numpy()[:] *= 2


def features_by_data(model):
    model.feat.data.add_(1)


def last_value(model):
    model.feat.data.view(-1)[-1] += 1


WRITES = {
    "Adam": fused("Adam"),
    "AdamW": fused("AdamW"),
    "SGD": fused("SGD", momentum=0.9),
    "numpy": through_numpy,
    "data": by_data,
    "foreach": foreach,
    "inference mode": inference,
    "storage": storage,
    "state dict": state_dict,
    "features, numpy": features_by_numpy,
    "features, data": features_by_data,
    "features, last value": last_value,
}


@pytest.mark.parametrize(
    ("write", "first"),
    # tensors of inference mode cannot be written outside of it
    [(w, f) for w in WRITES for f in ("no_grad", "inference_mode") if f == "no_grad" or "features" not in w],
)
def test_query_rgb_after_a_write(tiny, write, first):
    """The features are those of gen_feat, as in the official code; the weights are today's."""
    model = tiny()
    inp, (coord, cell) = torch.randn(1, 3, 6, 5), queries(1, 40)
    with getattr(torch, first)():
        feat = model.gen_feat(inp)
        before = model.query_rgb(coord, cell)
    with torch.no_grad():
        WRITES[write](model)
        got = model.query_rgb(coord, cell)
        assert_close(got, model.query(model.feat, coord, cell), rtol=0, atol=0)  # the same computation
    assert (got - before).abs().max() > 1e-4
    assert feat.shape == model.feat.shape


def test_training_between_queries_of_kept_features(tiny):
    """What a user does: features once, then steps of a fused optimizer on the MLP and looks at the colours."""
    model = tiny()
    model.encoder.requires_grad_(False)
    optimizer = torch.optim.Adam(model.imnet.parameters(), lr=1e-2, fused=True)
    inp, (coord, cell) = torch.rand(1, 3, 6, 6), queries(1, 30)
    model.gen_feat(inp)
    for _ in range(3):
        loss = model.query_rgb(coord, cell).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            seen = model.query_rgb(coord, cell)
            # float32, another order of sums
            assert_close(seen, by_reference(model, inp, coord, cell), rtol=1e-5, atol=1e-5)


def test_settings_that_change_the_map_are_part_of_it(tiny):
    model = tiny([32, 32, 32], 16)
    inp, (coord, cell) = torch.randn(1, 3, 8, 8), queries(1, 40)
    with torch.no_grad():
        model.gen_feat(inp)
        exact = model.query_rgb(coord, cell)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not torch.equal(model.query_rgb(coord, cell), exact)
        assert torch.equal(model.query_rgb(coord, cell), exact)


@pytest.mark.parametrize(
    "change",
    [lambda t: t.view(-1)[-1].add_(1), lambda t: t.view(-1)[0].neg_(), lambda t: t.view(-1)[3].fill_(torch.nan)],
    ids=["last", "first", "nan"],
)
@pytest.mark.parametrize("shape", [(3,), (4,), (2, 3), (2, 3, 4, 5), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "slice"])
def test_every_value_counts(change, shape, dtype, layout):
    t = torch.randn(shape, dtype=dtype).abs() + 1
    if layout == "channels_last" and len(shape) == 4:
        t = t.contiguous(memory_format=torch.channels_last)
    elif layout == "slice":
        t = torch.cat([t, t])[len(t) :]
    old = kept.copies([t])
    assert kept.same(old, [t])
    if t.numel() > 3:
        change(t.permute(0, 2, 3, 1) if layout == "channels_last" and len(shape) == 4 else t)
        assert not kept.same(old, [t])
    assert not kept.same(None, [t])
    assert not kept.same(old, [t, t])
    assert not kept.same(old, [t.half()])


def test_the_same_result_object_as_long_as_it_holds():
    given, calls, keeper = torch.ones(5), [], kept.Kept()

    def compute():
        calls.append(1)
        return given * 2

    results = [keeper.get([given], "a", compute) for _ in range(3)]
    assert results[0] is results[1] is results[2]
    given.numpy()[4] = 7
    assert keeper.get([given], "a", compute)[4] == 14
    keeper.get([given], "b", compute)
    assert len(calls) == 3


def test_orders_of_units_fit_the_head_whatever_was_remembered(monkeypatch):
    """An order of other weights would be right as well, one of another width would leave out units."""
    monkeypatch.setattr(unit_order, "WORTH", 1)
    remembered, feat = unit_order.Remembered(), torch.randn(1, 3, 6, 6)
    from random_head import head

    first = head(2, 16)
    assert remembered.head(first, feat, 100, True, True).mlp[0][0].shape == (16, 16)
    orders = remembered._orders
    assert remembered.head(first, feat, 0, True, True).mlp[0][0].shape == (16, 16)
    assert remembered._orders is orders  # not looked for again
    wide = head(2, 32)
    given = remembered.head(wide, feat, 100, True, True)
    assert given.mlp[0][0].shape == (32, 32)
    first.mlp[0][0].numpy()[:] *= -1
    assert remembered.head(first, feat, 0, True, True) is first  # too few queries to look for another order


@pytest.mark.parametrize("write", ["data", "numpy", "fused", "images", "mode"])
def test_baselines_keep_no_stale_image(write):
    model = liif_fast.make({"name": "srcnn", "args": {}}).eval()
    inp, coord = torch.rand(1, 3, 8, 8), torch.rand(1, 20, 2) * 2 - 1
    cell = torch.full((1, 20, 2), 2 / 16)
    with torch.no_grad():
        model.gen_feat(inp)
        before = model.query_rgb(coord, cell)
        kept_image = model._rendered.result
        model.query_rgb(coord, cell)
        assert model._rendered.result is kept_image
        parameter = next(model.parameters())
        if write == "data":
            parameter.data.mul_(2)
        elif write == "numpy":
            parameter.numpy()[:] *= 2
        elif write == "fused":
            parameter.grad = torch.ones_like(parameter)
            torch.optim.Adam([parameter], lr=0.1, fused=True).step()
        elif write == "images":
            inp.numpy()[:] = 0.5
        else:
            model.render, render = (lambda *a: render(*a) * (1 if model.training else 2)), model.render
            model.gen_feat(inp)
            before = model.query_rgb(coord, cell)
            model.train()
        after = model.query_rgb(coord, cell)
        assert torch.equal(after, copy.deepcopy(model)(inp, coord, cell) if write != "mode" else before / 2)
    assert (after - before).abs().max() > 1e-4
