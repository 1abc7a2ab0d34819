"""What someone changes in an LTE has its effect, under torch's transforms and compilers."""

from __future__ import annotations

import copy
import types

import pytest
import torch
from conftest import TinyEncoder
from liif_queries import grid_of
from lte_models import IMNET, KINDS, by_reference, given
from torch import nn
from torch.testing import assert_close

import liif_fast
from liif_fast.head import precision
from liif_fast.models.lte import LTE

ENCODER = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}


@pytest.fixture(params=KINDS)
def model(request):
    return KINDS[request.param]().eval()


class Twice(nn.Conv2d):
    def _conv_forward(self, *given):
        return 2 * super()._conv_forward(*given)


def exchanged(model, make):
    new = make(6, 20, 3, padding=1)
    new.load_state_dict(model.coef.state_dict())
    model.coef = new


CHANGES = {
    "coef of another kind": lambda m: setattr(m, "coef", nn.Sequential(nn.Conv2d(6, 20, 3, padding=1), nn.Tanh())),
    "coef of a class of one's own": lambda m: exchanged(m, Twice),
    "coef that pads otherwise": lambda m: setattr(m.coef, "padding_mode", "circular"),
    "coef without a bias": lambda m: setattr(m, "coef", nn.Conv2d(6, 20, 3, padding=1, bias=False)),
    "1x1 freq": lambda m: setattr(m, "freq", nn.Conv2d(6, 20, 1)),
    "hook on freq": lambda m: m.freq.register_forward_hook(lambda module, args, out: out * 2),
    "forward of freq": lambda m: setattr(m.freq, "forward", lambda x: nn.Conv2d.forward(m.freq, x) ** 2),
    "phase with a bias": lambda m: setattr(m, "phase", nn.Linear(2, 10)),
    "hook on phase": lambda m: m.phase.register_forward_hook(lambda module, args, out: out + 1),
    "parametrized freq": lambda m: nn.utils.parametrizations.weight_norm(m.freq),
    "activation": lambda m: (m.imnet or m).layers.__setitem__(1, nn.GELU()),
    "hook on a layer": lambda m: (m.imnet or m).layers[2].register_forward_hook(lambda q, a, out: out * 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_layers(model, change):
    inp, coord, cell = given(1)
    before = model(inp, coord, cell)
    CHANGES[change](model)
    want = by_reference(model, inp, coord, cell)
    assert change == "parametrized freq" or (want - before).abs().max() > 1e-3
    assert (model.head() is None) == (change != "parametrized freq")
    leaves = list(model.parameters())
    got = model(inp, coord, cell)
    assert_close(got, want, rtol=1e-5, atol=1e-5)
    grads = [torch.autograd.grad(y.square().sum(), leaves) for y in (got, want)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-4 * max(1.0, b.abs().max().item()))
    with torch.no_grad():
        grid = by_reference(model, inp, *grid_of((9, 8))).mT.unflatten(2, (9, 8))
        assert_close(model(inp, coord, cell), want, rtol=1e-5, atol=1e-5)
    assert_close(model.render(inp, (9, 8)), grid, rtol=1e-5, atol=1e-5)


def test_an_imnet_of_ones_own():
    @liif_fast.register("test-lte-sine")
    class Sine(nn.Module):
        def __init__(self, in_dim):
            super().__init__()
            self.linear = nn.Linear(in_dim, 3)

        def forward(self, x):
            return self.linear(x).sin()

    model = LTE(TinyEncoder(), {"name": "test-lte-sine"}, 20).eval()
    inp, coord, cell = given()
    assert_close(model(inp, coord, cell), by_reference(model, inp, coord, cell))
    assert model.upscale(torch.rand(3, 20, 18), scale=2).shape == (3, 40, 36)
    with pytest.raises(ValueError, match="tile"):
        model.upscale(torch.rand(3, 20, 18), scale=2, tile=8)


def test_channels_that_do_not_fit_are_said_by_torch(model):
    model.coef = nn.Conv2d(6, 24, 3, padding=1)
    with pytest.raises(RuntimeError, match="must match"):
        model(*given())


# ---- methods ----


class OwnColours(LTE):
    def query_rgb(self, coord, cell=None):
        return 3 * super().query_rgb(coord, cell)


class OwnQuery(LTE):
    def query(self, feat, coord, cell=None, inp=None):
        return -super().query(feat, coord, cell, inp)


class OwnFeatures(LTE):
    def gen_feat(self, inp):
        self.feat = 2 * super().gen_feat(inp)
        return self.feat


def on_the_instance(*args):
    model = LTE(*args)
    model.query_rgb = types.MethodType(lambda self, coord, cell=None: 3 * LTE.query_rgb(self, coord, cell), model)
    return model


@pytest.mark.parametrize("kind", [OwnColours, OwnQuery, OwnFeatures, on_the_instance])
def test_methods_of_ones_own(kind):
    model, plain = (make(TinyEncoder(), IMNET, 20).eval() for make in (kind, LTE))
    plain.load_state_dict(model.state_dict())
    inp, size = torch.rand(2, 3, 7, 6), (11, 9)
    with torch.no_grad():
        want = model(inp, *grid_of(size, 2)).mT.unflatten(2, size)
    assert (want - plain.render(inp, size)).abs().max() > 5e-3
    assert_close(model.render(inp, size), want, rtol=1e-5, atol=1e-6)
    assert_close(model.renderer(size)(inp), want, rtol=1e-5, atol=1e-6)
    assert model.inp is inp
    model.render(torch.rand(1, 3, 5, 5), (8, 8))
    assert model.inp is inp  # as it was
    with pytest.raises(ValueError, match="of its own, so there are no exact tiles"):
        model.upscale(torch.rand(3, 8, 8), scale=2, tile=4)


def test_a_replica_of_data_parallel_has_gradients():
    """Replicas hold plain tensors, no parameters; with a frozen encoder nothing else asks for a gradient."""
    model = KINDS["lte"]()
    model.encoder.requires_grad_(False)
    leaves = {name: p for name, p in model.named_parameters() if not name.startswith("encoder")}
    replica = model._replicate_for_data_parallel()
    for part in ("coef", "freq", "phase", "imnet"):
        setattr(replica, part, copy.deepcopy(getattr(model, part)))
    for name, p in leaves.items():
        path, last = name.rsplit(".", 1)
        del replica.get_submodule(path)._parameters[last]
        setattr(replica.get_submodule(path), last, p * 1)
    inp, coord, cell = given()
    grads = torch.autograd.grad(replica(inp, coord, cell).sum(), list(leaves.values()))
    assert all(g.abs().max() > 0 for g in grads)
    assert_close(replica(inp, coord, cell), model(inp, coord, cell))


# ---- transforms, autocast, compilers ----


def test_transforms(model):
    model = model.double()
    inp, coord, cell = given(1, Q=6, dtype=torch.float64)
    tight = {"rtol": 1e-8, "atol": 1e-8}

    def ours(*leaves):
        return model(*leaves).square().sum()

    def theirs(*leaves):
        return by_reference(model, *leaves).square().sum()

    for argnum in range(3):
        got, want = (torch.func.grad(f, argnums=argnum)(inp, coord, cell) for f in (ours, theirs))
        assert want.abs().max() > 1e-3
        assert_close(got, want, **tight)
        tangents = tuple(
            torch.randn_like(t) if i == argnum else torch.zeros_like(t) for i, t in enumerate((inp, coord, cell))
        )
        _, along = torch.func.jvp(ours, (inp, coord, cell), tangents)
        assert_close(along, (want * tangents[argnum]).sum(), **tight)
    images = torch.randn(3, *inp.shape, dtype=torch.float64)
    each = torch.stack([model(x, coord, cell) for x in images])
    model._forget()
    assert_close(torch.func.vmap(lambda x: model(x, coord, cell))(images), each, **tight)
    assert model.feat is None
    assert model.inp is None  # nothing of a transform is kept


def test_a_training_step_under_autocast(model, monkeypatch):
    monkeypatch.setattr(precision, "FAST_HALF_CPU", (torch.bfloat16,))  # or nothing of it would be in half precision
    inp, coord, cell = given()
    leaves = list(model.parameters())

    def step():
        out = model(inp, coord, cell)
        return out, *torch.autograd.grad(out.abs().mean(), leaves)

    want = step()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = step()
    assert all(g.dtype == torch.float32 for g in got)
    assert not torch.equal(got[0], want[0])
    for a, b in zip(got, want, strict=True):
        assert (a - b).norm() < 0.1 * b.norm()  # 8 bits, and masks of a few ReLUs


def test_training_learns(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inp, coord, cell = given(2, (8, 8), 64)
    gt = (coord.sum(-1, keepdim=True) > 0).float().expand(-1, -1, 3)
    losses = []
    for _ in range(60):
        loss = nn.functional.l1_loss(model(inp, coord, cell), gt)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("train", [True, False])
def test_compile_fullgraph(no_compiled_code, model, train):
    inp, coord, cell = given()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.set_grad_enabled(train):
        for Q in (20, 13):
            got, want = compiled(inp, coord[:, :Q], cell[:, :Q]), model(inp, coord[:, :Q], cell[:, :Q])
            assert_close(got, want)
    if train:
        leaves = list(model.parameters())
        for a, b in zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in (got, want)), strict=True):
            assert_close(a, b, rtol=1e-4, atol=1e-5)
