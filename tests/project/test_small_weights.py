"""The program that packs small weights (tools/open_weights/small.py), on runs that take seconds."""

from __future__ import annotations

import hashlib
import importlib
import json
import runpy
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import training_files as files
import yaml
from PIL import Image

import liif_fast
from liif_fast.cli.main import main
from liif_fast.quality import metrics
from liif_fast.quality.evaluate import to_tensor
from liif_fast.training.journal import read_metrics
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
    rows += [rows[0] | {"scale": 3}, rows[1] | {"scale": 3, "psnr": None}]  # a scale that the model does not make
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
    assert "x3" not in card
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


def test_all_names_are_there():
    """The weights in the package load, are what their configurations say, have cards, and are small together."""
    files = {name: pretrained.SHIPPED / f"{name}.safetensors" for name in pretrained.SMALL}
    assert sum(file.stat().st_size for file in files.values()) < 2_000_000
    for name, file in files.items():
        raw = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
        model = liif_fast.load(name)
        assert (model.spec["name"], model.data_norm) == (raw["model"]["name"], raw["data_norm"])
        assert sum(p.numel() for p in model.parameters()) == sum(
            p.numel() for p in liif_fast.make(raw["model"]).parameters()
        )
        card = file.with_suffix(".md").read_text(encoding="utf-8")
        assert f"{file.stat().st_size} bytes, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in card


@pytest.mark.parametrize(
    ("name", "scale", "better_by"),  # dB on one photo: less than measured, more than rounding
    [("small-liif", 2, 1.0), ("small-liif", 3, 1.0), ("small-liif", 4, 1.0), ("small-srcnn-x4", 4, 0.5)],
)
def test_better_than_bicubic_without_a_network(name, scale, better_by, photo, monkeypatch):
    monkeypatch.setattr(pretrained, "download", lambda *_: pytest.fail("something is fetched"))
    large, bicubic = enlarged(name, photo, scale)
    db = [
        metrics.psnr(*map(to_tensor, (np.asarray(image), np.asarray(photo))), scale=scale) for image in (large, bicubic)
    ]
    assert db[0] > db[1] + better_by


def test_srgan_is_sharp(photo):
    """Its differences of neighbours are nearer to the photo's than LIIF's, which makes the mean of what may be, and no
    larger."""
    sharpness = {name: edges(enlarged(name, photo, 4)[0]) / edges(photo) for name in ("small-srgan-x4", "small-liif")}
    assert sharpness["small-liif"] < sharpness["small-srgan-x4"] < 1


def test_cards_and_results_are_of_the_same_runs(small):
    """What lies in benchmarks/results/small, the cards, and the configurations."""
    results = ROOT / "benchmarks" / "results" / "small"
    for name, (method, runs) in small.RUNS.items():
        card = (pretrained.SHIPPED / f"{name}.md").read_text(encoding="utf-8")
        assert small.cards.figures(results / "compare.json", method) in card
        assert (results / f"{name}.yaml").read_text(encoding="utf-8") in card
        records = read_metrics(results / f"{name}.jsonl")
        assert small.cards.curve([r for r in records if r["kind"] == "epoch" and "psnr" in r]) in card
        for run in runs:
            plans = [
                yaml.safe_load((at / f"{run}.yaml").read_text(encoding="utf-8")) for at in (results, ROOT / "configs")
            ]
            assert plans[0] == plans[1]


def test_the_demo_needs_no_network(photo, tmp_path, monkeypatch, capsys):
    out = tmp_path / "comparison.png"
    monkeypatch.setenv("LIIF_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["demo.py", "-o", str(out)])
    monkeypatch.setattr(pretrained, "download", lambda *_: pytest.fail("something is fetched"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network is used"))
    runpy.run_path(str(ROOT / "examples" / "demo.py"), run_name="__main__")
    assert "small-liif: 128x128 -> 512x512" in capsys.readouterr().out
    assert out.is_file()
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def photo():
    """scikit-image's astronaut, at a size that 2, 3 and 4 divide."""
    return Image.fromarray(pytest.importorskip("skimage.data").astronaut()).crop((0, 0, 504, 504))


def enlarged(name: str, photo: Image.Image, scale: int) -> tuple[Image.Image, Image.Image]:
    """From a picture reduced by Pillow's bicubic filter: by the model, and by that filter."""
    small = photo.resize((photo.width // scale, photo.height // scale), Image.Resampling.BICUBIC)
    return liif_fast.load(name).upscale(small, scale=scale), small.resize(photo.size, Image.Resampling.BICUBIC)


def edges(image: Image.Image) -> float:
    """Mean absolute difference of neighbours, in grey."""
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    return np.abs(np.diff(grey)).mean()
