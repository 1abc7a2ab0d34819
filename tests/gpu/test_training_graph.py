"""The training step replayed as CUDA graphs, beside the step that is launched anew each time."""

from __future__ import annotations

import copy
import math

import pytest
import recorded_on_cpu
import torch
import training_files as files
from training_steps import SMALL, Training, furthest

from liif_fast.models.encoders import residual_training
from liif_fast.training import graph
from liif_fast.training.step import Step


def model(name="edsr-baseline", hidden=(64, 64, 64), **args):
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": list(hidden)}}
    encoder = {"name": name, "args": {"no_upsampling": True, **args}}
    return {"name": "liif", "args": {"encoder_spec": encoder, "imnet_spec": imnet}}


@pytest.fixture
def training(images, device, monkeypatch):
    if device.type == "cpu":  # to check the tests themselves
        recorded_on_cpu.on_cpu(monkeypatch)

    def make(kind=graph.GraphStep, **changes):
        return Training(images, kind, device, **({"model": model(n_resblocks=2, n_feats=32)} | changes))

    return make


def recorded(training: Training) -> bool:
    return training.step.recorded is not None


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"amp": "bf16", "channels_last": True},
        {"grad_clip": 0.5, "loss": "mse"},
        {"optimizer": {"name": "adamw", "args": {"lr": 1e-3, "amsgrad": True, "weight_decay": 0.1}}},
        {"model": model("rdn", G0=16, RDNconfig="A")},
        {"model": model("rcan", n_resgroups=1, n_resblocks=2)},
    ],
    ids=["", "half", "clipped", "adamw", "rdn", "rcan"],
)
def test_losses_and_weights_of_steps_that_are_launched(training, extra):
    """Four epochs with a smaller last batch each; the rate is halved behind the second; between epochs the model is
    used for something else, in memory that the graphs must not need."""
    launched, replayed = training(Step, **extra), training(**extra)
    first = launched.weights()
    for each in (launched, replayed):
        for _ in range(4):
            each.epoch()
            with torch.no_grad():
                each.parts.module.render(torch.rand(1, 3, 40, 40, device=each.step.device), (99, 99))
            torch.full((1 << 24,), math.nan, device=each.step.device)
            torch.cuda.empty_cache()
    assert recorded(replayed)
    # sums by atomics and Adam's formula in another order: roundings, which Adam makes larger where a gradient is near
    # zero; in bfloat16 they turn activations by 2^-8. A rate or a count that stood still moves by half as much.
    losses, weights = (1e-3, 5e-2) if "amp" not in extra else (1e-2, 0.2)
    assert furthest(replayed.losses, launched.losses) < losses
    assert (replayed.weights() - launched.weights()).norm() < weights * (launched.weights() - first).norm()


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("amp", [False, "bf16"])
def test_gradients_of_a_replay(training, amp):
    """Of weights and a batch that the recording has not seen: those of a launched step, in the order of sums that
    deterministic algorithms have."""
    replayed = training(amp=amp).epoch().epoch()
    assert recorded(replayed)
    batch = next(iter(replayed.batches()))
    loss, norm = (t.clone() for t in replayed.step.gradients(batch))
    grads = [None if p.grad is None else p.grad.clone() for p in replayed.step.parameters]
    with residual_training.preferred():  # the same passes
        wanted_loss, wanted_norm = Step.gradients(replayed.step, batch)
    unit = 1e-5 if not amp else 2**-7  # other algorithms may be chosen beside the graph
    assert (loss - wanted_loss).abs() <= unit * wanted_loss
    assert (norm - wanted_norm).abs() <= unit * wanted_norm
    for grad, p in zip(grads, replayed.step.parameters, strict=True):
        assert (grad is None) == (p.grad is None)
        if grad is not None:
            assert (grad - p.grad).norm() <= unit * p.grad.norm() + 1e-7 * wanted_norm


