"""Steps that are recorded and replayed train as those that are run; on the CPU, with a recording that stands in."""

from __future__ import annotations

import contextlib
import math
import types

import pytest
import recorded_on_cpu
import torch
import training_files as files
from torch import nn
from training_steps import SMALL, Training, furthest, same

import liif_fast
from liif_fast.models.encoders import residual_training
from liif_fast.training import graph
from liif_fast.training.step import Step


@pytest.fixture(autouse=True)
def tapes(monkeypatch):
    return recorded_on_cpu.on_cpu(monkeypatch)


@pytest.fixture
def run(images, tmp_path, capsys):
    return files.runner(images, tmp_path, capsys)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"amp": "bf16", "channels_last": True},
        {"grad_clip": 0.5, "loss": "mse"},
        {"head_parts": 2},
        {"optimizer": {"name": "adamw", "args": {"lr": 1e-3, "amsgrad": True, "weight_decay": 0.1}}},
    ],
    ids=["", "half", "clipped", "parts", "adamw"],
)
def test_losses_and_weights_of_steps_that_are_run(images, tapes, extra):
    """Four epochs, each with a smaller last batch, the rate halved behind the second: a rate recorded as a number, a
    count that stands still, or gradients in another place would show."""
    run, replayed = (Training(images, kind, **extra) for kind in (Step, graph.GraphStep))
    first = run.weights()
    for training in (run, replayed):
        for _ in range(4):
            training.epoch()
    assert [tape.replays for tape in tapes] == [[4 * 5 - graph.WARM, 4 * 6 - graph.WARM]]
    # Adam's formula in another order: some roundings of float32, which grow where a gradient is near zero, as Adam goes
    # by its sign. In bfloat16 one of them turns an activation by 2^-8 now and then. A wrong rate moves by half as much.
    losses, weights = (1e-5, 1e-3) if "amp" not in extra else (1e-3, 2e-2)
    assert furthest(replayed.losses, run.losses) < losses
    moved = (run.weights() - first).norm()
    assert (replayed.weights() - run.weights()).norm() < weights * moved
    assert replayed.state()["param_groups"] == run.state()["param_groups"]
    assert replayed.state()["param_groups"][0]["lr"] == 5e-4
    for mine, other in zip(replayed.state()["state"].values(), run.state()["state"].values(), strict=True):
        assert mine.keys() == other.keys()
        assert torch.equal(mine["step"], other["step"])
        assert mine["step"].device.type == "cpu"


def test_the_encoder_in_few_passes_is_preferred(images, tapes, monkeypatch):
    """By the steps before the recording too, whose kernels it needs; not by steps that are launched for good."""
    seen = []
    monkeypatch.setattr(
        residual_training, "suits", lambda x: seen.append(getattr(residual_training._here, "preferred", False))
    )
    training = Training(images)  # which tries the model
    seen.clear()
    training.epoch()
    assert tapes[0].replays[0] > 0
    assert seen
    assert all(seen)
    seen.clear()
    Training(images, Step).epoch()
    assert seen
    assert not any(seen)


def test_a_run_begun_with_a_smaller_batch(images, tapes):
    """As when it is resumed behind the others: three alike are waited for."""
    run, replayed = (Training(images, kind).epoch(start=5).epoch().epoch() for kind in (Step, graph.GraphStep))
    assert tapes[0].replays == [2 * 5 - graph.WARM, 2 * 6 - graph.WARM]
    assert furthest(replayed.losses, run.losses) < 1e-5


def test_recorded_inside_of_autocast(images, tapes):
    """Whose cache would give the recording the conversions of the weights of then."""
    run, replayed = (Training(images, kind, amp="bf16") for kind in (Step, graph.GraphStep))
    for training in (run, replayed):

        def change(batch, training=training):
            if len(training.losses) == graph.WARM:
                stack.enter_context(torch.autocast("cpu", torch.bfloat16))
                training.parts.module(batch["inp"], batch["coord"], batch["cell"])
            return batch

        with contextlib.ExitStack() as stack:
            training.epoch(change=change)
        for _ in range(3):
            training.epoch()
    assert tapes[0].replays[0] == 4 * 5 - graph.WARM
    assert furthest(replayed.losses, run.losses) < 1e-3


def test_what_is_not_finite(images, tapes):
    """A step with it changes nothing, whether it is run or replayed; and none is recorded before Adam has its means."""
    training = Training(images)
    spoilt = types.SimpleNamespace(left=7)

    def spoil(batch):
        spoilt.left -= 1
        return batch | {"gt": batch["gt"] * math.nan} if spoilt.left >= 0 else batch

    before = training.weights()
    training.epoch(change=spoil)
    assert torch.equal(training.weights(), before)
    assert not training.state()["state"]
    training.epoch(change=spoil).epoch(change=spoil)
    assert tapes[0].replays[1] > 3
    before, state = training.weights(), training.state()["state"]
    state = {i: {name: t.clone() for name, t in kept.items()} for i, kept in state.items()}
    spoilt.left = 6
    training.epoch(change=spoil)
    assert torch.equal(training.weights(), before)
    assert same(training.state()["state"], state)
    training.epoch(change=spoil)
    assert all(map(math.isfinite, training.losses[-6:]))
    assert not torch.equal(training.weights(), before)


