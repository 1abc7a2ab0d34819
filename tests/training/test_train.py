"""Training in one process: the official losses, what a run leaves, and what each setting does."""

from __future__ import annotations

import json

import plain_liif
import pytest
import torch
import training_files as files
from torch import nn

import liif_fast
from liif_fast import data
from liif_fast.data.loader import Batches, make_loader
from liif_fast.data.samples import expand
from liif_fast.training import setup
from liif_fast.training.config import check
from liif_fast.training.step import Step


@pytest.fixture
def run(images, tmp_path, capsys):
    return files.runner(images, tmp_path, capsys)


def test_losses_of_the_official_program(images, run, tmp_path):
    """50 steps from the same weights, crops and coordinates: each loss within 1e-4 relative, the bar of the trainer.

    Both sides compute in float32 with sums in another order; Adam makes the difference grow slowly.
    """
    assert run(epoch_max=13, epoch_val=None, multi_step_lr=None)[0] == 0
    got = files.losses(tmp_path / "run")
    config = check(files.configuration(images))
    state = setup.build_model(config, config.seed).state_dict()
    samples = setup.build_samples("train_dataset", config.train_dataset)
    batches = Batches(len(samples), 4, shuffle=True, seed=config.seed)
    drawn = []
    for epoch in range(1, 14):
        batches.epoch = epoch
        drawn += [expand(b) for b in make_loader(samples, batches, seed=config.seed, num_workers=0)]
    want = plain_liif.train(state, drawn[:50], blocks=1, lr=1e-3)
    assert len(got) == 52
    assert want[-1] < 0.8 * want[0]  # it has learnt something, so that late losses depend on early steps
    assert max(abs(got[i + 1] / w - 1) for i, w in enumerate(want)) < 1e-4


def test_losses_of_the_official_program_in_float64(images):
    """The same 50 steps in float64, where rounding cannot hide a difference: each loss to 1e-9 relative.

    That is 2^-52 times the growth that Adam gives to a difference in 50 steps, some 10^4, with room for more.
    """
    config = check(files.configuration(images))
    parts = setup.setup(config, torch.device("cpu"), config.seed)
    parts.module.double()
    state = {k: t.clone() for k, t in parts.module.state_dict().items()}
    step = Step(config, parts.module, parts.module, parts.optimizer, parts.device, config.seed)
    drawn = []
    for epoch in range(1, 14):
        parts.train_batches.epoch = epoch
        drawn += [{k: t.double() for k, t in expand(b).items()} for b in parts.train_loader]
    got = [step.end(step.begin(batch, i)).loss for i, batch in enumerate(drawn[:50])]
    want = plain_liif.train(state, drawn[:50], blocks=1, lr=1e-3)
    assert max(abs(g / w - 1) for g, w in zip(got, want, strict=True)) < 1e-9


def test_what_a_run_leaves(run, tmp_path):
    code, out, err = run()
    assert (code, err) == (0, "")
    folder = tmp_path / "run"
    kept = {"config.yaml", "curves.png", "epoch-2.pth", "epoch-best.pth", "epoch-last.pth", "log.txt", "metrics.jsonl"}
    assert {p.name for p in folder.iterdir() if p.is_file()} == kept | {"pictures.png"}
    assert out == (folder / "log.txt").read_text()
    assert "epoch 3/3, train: loss=" in out
    checkpoint = torch.load(folder / "epoch-last.pth", weights_only=True)
    assert checkpoint["epoch"] == 3
    assert set(checkpoint["model"]) == {"name", "args", "sd"}
    assert set(checkpoint["optimizer"]) == {"name", "args", "sd"}
    # what the official program does with it
    model = liif_fast.make(checkpoint["model"], load_sd=True)
    torch.optim.Adam(model.parameters(), **checkpoint["optimizer"]["args"]).load_state_dict(
        checkpoint["optimizer"]["sd"]
    )
    assert checkpoint["optimizer"]["sd"]["param_groups"][0]["lr"] == 5e-4  # halved behind epoch 2
    loaded = liif_fast.load(folder / "epoch-last.pth")
    assert loaded.upscale(torch.rand(1, 3, 8, 8), scale=2).shape == (1, 3, 16, 16)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [r for r in records if r["kind"] == "epoch"]
    assert [r["psnr"] for r in epochs] == sorted(r["psnr"] for r in epochs)  # learns
    best = torch.load(folder / "epoch-best.pth", weights_only=True)
    assert best["training"]["progress"]["best"] == epochs[-1]["psnr"]