def test_the_rate_of_now(training):
    """With a rate of nearly 0 nothing moves; a tenth of the rate moves a tenth as far."""
    replayed = training().epoch()
    assert recorded(replayed)
    group = replayed.parts.optimizer.param_groups[0]
    state = copy.deepcopy(replayed.state()), copy.deepcopy(replayed.parts.module.state_dict())
    batch = next(iter(replayed.batches()))
    moved = []
    for rate in (1e-9, 1e-3, 1e-4):
        before = replayed.weights()
        group["lr"] = rate
        replayed.run(batch)
        moved.append((replayed.weights() - before).norm().item())
        with torch.no_grad():  # back to where it was, in place
            replayed.parts.module.load_state_dict(state[1])
            for kept, was in zip(replayed.parts.optimizer.state.values(), state[0]["state"].values(), strict=True):
                for name in ("exp_avg", "exp_avg_sq"):
                    kept[name].copy_(was[name])
    assert moved[0] < 1e-4 * moved[1]
    # a step later in the counts, which divide the means: 0.9^n and 0.999^n
    assert moved[2] / moved[1] == pytest.approx(0.1, rel=0.2)


def test_what_is_not_finite(training):
    replayed = training().epoch()
    assert recorded(replayed)
    batch = next(iter(replayed.batches()))
    before, steps = replayed.weights(), [float(s["step"]) for s in replayed.state()["state"].values()]
    outcome = replayed.run(batch | {"gt": batch["gt"] * math.nan})
    assert outcome.nan
    assert not outcome.updated
    assert torch.equal(replayed.weights(), before)
    assert [float(s["step"]) for s in replayed.state()["state"].values()] == steps
    assert replayed.run(batch).updated
    assert replayed.weights().isfinite().all()


@pytest.mark.parametrize(
    "kinds", [(graph.GraphStep, Step), (Step, graph.GraphStep)], ids=["to launched", "to replayed"]
)
def test_going_on_from_the_other(training, kinds):
    """The optimizer's state of either is that of the other."""
    whole, first, second = training(Step), training(kinds[0]), training(kinds[1])
    for _ in range(4):
        whole.epoch()
    first.epoch().epoch()
    state = first.state()
    assert isinstance(state["param_groups"][0]["lr"], float)
    assert not state["param_groups"][0]["capturable"]
    assert all(s["step"].device.type == "cpu" for s in state["state"].values())
    second.parts.module.load_state_dict(first.parts.module.state_dict())
    second.parts.optimizer.load_state_dict(copy.deepcopy(state))
    second.losses, second.epochs, second.parts.schedule.last_epoch = list(first.losses), 2, 2
    second.epoch().epoch()
    assert recorded(first if kinds[0] is graph.GraphStep else second)
    assert furthest(second.losses, whole.losses) < 1e-3
    assert second.state()["param_groups"] == whole.state()["param_groups"]


@pytest.mark.parametrize("part", ["gradients", "update"])
def test_what_cannot_be_recorded_is_launched(training, monkeypatch, part):
    """A value that is read breaks the recording off, and nothing else: not the run, nor graphs and random numbers."""
    original = getattr(Step, part)

    def reading(self, *args):
        out = original(self, *args)
        assert self.gt_sub.sum().item() > 0
        return out

    launched = training(Step).epoch().epoch()
    monkeypatch.setattr(Step, part, reading)
    replayed = training()
    with pytest.warns(RuntimeWarning, match="cannot be recorded as a CUDA graph"):
        replayed.epoch().epoch()
    assert not recorded(replayed)
    assert furthest(replayed.losses, launched.losses) < 1e-3
    monkeypatch.undo()
    if replayed.step.device.type == "cuda":
        assert recorded(training().epoch())
        torch.rand(3, device="cuda").sum().item()


