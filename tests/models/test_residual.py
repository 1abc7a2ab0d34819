"""EDSR's residual blocks in half precision on CUDA, on the CPU with a stand-in for cuDNN's call: when they are computed
in fewer passes, and to which numbers."""

from __future__ import annotations

import copy
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import liif_fast
from liif_fast.head.triton import small
from liif_fast.models.encoders import edsr, residual

BF16 = torch.bfloat16
ROUNDED = {"rtol": 0.02, "atol": 0.02}  # ten layers, each rounded to 8 bits (2^-9), of features of about unit size


def encoder(**args):
    torch.manual_seed(0)
    args = {"n_resblocks": 3, "n_feats": 8, "res_scale": 0.3, "no_upsampling": True, **args}
    return liif_fast.make({"name": "edsr-baseline", "args": args}).eval()


@pytest.fixture
def joined(monkeypatch):
    """As on CUDA; the calls of cuDNN's convolution with bias and ReLU."""
    calls = []

    def convolution(x, w, z, alpha, b, stride, padding, dilation, groups):
        assert alpha == 0
        for t in (x, w, z):
            assert t.dtype in (BF16, torch.float16)
            assert t.is_contiguous(memory_format=torch.channels_last)
        calls.append(x.dtype)
        wide = F.conv2d(x.float(), w.float(), b.float(), stride, padding, dilation, groups).relu()
        return wide.to(x.dtype, memory_format=torch.channels_last)

    monkeypatch.setattr(residual, "on_cuda", lambda x: True)
    monkeypatch.setattr(small, "_said", set())
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", convolution)
    return calls


def by_modules(model, x, dtype=BF16):
    with pytest.MonkeyPatch.context() as patch, torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        patch.setattr(residual, "on_cuda", lambda x: False)
        return model(x)


def run(model, x, dtype=BF16):
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        return model(x)


@pytest.mark.parametrize("dtype", [BF16, torch.float16])
@pytest.mark.parametrize("args", [{}, {"res_scale": 1}, {"n_resblocks": 1, "n_feats": 5}, {"no_upsampling": False}])
def test_numbers(joined, dtype, args):
    """No further from float64 than the modules in the same precision, which round more often."""
    model, x = encoder(**args), torch.rand(2, 3, 9, 7)
    ours, modules = run(model, x, dtype), by_modules(model, x, dtype)
    assert joined == [dtype] * args.get("n_resblocks", 3)
    assert ours.dtype == modules.dtype
    want = copy.deepcopy(model).double()(x.double()).detach()
    error, plain = ((t - want).abs().max() for t in (ours, modules))
    assert error <= 1.5 * plain
    assert plain > 0


def test_a_model_in_half_precision(joined):
    model, x = encoder().to(BF16), torch.rand(1, 3, 9, 7, dtype=BF16)
    with torch.no_grad():
        ours = model(x)
    assert joined == [BF16] * 3
    torch.testing.assert_close(ours.float(), copy.deepcopy(model).float()(x.float()).detach(), **ROUNDED)


def test_new_weights_in_place_are_seen(joined):
    """By a write that no version counter tells of, too."""
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    before = run(model, x)
    model.body[1].body[2].weight.data.mul_(3)
    ours = run(model, x)
    assert not torch.equal(ours, before)
    torch.testing.assert_close(ours.float(), by_modules(model, x).float(), **ROUNDED)


def test_weights_with_channels_last(joined):
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    want = run(model, x)
    assert torch.equal(run(model.to(memory_format=torch.channels_last), x), want)


def test_the_model_is_left_as_it_is(joined):
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    before = [(id(p), p.dtype, p.stride(), p.clone()) for p in model.parameters()]
    run(model, x)
    for p, (same, dtype, stride, values) in zip(model.parameters(), before, strict=True):
        assert (id(p), p.dtype, p.stride()) == (same, dtype, stride)
        assert torch.equal(p, values)


class Halved(nn.ReLU):
    def forward(self, x):
        return super().forward(x) / 2


class Other(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight * 2, bias)


def own_convolution(m):
    layer = m.body[0].body[0]
    layer._conv_forward = lambda x, weight, bias, f=layer._conv_forward: f(x, weight * 2, bias)


def own_block(m):
    m.body[1].forward = lambda x, f=m.body[1].forward: f(x) * 2


def parametrized(m):
    nn.utils.parametrizations.weight_norm(m.body[0].body[2])
    with torch.no_grad():
        m.body[0].body[2].parametrizations.weight.original0.mul_(2)


