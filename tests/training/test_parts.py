"""The head trained in parts of a batch: loss and gradients of the whole batch, in all steps of a run."""

from __future__ import annotations

import math
import types

import pytest
import torch
import torch.nn.functional as F
import training_files as files
from torch import nn
from training_steps import SMALL, Training, furthest

import liif_fast
from liif_fast import reference
from liif_fast.head import chain, functional, precision
from liif_fast.training import parts, setup
from liif_fast.training import step as step_module
from liif_fast.training.config import ConfigError, check
from liif_fast.training.step import LOSSES, Step

SAMPLES = 5


def make_step(tmp_path, forward=None, critic=None, dtype=torch.float32, **changes) -> Step:
    config = check(files.configuration(tmp_path, **changes))
    model = setup.build_model(config, 0).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Step(config, model, model if forward is None else forward(model), optimizer, torch.device("cpu"), 0, critic)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    inp, gt, coord = (
        torch.rand(shape, generator=generator, dtype=torch.float64)
        for shape in ((SAMPLES, 3, 7, 6), (SAMPLES, 30, 3), (SAMPLES, 30, 2))
    )
    return {"inp": inp, "gt": gt, "coord": coord * 2 - 1, "cell": torch.full_like(coord, 0.1)}


def single(batch):
    return {name: t.float() for name, t in batch.items()}


@pytest.fixture
def sizes(monkeypatch):
    """How many samples each of the head's calls had."""
    found = []
    original = functional.query

    def query(hidden, *args, **options):
        found.append(len(hidden))
        return original(hidden, *args, **options)

    monkeypatch.setattr(functional, "query", query)
    return found


@pytest.fixture(params=["operator", "chain"])
def path(request, monkeypatch):
    """The CPU's operator, and the layers as they run on CUDA."""
    if request.param == "chain":
        monkeypatch.setattr(functional, "CPU_KERNELS", False)
        monkeypatch.setattr(chain, "wanted", lambda hidden: True)


def grads(step: Step) -> list[torch.Tensor]:
    return [p.grad.clone() for p in step.parameters]


def apart(found, wanted) -> float:
    """The largest difference of two gradients, as a share of the second."""
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(found, wanted, strict=True))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("n", "expected"), [(1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (5, [1] * 5), (9, [1] * 5)])
@pytest.mark.parametrize("loss", ["l1", "mse"])
@pytest.mark.parametrize("share", [1.0, 0.7])
def test_loss_and_gradients(tmp_path, batch, sizes, loss, n, expected, share):
    """Of the official computation on the whole batch. In float64, whose sums of some 1e4 terms of one size differ by
    1e-13 in another order, and where no ReLU and no sign of l1 is so near to zero that this would switch it."""
    step = make_step(tmp_path, dtype=torch.float64, loss=loss, head_parts=n)
    calls = []
    step.module.encoder.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    step.parameters[0].register_post_accumulate_grad_hook(lambda p: calls.append("backward"))
    got, norm = step.gradients(batch, share)
    assert sizes == expected
    assert calls == [SAMPLES, "backward"]  # of the encoder
    model = step.module
    feat = model.encoder((batch["inp"] - 0.5) / 0.5)
    pred = reference.liif(feat, batch["coord"], batch["cell"], model.imnet)
    wanted = LOSSES[loss](pred, (batch["gt"] - 0.5) / 0.5) * share
    wanted_grads = torch.autograd.grad(wanted, step.parameters)
    assert not got.requires_grad
    assert got.item() == pytest.approx(wanted.item(), rel=1e-10)
    assert apart(grads(step), wanted_grads) < 1e-10
    norms = torch.stack([g.norm() for g in wanted_grads])
    assert norm.item() == pytest.approx(norms.norm().item(), rel=1e-6)  # given as float32


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("convolutions", ["float32", "bfloat16"])
def test_half_precision(tmp_path, batch, sizes, convolutions, monkeypatch):
    """Sums of gradients are rounded to bfloat16 in each part, by 2^-9 of them at most, and what they are rounded from
    may be summed otherwise."""
    fast = (torch.bfloat16,) if convolutions == "bfloat16" else ()  # the features too, as on CUDA
    monkeypatch.setattr(precision, "FAST_HALF_CPU", fast)
    found = []
    for n in (1, 3):
        step = make_step(tmp_path, amp="bf16", head_parts=n)
        loss, _ = step.gradients(single(batch))
        assert str(step.module.feat.dtype) == f"torch.{convolutions}"
        found.append((loss.item(), grads(step)))
    assert sizes == [5, 2, 2, 1]
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)  # of colours of which a few may be rounded otherwise
    assert 0 < apart(found[1][1], found[0][1]) < 2**-7