def test_an_existing_run_is_not_overwritten(run, tmp_path):
    assert run(epoch_max=1)[0] == 0
    before = (tmp_path / "run" / "epoch-last.pth").read_bytes()
    code, _, err = run(epoch_max=1)
    assert code == 2
    assert "--resume" in err
    assert before == (tmp_path / "run" / "epoch-last.pth").read_bytes()
    assert run("--overwrite", epoch_max=1)[0] == 0


def test_average_of_weights(images, run, tmp_path):
    """What is saved as the model is the average: d * average + (1 - d) * weights, d = min(0.3, (1 + n) / (10 + n))."""
    assert run(ema=0.3, epoch_max=1, epoch_val=None)[0] == 0
    last = torch.load(tmp_path / "run" / "epoch-last.pth", weights_only=True)
    config = check(files.configuration(images))
    want = setup.build_model(config, config.seed).state_dict()
    weights = [_steps(images, step) for step in range(1, 5)]
    for decay, state in zip((2 / 11, 3 / 12, 0.3, 0.3), weights, strict=True):
        want = {k: decay * want[k] + (1 - decay) * state[k] for k in want}
    # float32 rounding of four steps
    assert all(torch.allclose(last["model"]["sd"][k], want[k], rtol=0, atol=1e-6) for k in want)
    assert files.same(last["training"]["weights"], weights[-1])


def _steps(images, n: int) -> dict[str, torch.Tensor]:
    """Weights after n steps of the small configuration, by the parts of the trainer."""
    config = check(files.configuration(images))
    parts = setup.setup(config, torch.device("cpu"), config.seed)
    step = Step(config, parts.module, parts.module, parts.optimizer, parts.device, config.seed)
    for i, batch in enumerate(parts.train_loader):
        if i == n:
            break
        step.end(step.begin(expand(batch), i))
    return parts.module.state_dict()


def test_gradients_are_clipped(images, run, tmp_path):
    """With plain SGD and one step, the weights move by lr * norm, no further."""
    sgd = {"name": "sgd", "args": {"lr": 1.0}}
    assert run(optimizer=sgd, grad_clip=1e-3, epoch_max=1, epoch_val=None, train_dataset__batch_size=16)[0] == 0
    config = check(files.configuration(images))
    before = setup.build_model(config, config.seed).state_dict()
    after = files.weights(tmp_path / "run")
    moved = sum((after[k] - before[k]).square().sum() for k in before).sqrt().item()
    assert moved == pytest.approx(1e-3, rel=1e-3)


def test_own_kinds_of_data(images, run, tmp_path):
    """Registered datasets and wrappers of the official interface, without anything of ours in them."""

    @data.register("constant")
    class Constant(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.full((3, 32, 32), index / 8)

    @data.register("own-wrapper")
    class Wrapper(torch.utils.data.Dataset):
        def __init__(self, dataset):
            self.dataset = dataset

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, index):
            image = self.dataset[index]
            coord = torch.rand(5, 2) * 2 - 1
            return {"inp": image[:, ::4, ::4], "coord": coord, "cell": coord * 0 + 0.1, "gt": image[:, 0, :5].T}

    for wrapper in ({"name": "own-wrapper"}, {"name": "sr-implicit-downsampled", "args": {"inp_size": 8}}):
        spec = {"dataset": {"name": "constant"}, "wrapper": wrapper, "batch_size": 4}
        results = []
        for folder in ("a", "b"):
            assert run("--overwrite", folder=folder, train_dataset=spec, epoch_val=None, epoch_max=2)[0] == 0
            results.append(files.losses(tmp_path / folder))
        assert results[0] == results[1]  # the seed holds for them too


def test_fp16_scales_its_gradients(images, tmp_path, run, monkeypatch):
    """CUDA's path, on the CPU: a scale that overflows is reduced and the step left out, which is no NaN."""
    from liif_fast.training import step

    monkeypatch.setattr(step, "half_precision", lambda amp, device: torch.float16)
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: scaler(device, init_scale=2.0**40))
    assert run(epoch_max=3, epoch_val=None)[0] == 0
    last = torch.load(tmp_path / "run" / "epoch-last.pth", weights_only=True)
    assert last["training"]["scaler"]["scale"] < 2.0**40
    assert last["training"]["progress"]["skipped"] == 0
    assert run("--resume", epoch_max=9, epoch_val=None)[0] == 0
    found = files.losses(tmp_path / "run")
    assert sum(found[i] for i in range(33, 37)) < 0.95 * sum(found[i] for i in range(1, 5))  # steps that were taken


def test_compile_is_passed_on(images, tmp_path, run, monkeypatch):
    called = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *a, **k: called.append(type(self).__name__))
    assert run(compile=True, epoch_max=1)[0] == 0
    assert called == ["LIIF"]
