"""When a recorded CUDA graph is replayed and when it is not: with a graph that only shows what was recorded, and with
one that runs it again."""

from __future__ import annotations

import contextlib
import types

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from liif_fast import LIIF
from liif_fast.head import precision
from liif_fast.models.renderer import Renderer

SIZE = (8, 6)


@pytest.fixture
def renderer(tiny, monkeypatch):
    """A renderer whose recordings are pictures that stay as they were; ``.recorded`` counts them."""

    class Recording(Renderer):
        recorded = 0

        def _record(self, inp):
            self.recorded += 1
            super()._record(inp)

    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    graph = types.SimpleNamespace(replay=lambda: None)
    for name, value in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "CUDAGraph": lambda: graph,
        "stream": lambda s: contextlib.nullcontext(),
        "graph": lambda g, **options: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return Recording(tiny().eval(), SIZE)


def recordable(renderer):
    return renderer._recordable(list(renderer.model.modules()))


def same_address(model):
    """Another layer with the same parameters, as when freed memory is given out again."""
    new = nn.Linear(16, 16)
    new.weight, new.bias = model.imnet.layers[2].weight, model.imnet.layers[2].bias
    model.imnet.layers[2] = new


CHANGES = {
    "activation": lambda m: m.imnet.layers.__setitem__(1, nn.GELU()),
    "same parameters": same_address,
    "strides": lambda m: setattr(m.imnet.layers[2].weight, "data", m.imnet.layers[2].weight.data.t()),
    "forward": lambda m: setattr(m.imnet.layers[1], "forward", torch.sin),
    "forward of the encoder": lambda m: setattr(m.encoder.second, "forward", torch.sin),
    "flag": lambda m: setattr(m, "local_ensemble", False),
    "number": lambda m: setattr(m.encoder.first, "padding_mode", "reflect"),
    "mode of a part": lambda m: m.encoder.train(),
    "storage": lambda m: setattr(m.imnet.layers[0], "weight", nn.Parameter(m.imnet.layers[0].weight * 2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_recorded_anew_after_a_change(renderer, change):
    inp = torch.rand(1, 3, 5, 4)
    for _ in range(2):
        renderer._replay(inp)
    assert renderer.recorded == 1
    CHANGES[change](renderer.model)
    renderer._replay(inp)
    assert renderer.recorded == 2
    with torch.no_grad():
        renderer.model.imnet.layers[0].weight.mul_(2)  # in place: the graph reads it
    renderer._replay(inp)
    assert renderer.recorded == 2


@pytest.mark.parametrize("where", ["imnet", "encoder", "model"])
@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook"])
def test_hooks_run_for_every_image(renderer, where, kind):
    assert recordable(renderer)
    module = renderer.model if where == "model" else getattr(renderer.model, where)
    handle = getattr(module, f"register_{kind}")(lambda *args: None)
    assert not recordable(renderer)
    handle.remove()
    assert recordable(renderer)


def test_own_methods_and_global_hooks_run_for_every_image(renderer):
    model = renderer.model
    with torch.nn.modules.module.register_module_forward_hook(lambda *args: None):
        assert not recordable(renderer)
    model.query_rgb = lambda coord, cell=None: LIIF.query_rgb(model, coord, cell)
    assert not recordable(renderer)


def test_no_cached_conversion_of_weights_is_recorded(renderer, monkeypatch):
    """Autocast keeps half-precision copies of weights until it ends: a graph that reads them shows old values, then
    freed memory."""
    seen = []
    monkeypatch.setattr(renderer, "_render", lambda inp: seen.append(torch.is_autocast_cache_enabled()) or inp)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        renderer._record(torch.rand(1, 3, 5, 4))
        assert torch.is_autocast_cache_enabled()
    assert seen
    assert not any(seen)


def test_renderer_on_the_cpu_is_render(tiny):
    model = tiny().eval()
    renderer = model.renderer((19, 23))
    for shape in [(1, 3, 7, 9), (2, 3, 5, 4)]:
        inp = torch.rand(shape)
        assert torch.equal(renderer(inp), model.render(inp, (19, 23)))
    with pytest.raises(ValueError, match="size"):
        model.renderer((0, 4))
    half = model.renderer((19, 23), dtype=torch.bfloat16)(inp)
    # features and layers rounded to 8 bits
    torch.testing.assert_close(half, model.render(inp, (19, 23)), rtol=0, atol=2e-2)
    assert not torch.equal(half, renderer(inp))


class PretendedGraph:
    """Runs again what was recorded, into the same memory."""

    recordings = 0

    def replay(self):
        with torch.no_grad():
            self.renderer._out.copy_(self.renderer._render(self.renderer._inp))


@pytest.fixture
def graphs(monkeypatch):
    """As much of CUDA's graphs as Renderer asks for, on the CPU."""

    class Nothing(contextlib.nullcontext):
        def wait_stream(self, other):
            pass

    @contextlib.contextmanager
    def graph(recorded, capture_error_mode):
        assert capture_error_mode == "thread_local"  # other threads may allocate
        PretendedGraph.recordings += 1
        yield

    monkeypatch.setattr(PretendedGraph, "recordings", 0)
    for name, replacement in {
        "Stream": Nothing,
        "current_stream": Nothing,
        "stream": contextlib.nullcontext,
        "graph": graph,
        "CUDAGraph": PretendedGraph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, replacement)
    return PretendedGraph


def test_renderer_records_when_it_must(tiny, graphs, monkeypatch):
    model = tiny().eval()
    renderer = graphs.renderer = model.renderer((9, 8))
    kept = []

    def check(inp, recordings):
        kept.append((renderer._replay(inp), model.render(inp, (9, 8)).detach()))
        assert graphs.recordings == recordings
        for ours, want in kept:  # earlier results are not overwritten by later frames
            assert torch.equal(ours, want)

    inp = torch.rand(1, 3, 5, 6)
    check(inp, 1)
    check(torch.rand(1, 3, 5, 6), 1)  # another frame
    with torch.no_grad():
        model.imnet.layers[0].weight.mul_(0.5)
    check(inp, 1)  # new values in place
    check(torch.rand(2, 3, 5, 6), 2)  # another shape
    check(inp, 3)
    model.imnet.layers[0].weight = torch.nn.Parameter(torch.randn_like(model.imnet.layers[0].weight))
    check(inp, 4)  # other storage
    monkeypatch.setenv("LIIF_FAST_TRITON", "0")
    check(inp, 5)
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "ieee" if before == "tf32" else "tf32"
        check(inp, 6)
        torch.use_deterministic_algorithms(True)
        check(inp, 7)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
        torch.use_deterministic_algorithms(False)


def test_renderer_records_anew_after_a_failure(tiny, graphs, monkeypatch):
    model = tiny().eval()
    renderer = graphs.renderer = model.renderer((9, 8))
    inp = torch.rand(1, 3, 5, 6)

    def full(inp):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renderer, "_render", full)
        with pytest.raises(torch.OutOfMemoryError):
            renderer._replay(inp)
    assert torch.equal(renderer._replay(inp), model.render(inp, (9, 8)))


class Tape(TorchDispatchMode):
    """What a CUDA graph is: the operations on tensors, in the memory that they had, without Python and autocast."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.steps.append((function, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, out in self.steps:
            again = function(*args, **kwargs)
            for old, new in zip(tensors(out), tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def tensors(given):
    return [t for t in (given if isinstance(given, (tuple, list)) else [given]) if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_within_autocast(tiny, graphs, monkeypatch, dtype):
    """A recording made in a user's autocast, which has converted weights before: new values are seen, inside of it and
    in the next."""
    monkeypatch.setattr(precision, "FAST_HALF_CPU", (torch.bfloat16,))  # or nothing of it would be in half precision
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)

    @contextlib.contextmanager
    def graph(tape, **options):
        with tape:
            yield

    monkeypatch.setattr(torch.cuda, "graph", graph)
    model, inp = tiny().eval(), torch.rand(1, 3, 5, 6)
    renderer = model.renderer((9, 8), dtype)
    # as on CUDA, where this is part of the description
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind, f=torch.is_autocast_enabled: f("cpu"))
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model.render(inp, (9, 8))
            for _ in range(2):
                old = renderer._replay(inp)
                for p in model.parameters():
                    p.data.mul_(1.3)
                torch.clear_autocast_cache()
                want = model.render(inp, (9, 8), dtype=dtype)
                assert not torch.allclose(old, want, atol=1e-2)
                assert torch.equal(renderer._replay(inp), want)