@pytest.mark.usefixtures("path")
def test_scaled_gradients(tmp_path, batch, monkeypatch, sizes):
    """Each part's loss is scaled before its gradients, or they would be 2^16 times too small. Rounding as above, here
    to 2^-11; a float16 of that scale is not so small that it would be kept with fewer bits."""
    monkeypatch.setattr(step_module, "half_precision", lambda amp, device: torch.float16)
    found = []
    for n in (1, 3):
        step = make_step(tmp_path, head_parts=n)
        loss, norm = step.gradients(single(batch))
        assert norm.isfinite()
        found.append((loss.item(), grads(step)))
    assert sizes == [5, 2, 2, 1]
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)
    assert apart(found[1][1], found[0][1]) < 2**-9


@pytest.mark.parametrize("frozen", ["encoder", "imnet"])
def test_frozen_weights(tmp_path, batch, sizes, frozen):
    found = []
    for n in (1, 3):
        step = make_step(tmp_path, dtype=torch.float64, head_parts=n)
        getattr(step.module, frozen).requires_grad_(False)
        step.gradients(batch)
        found.append([p.grad for p in step.parameters])
    assert sizes == [5, 2, 2, 1]
    given = [[g is not None for g in each] for each in found]
    assert given[0] == given[1]
    assert any(given[0])
    assert not all(given[0])
    assert apart(*([g for g in each if g is not None] for each in found[::-1])) < 1e-10


def test_steps_of_a_run(images, sizes):
    """With all that follows the gradients: clipping, Adam, a smaller last batch. Rounding of float32, which Adam makes
    larger as it goes by the signs of small gradients; a part that is left out, or counted twice, moves by as much as
    the steps do."""
    trainings = [Training(images, Step, head_parts=n, grad_clip=0.5) for n in (1, 2)]
    first = trainings[0].weights()
    for training in trainings:
        training.epoch().epoch()
    assert sizes == [*[3] * 5, 1, *[3] * 5, 1, *[2, 1] * 5, 1, *[2, 1] * 5, 1]
    whole, by_parts = trainings
    assert furthest(by_parts.losses, whole.losses) < 1e-5
    assert (by_parts.weights() - whole.weights()).norm() < 1e-3 * (whole.weights() - first).norm()


@pytest.mark.parametrize("sample", [0, 4])
def test_what_is_not_finite(tmp_path, batch, sizes, sample):
    """In one part only: the step is left out."""
    step = make_step(tmp_path, head_parts=3)
    batch = single(batch)
    batch["gt"][sample, 3, 1] = math.nan
    before = {name: t.clone() for name, t in step.module.state_dict().items()}
    outcome = step.end(step.begin(batch, 0))
    assert sizes == [2, 2, 1]
    assert outcome.nan
    assert not outcome.updated
    assert files.same(step.module.state_dict(), before)


@pytest.mark.parametrize("name", ["coord", "gt"])
def test_a_batch_that_does_not_fit(tmp_path, batch, name):
    """Nothing is left out of a batch in which there is more of one thing than of the others."""
    step = make_step(tmp_path, head_parts=3)
    batch = single(batch)
    for key in {"coord": ("coord", "cell"), "gt": ("gt",)}[name]:
        batch[key] = torch.cat([batch[key], batch[key][:1]])
    with pytest.raises((ValueError, ConfigError)):
        step.gradients(batch)