@pytest.mark.parametrize("amp", [False, "bf16"])
def test_the_encoder_in_few_passes_is_recorded(training, cuda, monkeypatch, amp):
    """And trains as the modules do."""
    torch.backends.cudnn.allow_tf32 = True  # the fixture puts it back
    found, run = [], residual_training.run
    monkeypatch.setattr(residual_training, "run", lambda *given: found.append(given[0].dtype) or run(*given))
    launched, replayed = training(Step, amp=amp), training(amp=amp)
    first = launched.weights()
    for _ in range(3):
        launched.epoch()
    assert not found
    for _ in range(3):
        replayed.epoch()
    assert recorded(replayed)
    assert found
    # as in the first test of this file; tf32 rounds to 2^-11
    losses, weights = (1e-2, 0.2)
    assert furthest(replayed.losses, launched.losses) < losses
    assert (replayed.weights() - launched.weights()).norm() < weights * (launched.weights() - first).norm()


def test_memory(training, cuda):
    """What the graphs keep is what a launched step needs at its peak, and not several times that."""
    sizes = {"train_dataset__wrapper__args__inp_size": 12, "train_dataset__wrapper__args__sample_q": 144}
    sizes |= {"train_dataset__dataset__args__repeat": 80, "train_dataset__batch_size": 64}
    sizes |= {"model": model(hidden=(256, 256, 256, 256))}
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()  # not what is reserved: of that other tests may have left free parts
    torch.cuda.reset_peak_memory_stats()
    training(Step, **sizes).epoch()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    each = training(graph.GraphStep, **sizes).epoch()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    kept = torch.cuda.memory_reserved() - before
    assert recorded(each)
    # what the allocator rounds up and cannot fill, half as much again; and two workspaces of cuBLAS of 32 MiB
    assert kept < 2 * peak + (64 << 20), (kept, peak)


def test_memory_of_parts(training, cuda):
    """The official configuration's step: most of its memory are the head's rows, of which four samples' are there at a
    time. Loss and gradients are those of the whole batch."""
    official = model(n_resblocks=16, n_feats=64, hidden=(256, 256, 256, 256))
    found = []
    for asked in ({"head_parts": 1}, {}):
        step = training(Step, model=official, **asked).step
        torch.manual_seed(0)
        inp, gt = torch.rand(16, 3, 48, 48, device=cuda), torch.rand(16, 2304, 3, device=cuda)
        coord = torch.rand(16, 2304, 2, device=cuda) * 2 - 1
        batch = {"inp": inp, "gt": gt, "coord": coord, "cell": torch.full_like(coord, 2 / 120)}
        for _ in range(2):  # the second time all kernels are loaded and chosen, and their workspaces there
            step.optimizer.zero_grad(set_to_none=True)
            step.module._forget()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            loss, _ = step.gradients(batch)
            torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        found.append((peak, loss.item(), [p.grad.double() for p in step.parameters]))
    (whole, loss, grads), (by_parts, other_loss, other_grads) = found
    assert by_parts < 0.6 * whole, (by_parts, whole)
    # float32's 2^-24 in sums of some 1e5 terms, of which other algorithms may be chosen for another number of samples;
    # a ReLU or a sign of l1 near zero may switch by that, which is one of as many terms
    assert other_loss == pytest.approx(loss, rel=1e-5)
    for grad, other in zip(grads, other_grads, strict=True):
        assert (other - grad).norm() <= 1e-3 * grad.norm()


def test_a_run_of_the_command(cuda, images, tmp_path, capsys):
    run = files.runner(images, tmp_path, capsys)
    code, out, err = run("--device", "cuda", **SMALL)
    assert (code, err) == (0, "")
    assert out.count("replayed as a CUDA graph") == 1
    last = torch.load(tmp_path / "run" / "epoch-last.pth", weights_only=True, map_location="cpu")
    assert last["optimizer"]["sd"]["param_groups"][0]["lr"] == 5e-4
    assert last["training"]["progress"]["step"] == 18
