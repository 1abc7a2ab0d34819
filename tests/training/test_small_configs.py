"""configs/small-*.yaml: what the table of docs/evaluation.md was trained by is repeated bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import liif_fast
from liif_fast.cli.main import main
from liif_fast.training.config import load_config
from liif_fast.training.journal import METRICS, read_metrics
from liif_fast.training.setup import build_model
from liif_fast.weights import checkpoints

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STEPS = 200
BATCH = 2  # in place of 8 or 16, for the time of a test: nothing else of a step is changed


def configuration(name: str) -> dict:
    """The first steps of a run, in two epochs at two learning rates."""
    raw = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    data = raw["train_dataset"]
    data["batch_size"] = BATCH
    photos = STEPS * BATCH // 2
    data["dataset"]["args"].update(root_path=data["dataset"]["args"]["root_path"][-1], first_k=20, repeat=photos // 20)
    for key in ("val_dataset", "eval_type", "eval_bsize", "epoch_val"):
        raw.pop(key, None)
    return raw | {"epoch_max": 2, "multi_step_lr": {"milestones": [1], "gamma": 0.5}, "log_steps": 1, "monitor": "loss"}


def same(a: object, b: object) -> bool:
    """Of every bit, in tensors too."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items() if key != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.long
@pytest.mark.parametrize("name", ["small-liif", "small-srcnn-x4", "small-srresnet-x4", "small-srgan-x4"])
def test_the_first_steps_are_repeated_bit_for_bit(name, data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("load").mkdir()
    Path("load/photos").symlink_to(data_dir / "train")
    raw = configuration(name)
    if "init" in raw:
        torch.manual_seed(0)
        Path(raw["init"]).parent.mkdir(parents=True)
        checkpoints.save(liif_fast.make(raw["model"]), Path(raw["init"]).with_suffix(".safetensors"))
        raw["init"] = str(Path(raw["init"]).with_suffix(".safetensors"))
    Path("run.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    for folder in ("one", "two"):
        assert main(["train", "run.yaml", "--save", folder, "--device", "cpu"]) == 0, capsys.readouterr().err
    one, two = (torch.load(f"{folder}/epoch-last.pth", weights_only=True) for folder in ("one", "two"))
    assert one["training"]["progress"]["step"] == STEPS
    assert same(one, two)
    records = [read_metrics(Path(folder) / METRICS) for folder in ("one", "two")]
    for first, second in zip(*records, strict=True):
        keys = ("loss", "critic_loss", "lr", "skipped")
        assert [first.get(key) for key in keys] == [second.get(key) for key in keys]
    losses = [record["loss"] for record in records[0] if record["kind"] == "step"]
    assert len(losses) == STEPS
    assert sum(losses[-50:]) < sum(losses[:50]) or name == "small-srgan-x4"
    first = build_model(load_config("run.yaml"), 0) if raw.get("init") is None else liif_fast.load(raw["init"])
    trained = one["training"]["weights"]
    weights = {name: p.detach() for name, p in first.named_parameters() if p.requires_grad}  # EDSR's means are given
    assert weights
    assert not any(same(trained[name], before) for name, before in weights.items())
