"""The contender that replays the training step, with a recording on the CPU that stands in for a CUDA graph."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import recorded_on_cpu
import torch
import training_files as files

import liif_fast
from liif_fast.training import graph

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import measure
import training_cases


@pytest.fixture
def runs(monkeypatch):
    """``Replayed`` and its tape, and a launched step with the gradients of each input."""
    recorded_on_cpu.on_cpu(monkeypatch)
    torch.manual_seed(0)
    model, tape = liif_fast.make(files.TINY_LIIF), recorded_on_cpu.TapeOnCpu()
    coord = torch.rand(2, 30, 2) * 2 - 1
    given = {"coord": coord, "cell": torch.full_like(coord, 0.1), "gt": torch.rand(2, 30, 3)}
    batches = [{"inp": torch.rand(2, 3, 8, 8) * 2 - 1, **given} for _ in range(measure.INPUTS)]
    # a rate of 0, as on CUDA, is 0 / 0 in the formula that Adam has on a CPU
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda p, lr: adam(p, lr=1e-12))
    monkeypatch.setattr(graph, "Tape", lambda device: tape)

    def launched(i):
        net = copy.deepcopy(model)
        loss = torch.nn.functional.l1_loss(net(*(batches[i][k] for k in ("inp", "coord", "cell"))), batches[i]["gt"])
        loss.backward()
        return [p.grad for p in net.parameters() if p.grad is not None]

    return training_cases.Replayed(model, batches, "float32"), tape, launched


def test_it_is_replayed_from_the_second_run_on(runs):
    replayed, tape, launched = runs
    with torch.no_grad():
        for n, i in enumerate((0, 0, 1, 2, 0)):
            got = replayed(i)
            with torch.enable_grad():
                want = launched(i)
            assert measure.gradients_apart(got, want) < 1e-5
            assert tape.replays == ([] if n == 0 else [n, n])


def test_a_step_that_is_not_replayed_does_not_run_under_its_name(runs, monkeypatch):
    replayed, tape, _ = runs

    def record(run):
        raise RuntimeError("not on this card")

    monkeypatch.setattr(tape, "record", record)
    with torch.no_grad():
        replayed(0)
        with pytest.warns(RuntimeWarning, match="not on this card"), pytest.raises(RuntimeError, match="not recorded"):
            replayed(0)
