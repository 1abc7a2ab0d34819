"""What someone puts into the decoding MLP has its effect: it folds only where its layers do what their weights say."""

from __future__ import annotations

import contextlib
import types

import pytest
import torch
import torch.nn.modules.module as global_hooks
from liif_queries import by_reference, queries
from torch import nn
from torch.testing import assert_close

from liif_fast.models import folding


class Low(nn.Linear):
    """A layer of the kind of LoRA's: more than its weights say."""

    def forward(self, x):
        return super().forward(x) + x.mean(-1, keepdim=True)


class Leaky(nn.ReLU):
    def forward(self, x):
        return torch.where(x > 0, x, 0.3 * x)


class Called(nn.Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


class Twice(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


class Scaled(torch.Tensor):
    """A tensor whose products are others than its numbers'."""

    @classmethod
    def __torch_function__(cls, function, kinds, args=(), kwargs=None):
        plain = [a.as_subclass(torch.Tensor) if isinstance(a, Scaled) else a for a in args]
        return function(*plain, **(kwargs or {})) * (3 if function is nn.functional.linear else 1)


def exchanged(kind, i=2):
    def change(model):
        old = model.imnet.layers[i]
        model.imnet.layers[i] = kind(16, 16) if isinstance(old, nn.Linear) else kind()

    return change


def quantization_aware(model):
    qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    model.imnet.layers[2] = torch.ao.nn.qat.Linear(16, 16, qconfig=qconfig)
    model.imnet.layers[2](torch.randn(50, 16))  # its observer has seen something
    model.imnet.layers[2].apply(torch.ao.quantization.disable_observer)


def instance_forward(model):
    layer = model.imnet.layers[2]
    layer.forward = lambda x, f=layer.forward: f(x) * 2


def instance_imnet_forward(model):
    model.imnet.forward = lambda x, f=model.imnet.forward: f(x) * 2


def instance_call(model):
    layer = model.imnet.layers[2]
    layer._call_impl = lambda x, f=layer._call_impl: f(x) * 2


def sequential(model):
    model.imnet.layers = Twice(*model.imnet.layers)


def tensor_subclass(model):
    layer = model.imnet.layers[2]
    del layer.weight
    layer.weight = torch.randn(16, 16).as_subclass(Scaled)


def compiled(model):
    model.imnet.compile(backend=lambda graph, inputs: lambda *a: [2 * x for x in graph(*a)])


def hook(register, **kwargs):
    def change(model):
        def changed(module, *args):
            return args[-1] * 2 if kwargs.get("prepend") is None else (args[0][0] * 2,)

        getattr(model.imnet.layers[2], register)(changed)

    return change


def hook_with_kwargs(model):
    model.imnet.layers[2].register_forward_hook(lambda module, args, kwargs, out: out * 2, with_kwargs=True)


CHANGES = {
    "lora": exchanged(Low),
    "relu": exchanged(Leaky, 1),
    "call": exchanged(Called),
    "qat": quantization_aware,
    "forward of a layer": instance_forward,
    "forward of the MLP": instance_imnet_forward,
    "call of a layer": instance_call,
    "sequential": sequential,
    "tensor subclass": tensor_subclass,
    "compiled": compiled,
    "forward hook": hook("register_forward_hook"),
    "forward hook with kwargs": hook_with_kwargs,
    "forward pre-hook": hook("register_forward_pre_hook", prepend=False),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_has_its_effect(no_compiled_code, tiny, change):
    model = tiny()
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    before = model(inp, coord, cell)
    CHANGES[change](model)
    with torch.no_grad():
        want = by_reference(model, inp, coord, cell)
        # exact: it is that computation; where it folds, float32 differs in the seventh digit
        assert torch.equal(model(inp, coord, cell), want)
    assert (want - before).abs().max() > 1e-3
    assert model.head() is None


@contextlib.contextmanager
def registered(register, hook):
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", ["forward", "forward_pre"])
def test_hooks_on_all_modules(tiny, kind):
    model = tiny()
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    seen = []

    def changed(module, args, *out):
        if module is model.imnet.layers[2]:
            seen.append(module)
            return (args[0] * 2,) if kind == "forward_pre" else out[0] * 2
        return None

    with registered(getattr(global_hooks, f"register_module_{kind}_hook"), changed):
        got = model(inp, coord, cell)
        assert seen
        assert torch.equal(got, by_reference(model, inp, coord, cell))
    assert model.head() is not None


@pytest.mark.parametrize("where", ["layer", "all modules"])
@pytest.mark.parametrize("kind", ["full_backward_pre", "full_backward"])
def test_backward_hooks_run(tiny, where, kind):
    model = tiny()
    layer = model.imnet.layers[2]
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    seen = []

    def see(module, *grads):
        seen.append(module)

    register = layer.__getattribute__ if where == "layer" else lambda name: getattr(global_hooks, name)
    name = f"register_{'' if where == 'layer' else 'module_'}{kind}_hook"
    with registered(register(name), see):
        model(inp, coord, cell).sum().backward()
    assert layer in seen


def test_hooks_on_parameters_run_where_it_is_folded(tiny):
    model = tiny()
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    seen = []
    model.imnet.layers[2].weight.register_hook(lambda grad: seen.append(1))
    model.imnet.layers[2].weight.register_post_accumulate_grad_hook(lambda p: seen.append(2))
    model(inp, coord, cell).sum().backward()
    assert seen == [1, 2]
    assert model.head() is not None


@pytest.mark.parametrize("layers", [(0,), (2,), (4,), (0, 2, 4)])
def test_missing_biases_are_zeros(tiny, layers):
    model = tiny()
    for i in layers:
        old = model.imnet.layers[i]
        model.imnet.layers[i] = nn.Linear(old.in_features, old.out_features, bias=False)
    assert model.head() is not None
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    got, want = model(inp, coord, cell), by_reference(model, inp, coord, cell)
    assert_close(got, want, rtol=1e-5, atol=1e-6)  # float32, another order of sums
    parameters = list(model.parameters())
    grads = [torch.autograd.grad(y.sum(), parameters) for y in (got, want)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5 * max(1.0, b.abs().max().item()))
    with torch.no_grad():
        want = model(inp, *grid((9, 7))).transpose(1, 2).unflatten(-1, (9, 7))
        assert_close(model.render(inp, (9, 7)), want, rtol=1e-5, atol=1e-6)
        assert model.upscale(inp, scale=2).shape == (1, 3, 10, 8)


def grid(size):
    from liif_fast.functional import make_coord

    coord = make_coord(size)[None]
    return coord, torch.tensor([2 / n for n in size]).expand_as(coord)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_normalised_weights(tiny, kind, new):
    """Parametrizations are what a layer's weights are; the older functions of these names are hooks."""
    model = tiny().eval()
    normalise = getattr(nn.utils.parametrizations if new else nn.utils, kind)
    normalise(model.imnet.layers[2])
    model.eval()
    inp, (coord, cell) = torch.rand(1, 3, 5, 4), queries(1, 25)
    assert (model.head() is not None) == new
    got, want = model(inp, coord, cell), by_reference(model, inp, coord, cell)
    assert_close(got, want, rtol=1e-5, atol=1e-6)  # float32, another order of sums
    grads = [torch.autograd.grad(y.square().sum(), list(model.imnet.parameters())) for y in (got, want)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5 * max(1.0, b.abs().max().item()))


def test_methods_replaced_on_the_classes(tiny, monkeypatch):
    model = tiny()
    assert folding.layers(model.imnet) is not None
    for kind in (nn.Linear, nn.ReLU):
        with monkeypatch.context() as patch:
            patch.setattr(kind, "forward", lambda self, x: x[..., :1].expand(*x.shape[:-1], 16))
            assert folding.layers(model.imnet) is None
    model.imnet.layers[1].forward = types.MethodType(lambda self, x: x.abs(), model.imnet.layers[1])
    assert folding.layers(model.imnet) is None
