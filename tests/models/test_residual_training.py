"""EDSR's residual blocks with gradients as on CUDA, on the CPU with a stand-in for cuDNN's joint call: numbers, what is
kept for the gradient, and when the ordinary modules run."""

from __future__ import annotations

import contextlib
import copy
import threading

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from residual_cases import BF16, by_modules, encoder, relative, trained
from torch import nn
from torch.testing import assert_close

from liif_fast.head.triton import small
from liif_fast.models.encoders import residual, residual_training


@pytest.fixture
def calls(monkeypatch):
    """As on CUDA with tf32; how often the blocks were run."""
    found, run = [], residual_training.run

    def convolution(x, w, z, alpha, b, stride, padding, dilation, groups):
        assert alpha == 0
        assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (x, w, z))
        return F.conv2d(x, w, b, stride, padding, dilation, groups).relu()

    monkeypatch.setattr(residual, "on_cuda", lambda x: True)
    monkeypatch.setattr(residual_training, "by_matrix_units", lambda device, dtype: dtype != torch.float64)
    monkeypatch.setattr(residual_training, "run", lambda *given: found.append(given[0].dtype) or run(*given))
    monkeypatch.setattr(small, "_said", set())
    monkeypatch.setattr(residual_training, "LARGE", 0)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", convolution)
    return found


@pytest.mark.parametrize("keep", [1, 2, 4])
@pytest.mark.parametrize(
    "args", [{}, {"res_scale": 1}, {"n_resblocks": 1, "n_feats": 3}, {"n_resblocks": 0}, {"no_upsampling": False}]
)
@pytest.mark.parametrize("training", [True, False])
def test_numbers(calls, monkeypatch, keep, args, training):
    """As the modules, but for the order of float32's sums: of up to 72 products a layer and 126 pixels a gradient,
    through twelve layers. A ReLU near zero may switch by it: one of some thousand."""
    monkeypatch.setattr(residual_training, "KEEP", keep)
    model, x = encoder(**args).train(training), torch.rand(2, 3, 9, 7)
    ours, want = trained(model, x), by_modules(model, x)
    assert calls == [torch.float32]
    assert relative(ours[0], want[0]) < 1e-5
    assert relative(ours[1], want[1]) < 1e-4
    assert ours[2].keys() == want[2].keys()
    for name, grad in want[2].items():
        assert relative(ours[2][name], grad) < 1e-4, name
        assert ours[2][name].stride() == grad.stride()


def test_under_autocast(calls):
    """No further from float64 than the modules, which round more often: 1.5 times by chance."""
    model, x = encoder(n_feats=16), torch.rand(2, 3, 9, 7)
    ours, modules = trained(model, x, BF16), by_modules(model, x, BF16)
    want = by_modules(copy.deepcopy(model).double(), x.double())
    assert calls == [BF16]
    assert ours[0].dtype == BF16
    assert relative(ours[0], want[0]) < 1.5 * relative(modules[0], want[0])
    for name, grad in want[2].items():
        assert ours[2][name].dtype == torch.float32
        assert relative(ours[2][name], grad) < 1.5 * max(relative(modules[2][name], grad), 2**-8), name


