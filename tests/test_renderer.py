"""When a recorded CUDA graph is replayed and when it is not: with a graph that only shows what was recorded."""

from __future__ import annotations

import contextlib
import types

import pytest
import torch
from torch import nn

from liif_fast import LIIF
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
        "graph": lambda g: contextlib.nullcontext(),
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
