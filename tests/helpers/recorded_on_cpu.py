"""CUDA graphs of the training step on a CPU: operations are recorded, and run again on the same tensors.

As in a graph, what Python computed in between is part of the recording and stays as it was: a learning rate that is a
number, a count, a branch. Values may not be read while it is made, and nothing has been done when it is ready.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from liif_fast.head import chain, checks, functional

_READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2"}


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # of what is written to

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._schema.name.split("::")[1] in _READS:
            raise RuntimeError("operation not permitted when stream is capturing\nand another line")
        named = zip(func._schema.arguments, args, strict=False)
        given = [*named, *((a, kwargs[a.name]) for a in func._schema.arguments if a.name in kwargs)]
        for argument, value in given:
            if argument.alias_info is not None and argument.alias_info.is_write:
                for t in _tensors(value):
                    self.before.setdefault(id(t), (t, t.clone()))
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, _tensors(out)))
        return out


class TapeOnCpu:
    """In place of ``graph.Tape``. ``replays``: of each recording."""

    def __init__(self) -> None:
        self.replays: list[int] = []

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        yield

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        recorder = _Recorder()
        try:
            with recorder:
                result = run()
        finally:
            with torch.no_grad():
                for t, values in recorder.before.values():
                    t.copy_(values)
        for t in _tensors(result):
            t.fill_(torch.nan)
        number = len(self.replays)
        self.replays.append(0)

        @torch.no_grad()
        def replay() -> None:
            self.replays[number] += 1
            for func, args, kwargs, out in recorder.calls:
                for old, new in zip(out, _tensors(func(*args, **kwargs)), strict=True):
                    if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                        old.copy_(new)

        return replay, result


def on_cpu(monkeypatch) -> list[TapeOnCpu]:
    """Runs on the CPU are recorded as on CUDA from now on, and compute the head as there; returns the tapes of the runs
    to come."""
    from liif_fast.data.on_device import OnDevice
    from liif_fast.training import graph

    tapes: list[TapeOnCpu] = []

    def tape(device: torch.device) -> TapeOnCpu:
        tapes.append(TapeOnCpu())
        return tapes[-1]

    monkeypatch.setattr(graph, "Tape", tape)
    monkeypatch.setattr(
        graph, "wanted", lambda setup: setup.config.cuda_graph and isinstance(setup.train_loader, OnDevice)
    )
    monkeypatch.setattr(
        importlib.import_module("torch.optim.adam"), "_get_capturable_supported_devices", lambda **_: ["cpu"]
    )
    monkeypatch.setattr(functional, "CPU_KERNELS", False)
    monkeypatch.setattr(checks, "_looked_at", lambda t: False)  # values, which CUDA is not asked for
    monkeypatch.setattr(chain, "wanted", lambda hidden: not torch.compiler.is_compiling())
    return tapes


def _tensors(value: Any) -> list[Tensor]:
    return [t for t in tree_leaves(value) if isinstance(t, Tensor)]