def test_parameters_of_several_dtypes(calls):
    """Gradients of float32's are not rounded to float16's range on the way, in which the largest here have no place."""
    model, x = encoder(), torch.rand(2, 3, 9, 7)
    model.body[0].body[0].half()
    x = x.requires_grad_()
    with torch.autocast("cpu", dtype=BF16):
        feat = model(x)
    (feat.float().sum() * 1e6).backward()
    assert calls == [BF16]
    assert model.body[0].body[0].weight.grad.dtype == torch.float16
    bias = model.body[5].bias.grad
    assert bias.dtype == torch.float32
    # each value of bfloat16 counts 10^6, rounded to 8 bits
    assert_close(bias, torch.full_like(bias, 2 * 9 * 7 * 1e6), rtol=2**-7, atol=0)


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_what_is_kept(calls, monkeypatch, keep):
    """Of maps of the features' size: the input of the last convolution and of every keep-th block."""
    monkeypatch.setattr(residual_training, "KEEP", keep)
    model, x, kept = encoder(), torch.rand(2, 3, 9, 7), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        feat = model(x.requires_grad_())
    maps = {t.data_ptr() for t in kept if t.shape == feat.shape}
    assert len(maps) == 1 + -(-5 // keep)
    assert calls == [torch.float32]


def test_values_that_change_before_the_gradient(calls):
    """Parameters are converted again for it: that others are there now is an error, as everywhere in torch."""
    model = encoder()
    feat = model(torch.rand(1, 3, 9, 7))
    with torch.no_grad():
        model.body[1].body[0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        feat.sum().backward()
    assert calls


def test_gradients_of_gradients(calls):
    """Of a penalty on the gradient of x, with a loss that is linear in the features and one that is not."""
    model, x = encoder().double(), torch.rand(2, 3, 9, 7, dtype=torch.float64)

    def penalty(power):
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(model(leaf).pow(power).sum(), leaf, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), list(model.body.parameters()), allow_unused=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residual_training, "by_matrix_units", lambda device, dtype: True)
        ours = [penalty(power) for power in (1, 2)]
    assert len(calls) == 2
    for mine, want in zip(ours, [penalty(power) for power in (1, 2)], strict=True):
        assert len(calls) == 2
        for a, b in zip(mine, want, strict=True):
            assert (a is None) == (b is None)
            assert a is None or relative(a, b + 0.0) < 1e-10 or not b.any()


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("how", ["shared layer", "encoder of its own features"])
def test_a_parameter_at_several_places(calls, monkeypatch, create_graph, how):
    monkeypatch.setattr(residual_training, "by_matrix_units", lambda device, dtype: True)
    model, x = encoder().double(), torch.rand(1, 3, 9, 7, dtype=torch.float64)
    if how == "shared layer":
        model.body[1] = model.body[0]

    def gradients():
        feat = model(x) if how == "shared layer" else model(model(x)[:, :3])
        parameters = [p for p in model.parameters() if p.requires_grad]
        grads = torch.autograd.grad(feat.square().sum(), parameters, create_graph=create_graph)
        if not create_graph:
            return grads
        return (*grads, *torch.autograd.grad(sum(g.square().sum() for g in grads), parameters))

    ours = gradients()
    assert calls
    monkeypatch.setattr(residual, "on_cuda", lambda x: False)
    for mine, want in zip(ours, gradients(), strict=True):
        assert relative(mine, want) < 1e-10


def test_a_checkpoint_of_the_encoder(calls):
    model, x = encoder(), torch.rand(1, 3, 9, 7, requires_grad=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    want = torch.autograd.grad(model(x).sum(), parameters)
    for reentrant in (True, False):
        model.zero_grad()
        torch.utils.checkpoint.checkpoint(model, x, use_reentrant=reentrant).sum().backward()
        for p, grad in zip(parameters, want, strict=True):
            assert relative(p.grad, grad) < 1e-4  # as in test_numbers: the first of the two passes may be the modules'
    assert len(calls) >= 3


def test_batches_of_gradients(calls):
    model, x = encoder(), torch.rand(1, 3, 4, 3)
    x.requires_grad_()
    grads = torch.eye(5).repeat(1, 1, 1)[0]
    feat = model(x)
    batch = torch.zeros(5, *feat.shape)
    batch[range(5), 0, range(5), 0, 0] = grads.diagonal()
    (ours,) = torch.autograd.grad(feat, x, batch, is_grads_batched=True, retain_graph=True)
    assert calls
    for mine, one in zip(ours, batch, strict=True):
        assert_close(mine, torch.autograd.grad(feat, x, one, retain_graph=True)[0], rtol=1e-4, atol=1e-5)


def test_convolutions_of_another_layout(calls, monkeypatch):
    """As torch's own on CUDA, without cuDNN."""
    model, x = encoder(), torch.rand(2, 3, 9, 7)
    want, convolution = by_modules(model, x), F.conv2d
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)  # no joint call
    monkeypatch.setattr(F, "conv2d", lambda *given, **named: convolution(*given, **named).contiguous())
    ours = trained(model, x)
    assert calls
    for name, grad in want[2].items():
        assert relative(ours[2][name], grad) < 1e-4, name


def test_a_frozen_layer_of_a_replica(calls):
    """Whose weights are no parameters."""
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    layer = model.body[1].body[0]
    for name in ("weight", "bias"):
        frozen = getattr(layer, name).detach().clone()
        del layer._parameters[name]
        setattr(layer, name, frozen)
    trained(model, x)
    assert not calls


def test_the_incoming_gradient_is_left_as_it_is(calls):
    model = encoder()
    feat = model(torch.rand(1, 3, 9, 7))
    grad = torch.randn_like(feat, memory_format=torch.channels_last)
    before = grad.clone()
    feat.backward(grad)
    assert torch.equal(grad, before)
    assert calls


CHANGES = {
    "frozen layer": lambda m: m.body[1].body[2].requires_grad_(False),
    "frozen bias": lambda m: m.body[5].bias.requires_grad_(False),
    "hook": lambda m: m.body[1].body[0].register_forward_hook(lambda module, given, out: out * 2),
    "backward hook": lambda m: m.body[2].register_full_backward_hook(lambda module, given, out: None),
    "activation": lambda m: m.body[0].body.__setitem__(1, nn.LeakyReLU(0.5)),
    "spectral norm": lambda m: nn.utils.parametrizations.spectral_norm(m.body[0].body[0]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_encoder_runs_as_it_is(calls, change):
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    CHANGES[change](model)
    trained(model, x)
    assert not calls


def test_who_wants_no_gradient_or_another_way(calls):
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        model(x)
    torch.func.vmap(model)(x[None])
    torch.compile(model, backend="eager", fullgraph=True)(x)
    model.head.requires_grad_(False)
    model(x)  # features that want no gradient
    copy.deepcopy(model).requires_grad_().double()(x.double())
    assert not calls
    model.requires_grad_(True)(x)
    assert len(calls) == 1


def test_small_ones_where_it_is_preferred(calls, monkeypatch):
    """In this thread, and no longer than that."""
    model, x = encoder(), torch.rand(1, 3, 9, 7)
    monkeypatch.setattr(residual_training, "LARGE", 8 * 9 * 7 + 1)
    model(x)
    with residual_training.preferred():
        other = threading.Thread(target=model, args=(x,))
        other.start()
        other.join()
        with contextlib.suppress(ValueError), residual_training.preferred():
            raise ValueError
        assert not calls
        model(x)
    assert len(calls) == 1
    model(x)
    assert len(calls) == 1
    model(torch.rand(2, 3, 9, 7))
    assert len(calls) == 2


def test_elsewhere_it_is_not_used(monkeypatch):
    monkeypatch.setattr(residual_training, "run", lambda *args: pytest.fail("used on a CPU"))
    trained(encoder(), torch.rand(1, 3, 9, 7))


def test_hooks_on_parameters_are_run(calls):
    model, seen = encoder(), []
    model.body[2].body[0].weight.register_hook(lambda grad: seen.append(grad.shape))
    model.body[2].body[0].bias.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.shape))
    trained(model, torch.rand(1, 3, 9, 7))
    assert sorted(map(len, seen)) == [1, 4]
    assert calls


def test_a_second_backward_pass(calls):
    model = encoder()
    feat = model(torch.rand(1, 3, 9, 7))
    feat.sum().backward(retain_graph=True)
    once = model.body[0].body[0].weight.grad.clone()
    feat.sum().backward()
    assert_close(model.body[0].body[0].weight.grad, 2 * once, rtol=1e-6, atol=0)
    assert calls