CHANGES = {
    "hook": lambda m: m.body[1].body[0].register_forward_hook(lambda module, given, out: out * 2),
    "hook of a block": lambda m: m.body[2].register_forward_pre_hook(lambda module, given: (given[0] * 2,)),
    "hook of the body": lambda m: m.body.register_forward_hook(lambda module, given, out: out * 2),
    "activation": lambda m: m.body[0].body.__setitem__(1, nn.LeakyReLU(0.5)),
    "subclass of ReLU": lambda m: m.body[0].body.__setitem__(1, Halved()),
    "subclass of a convolution": lambda m: m.body[0].body.__setitem__(0, Other(8, 8, 3, padding=1)),
    "forward of a convolution": own_convolution,
    "forward of a block": own_block,
    "another layer": lambda m: m.body.insert(1, nn.Tanh()),
    "no last convolution": lambda m: m.body.__delitem__(3),
    "layer in a block": lambda m: m.body[0].body.append(nn.Sigmoid()),
    "kernel": lambda m: m.body.__setitem__(3, nn.Conv2d(8, 8, 5, padding=2)),
    "edge": lambda m: setattr(m.body[0].body[0], "padding_mode", "reflect"),
    "padding": lambda m: m.body[0].body.__setitem__(0, nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")),
    "groups": lambda m: m.body[0].body.__setitem__(2, nn.Conv2d(8, 8, 3, padding=1, groups=2)),
    "dilation": lambda m: m.body[0].body.__setitem__(2, nn.Conv2d(8, 8, 3, padding=2, dilation=2)),
    "no bias": lambda m: m.body[0].body.__setitem__(2, nn.Conv2d(8, 8, 3, padding=1, bias=False)),
    "parametrized": parametrized,
    "compiled": lambda m: m.body[0].compile(backend="eager"),
    "training": lambda m: m.train(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_encoder_runs_as_it_is(joined, change):
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    before = run(model, x)
    assert joined
    joined.clear()
    CHANGES[change](model)
    ours = run(model, x)
    assert not joined
    assert torch.equal(ours, by_modules(model, x))
    assert change in ("compiled", "training") or not torch.allclose(ours.float(), before.float(), atol=1e-2)


def test_other_widths_run_as_they_are(joined):
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    inner = model.body[1].body
    inner[0], inner[2] = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)
    assert torch.equal(run(model, x), by_modules(model, x))
    assert not joined


def test_a_change_for_all_modules_is_seen(joined, monkeypatch):
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    with nn.modules.module.register_module_forward_hook(lambda *args: None):
        run(model, x)
    forward = edsr.ResBlock.forward
    for owner, name, new in (
        (edsr.ResBlock, "forward", lambda self, x: forward(self, x) * 2),
        (nn.Conv2d, "_conv_forward", lambda self, x, w, b: F.conv2d(x, w * 2, b, padding=self.padding)),
        (nn.ReLU, "forward", lambda self, x: x.abs()),
        (nn.Module, "__call__", lambda self, *given: self.forward(*given)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, new)
            assert torch.equal(run(model, x), by_modules(model, x))
    assert not joined


class Subclass(torch.Tensor):
    pass


def test_weights_of_another_kind(joined):
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    layer = model.body[0].body[0]
    kept = layer.weight.detach().as_subclass(Subclass)
    del layer._parameters["weight"]
    layer.weight = kept
    run(model, x)
    assert not joined


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def test_only_inference_in_half_precision(joined):
    """With gradients, in float32, in float64 under autocast, under torch.func, traced, or watched: the modules."""
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    with torch.autocast("cpu", dtype=BF16):
        model(x).sum().backward()  # has a gradient
    with torch.no_grad():
        model(x)
        with torch.autocast("cpu", dtype=BF16):
            copy.deepcopy(model).double()(x.double())
            torch.func.vmap(model)(x[None])
            torch.jit.trace(model, x, check_trace=False)
            with Watching():
                model(x)
            torch.compile(model, backend="eager", fullgraph=True)(x)
            torch.fx.symbolic_trace(model)
    assert not joined
    with torch.inference_mode(), torch.autocast("cpu", dtype=BF16):
        model(x)
    assert len(joined) == 3


def test_elsewhere_it_is_not_used(monkeypatch):
    monkeypatch.setattr(residual, "run", lambda *args: pytest.fail("used on a CPU"))
    run(encoder(), torch.rand(1, 3, 9, 7))


@pytest.mark.parametrize("why", ["refused", "deterministic", "no cuDNN"])
def test_without_the_joint_call(joined, monkeypatch, why):
    """As a convolution and a ReLU; said once where cuDNN refuses."""
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    want = run(model, x)
    if why == "refused":

        def refuse(*given):
            joined.append("refused")
            raise RuntimeError("no engine")

        monkeypatch.setattr(torch, "cudnn_convolution_add_relu", refuse)
    joined.clear()
    if why == "deterministic":
        monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    elif why == "no cuDNN":
        monkeypatch.setattr(torch.backends, "cudnn", types.SimpleNamespace(enabled=False, deterministic=False))
    if why == "refused":
        with pytest.warns(UserWarning, match="no engine"):
            ours = run(model, x)
        run(model, x)
        assert joined == ["refused"]
    else:
        ours = run(model, x)
        assert not joined
    torch.testing.assert_close(ours.float(), want.float(), **ROUNDED)


def test_out_of_memory_is_not_hidden(joined, monkeypatch):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", full)
    with pytest.raises(torch.OutOfMemoryError):
        run(encoder(), torch.rand(1, 3, 9, 7))
    assert not small._said
