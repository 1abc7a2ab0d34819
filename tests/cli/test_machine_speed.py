"""The first line of ``doctor``: how fast this machine is, and what would make it faster."""

from __future__ import annotations

import json
import shutil

import command
import pytest
import torch

from liif_fast.cli import machine_speed
from liif_fast.head import library, ops, triton
from liif_fast.head.triton import choices
from liif_fast.upscaling import estimate

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def test_the_first_line(capsys, monkeypatch):
    monkeypatch.setattr(estimate, "speed", lambda model, dtype: estimate.Speed(1e-6, 0.5e-6))
    monkeypatch.setattr(machine_speed, "faster", lambda device, dtype: "a word")
    code, out, _ = command.outcome(capsys, "doctor")
    assert code == 0
    line = out.splitlines()[0]
    assert line.startswith("speed: 2 million queries a second (LIIF on EDSR-baseline, ")
    assert line.endswith("about 36 s for 12 megapixels x2; faster: a word")
    found = json.loads(command.outcome(capsys, "doctor", "--json")[1])["speed"]
    assert (found["queries"], found["seconds"]) == (pytest.approx(2e6), pytest.approx(36))
    assert found["faster"] == "a word"


def test_it_is_measured():
    """With a model like the official one, whatever the numbers."""
    found = machine_speed.measured()
    assert found["error"] is None
    assert found["seconds"] > 0
    assert found["queries"] is None or found["queries"] > 0


def test_where_nothing_can_be_computed(monkeypatch):
    def broken(model, dtype):
        raise RuntimeError("no\nkernel")

    monkeypatch.setattr(estimate, "speed", broken)
    assert machine_speed.text(machine_speed.measured()) == "speed: nothing can be computed here: no kernel"


@pytest.fixture
def plain(monkeypatch):
    """A CPU with compiled kernels, all cores, no card."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(library, "status", "loaded")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(machine_speed, "cores", lambda: 8)
    monkeypatch.setattr(ops, "cpu_kernels", lambda: {"int8": "avx512_vnni"})


@pytest.mark.usefixtures("plain")
def test_on_a_cpu(monkeypatch):
    """In the order of what helps most."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "--dtype int8" in machine_speed.faster(CPU, torch.float32)
    assert "nothing that a command could change" in machine_speed.faster(CPU, torch.bfloat16)
    monkeypatch.setattr(ops, "cpu_kernels", lambda: {"int8": "avx2"})
    assert "nothing that a command could change" in machine_speed.faster(CPU, torch.float32)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert machine_speed.faster(CPU, torch.float32) == "torch uses 1 of 8 cores: OMP_NUM_THREADS=8 liif-fast ..."
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine_speed.faster(CPU, torch.float32) == "torch uses 1 of 8 cores: OMP_NUM_THREADS=1 is set, unset it"
    monkeypatch.setattr(library, "status", "not built: why")
    assert machine_speed.faster(CPU, torch.float32) == f"compiled kernels (the library is not built): {library.cure()}"
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "torch is a CPU build: install its CUDA build" in machine_speed.faster(CPU, torch.float32)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "nvidia-smi says whether" in machine_speed.faster(CPU, torch.float32)


def test_on_cuda(monkeypatch):
    monkeypatch.setattr(choices, "card", lambda device: "H100")
    monkeypatch.setattr(triton, "available", lambda device: (False, "triton is not installed: pip install triton"))
    assert "(triton is not installed: pip install triton)" in machine_speed.faster(CUDA, torch.bfloat16)
    monkeypatch.setattr(triton, "available", lambda device: (True, ""))
    monkeypatch.setattr(choices, "load", dict)
    assert machine_speed.faster(CUDA, torch.bfloat16).startswith("liif-fast tune")
    monkeypatch.setattr(choices, "load", lambda: {"H100": {}})
    assert machine_speed.faster(CUDA, torch.bfloat16) == "nothing that a command could change"