@pytest.mark.parametrize("part", ["gradients", "update"])
def test_what_cannot_be_recorded_is_run(images, monkeypatch, part):
    """Here something reads a value, as it may in the first or the second recording: the steps of a run that was never
    to be recorded, bit for bit but for the one update on the device."""
    original = getattr(Step, part)

    def reading(self, *args):
        out = original(self, *args)
        assert self.gt_sub.sum().item() > 0
        return out

    monkeypatch.setattr(graph, "WARM", 2)
    training, never = Training(images), Training(images)
    never.step._record = lambda *args: setattr(never.step, "tape", None)
    never.epoch().epoch()
    monkeypatch.setattr(Step, part, reading)
    with pytest.warns(RuntimeWarning, match="cannot be recorded as a CUDA graph, .*: operation not permitted") as seen:
        training.epoch().epoch()
    assert len(seen) == 1
    assert training.losses == never.losses
    assert torch.equal(training.weights(), never.weights())
    assert same(training.state(), never.state())


def test_runs_in_pieces(run, tmp_path, tapes):
    """Recorded, then not, then recorded: each goes on from the checkpoint of the other, as one run does. It is said
    what is done, and nothing of it is in a checkpoint."""
    changes = SMALL | {"ema": 0.9}
    assert run(folder="whole", epoch_max=6, cuda_graph=False, **changes)[0] == 0
    assert not tapes
    for epochs, recorded in ((2, True), (4, False), (6, True)):
        code, out, err = run("--resume", epoch_max=epochs, cuda_graph=recorded, **changes)
        assert (code, err) == (0, "")
        assert out.count("replayed as a CUDA graph") == recorded
    assert [tape.replays[0] for tape in tapes] == [2 * 5 - graph.WARM] * 2
    whole, pieces = (torch.load(tmp_path / name / "epoch-last.pth", weights_only=True) for name in ("whole", "run"))
    losses = files.losses(tmp_path / "whole")
    got = files.losses(tmp_path / "run")
    assert losses.keys() == got.keys()
    assert max(abs(got[i] - loss) for i, loss in losses.items()) < 1e-5
    groups = pieces["optimizer"]["sd"]["param_groups"]
    assert groups == whole["optimizer"]["sd"]["param_groups"]
    assert isinstance(groups[0]["lr"], float)
    assert {float(s["step"]) for s in pieces["optimizer"]["sd"]["state"].values()} == {36.0}
    for name, t in whole["model"]["sd"].items():
        assert (pieces["model"]["sd"][name] - t).norm() <= 1e-4 * t.norm()


def parts_of(images, **changes):
    return Training(images, Step, **changes).parts


@liif_fast.register("own-encoder")
class OwnEncoder(nn.Conv2d):
    """Which could do anything."""

    out_dim = 4

    def __init__(self):
        super().__init__(3, 4, 1)


def _model(encoder):
    return {"name": "liif", "args": {**files.TINY_LIIF["args"], "encoder_spec": encoder}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        (
            {"model": _model({"name": "rcan", "args": {"n_resgroups": 1, "n_resblocks": 1, "no_upsampling": True}})},
            None,
        ),
        ({"model": _model({"name": "own-encoder"})}, "the model"),
        ({"model": files.METASR}, "the model"),
        ({"compile": True}, "compile"),
        ({"optimizer": {"name": "sgd", "args": {"lr": 1e-3}}}, "optimizer"),
    ],
    ids=["liif", "rcan", "own encoder", "another model", "compile", "sgd"],
)
def test_obstacles(images, changes, reason):
    found = graph.obstacle(parts_of(images, **changes))
    assert (found is None) if reason is None else (reason in found)


def test_obstacles_in_a_model(images, monkeypatch):
    parts = parts_of(images)
    body = parts.module.encoder.body
    for change in (
        lambda: body[0].register_forward_hook(lambda *_: None),
        lambda: parts.module.encoder.head[0].weight.register_hook(lambda g: g),
        lambda: nn.modules.module.register_module_forward_hook(lambda *_: None),
    ):
        handle = change()
        assert "the model" in graph.obstacle(parts)
        handle.remove()
        assert graph.obstacle(parts) is None
    for part in (nn.Dropout(0.5), nn.BatchNorm2d(8)):
        body.append(part)
        assert "the model" in graph.obstacle(parts)
        del body[-1]
    parts.module.query = parts.module.query
    assert "the model" in graph.obstacle(parts)
    del parts.module.query
    assert graph.obstacle(parts) is None
    monkeypatch.setattr(graph, "half_precision", lambda amp, device: torch.float16)
    assert "float16" in graph.obstacle(parts)
    monkeypatch.setattr(graph.distributed, "connected", lambda: True)
    assert "processes" in graph.obstacle(parts)


def test_an_obstacle_is_said(run, tapes):
    code, out, err = run(epoch_max=1, optimizer={"name": "sgd", "args": {"lr": 1e-3}}, **SMALL)
    assert (code, err) == (0, "")
    assert out.count("no CUDA graph of the training step: the optimizer is neither adam nor adamw") == 1
    assert not tapes