def test_colours_are_checked(tmp_path, batch, sizes):
    model = {"name": "liif", "args": {**files.TINY_LIIF["args"]}}
    model["args"]["imnet_spec"] = {"name": "mlp", "args": {"out_dim": 1, "hidden_list": [16]}}
    step = make_step(tmp_path, head_parts=3)
    step.module = step.forward = liif_fast.make(model)
    with pytest.raises(ConfigError, match="out_dim of its imnet_spec must be 3"):
        step.gradients(single(batch))
    assert sizes == [2]


class Wrapper(nn.Module):
    """As DistributedDataParallel."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args):
        return self.module(*args)


def test_wrapped_models_and_adversarial_training_take_it_whole(tmp_path, batch, sizes):
    make_step(tmp_path, forward=Wrapper, head_parts=3).gradients(single(batch))
    critic = types.SimpleNamespace(generator_loss=lambda pred, gt, cell, autocast: F.l1_loss(pred, gt))
    make_step(tmp_path, critic=critic, head_parts=3).gradients(single(batch))
    assert sizes == [SAMPLES, SAMPLES]
    make_step(tmp_path, head_parts=3).gradients(single(batch))
    assert sizes[2:] == [2, 2, 1]


def test_a_run_of_the_command(images, tmp_path, capsys, sizes):
    """The key is passed on, and --dry-run says it."""
    run = files.runner(images, tmp_path, capsys)
    changes = SMALL | {"epoch_max": 1, "head_parts": 2}
    code, out, _ = run("--dry-run", **changes)
    assert code == 0
    assert "head_parts: 2" in out
    sizes.clear()
    assert run(**changes)[0] == 0
    assert sizes == [*[2, 1] * 5, 1]


def test_that_a_batch_is_taken_whole_all_the_same_is_said(images, tmp_path, capsys, sizes):
    run = files.runner(images, tmp_path, capsys)
    changes = SMALL | {"epoch_max": 1, "head_parts": 2}
    code, out, _ = run(folder="metasr", model=files.METASR, **changes)
    assert code == 0
    assert out.count("head_parts: 2 is left out, a batch is taken whole: the model is no LIIF") == 1
    for folder, asked in (("one", 1), ("two", 2)):
        code, out, _ = run(folder=folder, **changes | {"head_parts": asked})
        assert code == 0
        assert "is left out" not in out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({}, None), ({"compile": True}, "compile"), ({"head_parts": 1, "compile": True}, None), ({"gan": {}}, "gan")],
)
def test_obstacles(changes, reason):
    config = types.SimpleNamespace(**{"head_parts": 2, "compile": False, "gan": None, **changes})
    module = liif_fast.make(files.TINY_LIIF)
    assert parts.obstacle(types.SimpleNamespace(config=config, module=module)) == reason


@pytest.mark.parametrize("name", ["lte", "lte-fast"])
def test_lte_in_parts(tmp_path, batch, name):
    """Its images in parts too."""
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    mlp = (
        {"imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}}}
        if name == "lte"
        else {"num_layer": 1}
    )
    model = {"name": name, "args": {"encoder_spec": encoder, "hidden_dim": 12, **mlp}}
    if name == "lte-fast":  # asked for grids
        batch["coord"], batch["cell"] = batch["coord"].view(SAMPLES, 5, 6, 2), batch["cell"][:, 0]
        batch["gt"] = batch["gt"].view(SAMPLES, 5, 6, 3).permute(0, 3, 1, 2)
    found = []
    for n in (1, 3):
        step = make_step(tmp_path, dtype=torch.float64, head_parts=n, model=model)
        assert parts.count(n, step.module, batch["gt"].shape, torch.device("cpu")) == n
        loss, _ = step.gradients(batch)
        found.append((loss, grads(step)))
    assert found[0][0].item() == pytest.approx(found[1][0].item(), rel=1e-12)
    assert apart(found[1][1], found[0][1]) < 1e-10  # sums in another order
    step.module.freq.weight.register_hook(lambda grad: grad)
    assert parts.count(3, step.module, batch["gt"].shape, torch.device("cpu")) == 1
