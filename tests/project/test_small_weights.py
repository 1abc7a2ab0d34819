"""The program that packs small weights (tools/open_weights/small.py), on runs that take seconds."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
import training_files as files
import yaml

import liif_fast
from liif_fast.cli.main import main
from liif_fast.weights import checkpoints, pretrained

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The program, with a tiny configuration of each of its names in place of the repository's."""
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "open_weights"))
    module = importlib.import_module("small")
    monkeypatch.setattr(module, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(module, "processor", lambda: "one core of a processor")
    return module


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with a photo of each source, and Set5 in one small picture."""
    folder = tmp_path / "work"
    for source in ("clic2025", "cid22_train", "budgie_cc0"):
        files.make_images(folder / "load" / "photos" / source, sizes=((60, 64), (64, 60)))
    files.make_images(folder / "load" / "benchmark" / "Set5" / "LR_bicubic" / "X4", sizes=((20, 24),))
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(folder)
    return folder


def train(work: Path, name: str, **changes) -> None:
    """A run of two epochs, as its configuration in the place of the repository's says."""
    config = files.configuration(
        work / "load" / "photos" / "clic2025", epoch_max=2, multi_step_lr__milestones=[1], val_dataset=None,
        epoch_val=None, monitor="loss", **changes,
    )  # fmt: skip
    path = files.write(work.parent / "configs" / f"{name}.yaml", config)
    assert main(["train", str(path), "--device", "cpu"]) == 0


def test_weights_with_cards(small, work, tmp_path, monkeypatch, capsys):
    train(work, "small-liif")
    (work / "save" / "compare").mkdir()
    rows = [
        {"data": "Set5", "method": method, "scale": 4, "psnr": 30.5, "ssim": 0.5, "niqe": 4.25, "protocol_text": "Y",
         "lr_text": "files"}
        for method in ("bicubic", "small LIIF", "SRGAN", "official")
    ]  # fmt: skip
    (work / "save" / "compare" / "compare.json").write_text(json.dumps({"results": rows}), encoding="utf-8")
    out = tmp_path / "weights"
    assert small.main([str(work), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "small-srcnn-x4: not shipped: small-srcnn-x4 is not trained" in said
    assert sorted(p.name for p in out.iterdir()) == ["small-liif.md", "small-liif.safetensors"]

    monkeypatch.setattr(pretrained, "SHIPPED", out)
    assert "small-liif" in pretrained.names()
    model = liif_fast.load("small-liif")
    trained = checkpoints.load(work / "save" / "_small-liif" / "epoch-last.pth")
    for key, t in model.state_dict().items():
        assert t.dtype == torch.float32
        # float16 keeps 11 bits; below 2^-14 the same absolute error
        assert torch.allclose(t, trained.state_dict()[key], rtol=2**-11, atol=2**-25)
    card = (out / "small-liif.md").read_text(encoding="utf-8")
    row = "| Set5 | x4 | small LIIF | 30.500 | 0.5000 | 4.25 |"
    for text in ("one core of a processor", "CC BY-SA 4.0", "Budgie", "THREADS=1 liif-fast train", "epoch_max: 2", row):
        assert text in card
    assert "| length | small-liif: 4 steps with batches of 4, " in card
    assert row.replace("small LIIF", "official") in card
    assert "SRGAN |" not in card
    about = next(a for a in pretrained.about() if a.name == "small-liif")
    assert about.path == out / "small-liif.safetensors"
    assert "no network" in about.what


def test_runs_that_are_not_at_their_end_or_of_another_configuration(small, work, tmp_path, capsys):
    train(work, "small-srcnn-x4", model=files.SRCNN)
    config = tmp_path / "configs" / "small-srcnn-x4.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("epoch_max: 2", "epoch_max: 3"), encoding="utf-8")
    assert small.main([str(work), "--out", str(tmp_path / "weights")]) == 1
    assert "is trained by another configuration than small-srcnn-x4.yaml" in capsys.readouterr().out
    (work / "save" / "_small-srcnn-x4" / "config.yaml").write_text(config.read_text(encoding="utf-8"), encoding="utf-8")
    assert small.main([str(work), "--out", str(tmp_path / "weights")]) == 1
    assert "small-srcnn-x4: not shipped: small-srcnn-x4 has 2 epochs of 3" in capsys.readouterr().out
    assert not (tmp_path / "weights").exists()


def test_all_that_a_name_comes_from_is_looked_at(small, work, tmp_path, capsys):
    """SRGAN's card names the run that it started from."""
    train(work, "small-srgan-x4", model=files.SRRESNET)
    assert small.main([str(work), "--out", str(tmp_path / "weights")]) == 1
    assert "small-srgan-x4: not shipped: small-srresnet-x4 is not trained" in capsys.readouterr().out


def test_nothing_is_shipped_that_is_too_large_together(small, work, tmp_path, monkeypatch, capsys):
    """Of what is there already, too."""
    train(work, "small-liif")
    out = tmp_path / "weights"
    out.mkdir()
    (out / "small-srcnn-x4.safetensors").write_bytes(bytes(1000))
    monkeypatch.setattr(small, "MOST", 10_000)
    assert small.main([str(work), "--out", str(out)]) == 1
    assert "nothing is shipped: " in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == ["small-srcnn-x4.safetensors"]


def test_the_repositorys_configurations_are_those_of_the_names():
    """What is shipped under a name has a configuration, and fits into the package."""
    total = 0
    for name in pretrained.SMALL:
        raw = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
        total += 2 * sum(p.numel() for p in liif_fast.make(raw["model"]).state_dict().values())
    assert total < 2_000_000


def test_all_names_are_there():
    """The weights in the package load, offline, are what their configurations say, and have cards."""
    for name in filter(pretrained.shipped, pretrained.SMALL):
        raw = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
        model = liif_fast.load(name)
        assert (model.spec["name"], model.data_norm) == (raw["model"]["name"], raw["data_norm"])
        card = (pretrained.SHIPPED / f"{name}.md").read_text(encoding="utf-8")
        assert str((pretrained.SHIPPED / f"{name}.safetensors").stat().st_size) in card
