"""The programs that make the open weights (tools/open_weights), in sizes that take seconds."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import training_files as files
import yaml
from PIL import Image

import liif_fast
from liif_fast.cli import train
from liif_fast.training import signals
from liif_fast.training.config import load_config
from liif_fast.training.dry_run import dry_run
from liif_fast.training.run_folder import Start
from liif_fast.training.setup import build_model
from liif_fast.weights import checkpoints, pretrained

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools" / "open_weights"


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """The programs as modules; what they change of the process is undone."""
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.chdir(Path.cwd())


def tool(name: str):
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two photos of each source, and an image of Set5, all small."""
    folder = tmp_path_factory.mktemp("data")
    for source in ("clic2025", "cid22_train", "budgie_cc0"):
        files.make_images(folder / "train" / source, sizes=((110, 104), (100, 120)))
    high = files.make_images(folder / "benchmark" / "Set5" / "HR", sizes=((80, 96),))
    low = folder / "benchmark" / "Set5" / "LR_bicubic" / "X4"
    low.mkdir(parents=True)
    with Image.open(high / "00.png") as image:
        image.resize((24, 20), Image.Resampling.BICUBIC).save(low / "00x4.png")
    return folder


@pytest.fixture
def pieces(data, tmp_path):
    tool("photos").pack(data, tmp_path / "pieces", 60, None)
    return tmp_path / "pieces"


def call(pieces: Path, work: str, state: str, out: str, *arguments: str) -> int:
    """One call of runs.py beside ``pieces``."""
    folders = [str(pieces.parent / name) for name in ("pieces", state, out)]
    options = ["--tiny", "--device", "cpu", "--work", str(pieces.parent / work)]
    return tool("runs").main([*folders, *options, *arguments])


def test_photos_come_back_byte_for_byte_in_pieces_below_the_limit(data, tmp_path):
    photos, limit = tool("photos"), 0.16
    index = photos.pack(data, tmp_path / "pieces", limit, None)
    assert len(index["pieces"]) > 1
    for piece in index["pieces"]:
        assert (tmp_path / "pieces" / piece["file"]).stat().st_size == piece["bytes"] <= limit * 2**20
    for entry in index["sources"].values():
        assert all(entry[key] for key in ("what", "from", "licence", "credit"))
    first, *others = sorted((tmp_path / "pieces").glob("*.tar"))
    for other in others:
        other.rename(tmp_path / other.name)
    work = tmp_path / "work"
    assert photos.unpack(tmp_path / "pieces", work) == [other.name for other in others]
    first.unlink()  # it has been unpacked
    for other in others:
        (tmp_path / other.name).rename(other)
    assert photos.unpack(tmp_path / "pieces", work) == []
    originals = sorted((data / "train").rglob("*.png"))
    assert len(originals) == len(index["images"]) == 6
    for file in originals:
        assert (work / "load/photos" / file.relative_to(data / "train")).read_bytes() == file.read_bytes()
    assert (work / "load/benchmark/Set5/LR_bicubic/X4/00x4.png").is_file()


def test_a_copy_of_the_photos_says_what_it_lost(data, tmp_path):
    index = tool("photos").pack(data, tmp_path / "pieces", 60, 95)
    errors = []
    with tarfile.open(tmp_path / "pieces" / "photos-1.tar") as archive:
        for entry in index["images"]:
            source = data / "train" / entry["source"] / Path(entry["file"]).with_suffix(".png").name
            with Image.open(archive.extractfile(entry["file"])) as copy, Image.open(source) as original:
                assert copy.format == "JPEG"
                errors.append(np.square(np.float64(copy) - np.float64(original)).mean())
    psnr = 10 * np.log10(255**2 / np.array(errors))
    assert index["psnr"]["mean"] == pytest.approx(psnr.mean())
    assert index["psnr"]["least"] == pytest.approx(psnr.min())
    assert psnr.min() > 30


def test_damaged_or_unknown_photos_are_refused(data, pieces, tmp_path):
    photos, piece = tool("photos"), pieces / "photos-1.tar"
    piece.write_bytes(piece.read_bytes()[:-1] + b"x")
    with pytest.raises(SystemExit, match="damaged"):
        photos.unpack(pieces, tmp_path / "work")
    (tmp_path / "other" / "train" / "unknown").mkdir(parents=True)
    with pytest.raises(SystemExit, match="no licence"):
        photos.pack(tmp_path / "other", tmp_path / "out", 60, None)


@pytest.mark.parametrize("run", ["liif", "srcnn", "srresnet", "srgan"])
def test_configurations_are_in_order(run, tmp_path, monkeypatch):
    """Those of the repository build what the name says, and nothing is said to be missing but data."""
    runs, ship = tool("runs"), tool("ship")
    monkeypatch.chdir(tmp_path)
    file = ROOT / "configs" / f"{runs.RUNS[run]}.yaml"
    config = load_config(file)
    text, _ = dry_run(config, tmp_path / "save", torch.device("cpu"), Start())
    assert {line.split(":")[1].strip() for line in text.splitlines() if line.startswith("missing")} <= {
        "train_dataset", "val_dataset", "init",
    }  # fmt: skip
    model = build_model(config, 0)
    weights = sum(t.numel() for t in model.state_dict().values())
    assert 2 * weights < ship.MOST
    assert ship.name_of(run) in pretrained.OPEN
    assert len(pretrained.OPEN) == len(runs.RUNS)
    assert max(config.multi_step_lr["milestones"]) < config.epoch_max
    assert yaml.safe_load(file.read_text())["train_dataset"]["dataset"]["args"]["cache"] == "device"


@pytest.mark.long
@pytest.mark.parametrize("run", ["liif", "srresnet"])
def test_runs_in_pieces_that_move_are_the_whole_run(pieces, tmp_path, monkeypatch, run):
    """dry_run.py: each piece in a folder of its own from what the last one packed; a stop inside an epoch included."""
    tested = tool("dry_run")
    (tmp_path / "dry").mkdir()
    pieces.rename(tmp_path / "dry" / "data")

    def execute(arguments):
        ticks = iter(range(10**6))  # a clock that a look at it, one for each step, moves on by a second
        monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
        monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: 0))
        assert tool("runs").main(arguments) == 0

    monkeypatch.setattr(tested, "execute", execute)
    row = tested.dry_run(tmp_path / "dry", run, 41, ["--tiny", "--device", "cpu", "--steps", "120"])
    assert len(row["steps_at_end_of_piece"]) > 2
    assert any(step % 30 for step in row["steps_at_end_of_piece"])  # inside an epoch
    assert row["steps_at_end_of_piece"][-1] == row["steps"] == 120
    assert row["same_figures"]
    assert row["same_weights"]
    assert row["same_optimizer"]
    first, last = row["loss_of_first_and_last_epoch"]
    assert last < first
    assert sorted(p.name for p in (tmp_path / "dry").glob("*-piece-*")) == [
        f"{run}-piece-{len(row['steps_at_end_of_piece'])}"  # the earlier ones' folders are gone
    ]


def test_sameness_is_of_every_bit():
    same = tool("dry_run").same
    a = {"x": [torch.zeros(3), {"y": 1}], "z": None}
    assert same(a, {"x": [torch.zeros(3), {"y": 1}], "z": None})
    assert not same(a, {"x": [torch.tensor([0, 0, 1e-45]), {"y": 1}], "z": None})
    assert not same(a, {"x": [torch.zeros(3), {"y": 2}], "z": None})
    assert not same(a, {"x": [torch.zeros(3)], "z": None})


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}


@pytest.mark.long
def test_all_pieces_then_weights_with_cards(pieces, data, tmp_path, monkeypatch, capsys):
    """The four scripts' pieces in two calls on two machines; then what is shipped loads by name and is the model."""
    ship, moving = tool("ship"), tool("moving")
    steps = ("--steps", "8", "--bench-steps", "8")
    assert call(pieces, "work-1", "none", "out-1", *steps, "throughput", "sweep", "srcnn:1", "liif:1") == 0
    assert call(pieces, "work-2", "out-1", "out-2", *steps, "srresnet:1", "srgan:1", "liif:1", "compare") == 0
    out, err = capsys.readouterr()
    assert "liif: finished already" in out
    assert "restored from" in out
    assert err == ""
    save = tmp_path / "work-2" / "save"
    measured = json.loads((save / "throughput.json").read_text())
    assert [row["contender"] for row in measured["rows"]] == [
        "reference", "liif_fast, as configured", "liif_fast, float32",
    ]  # fmt: skip
    assert all(row["steps"] == 8 and row["steps_per_s"] > 0 for row in measured["rows"])
    chosen = json.loads((save / "sweep.json").read_text())
    plan = yaml.safe_load((save / "open-edsr-baseline-liif.yaml").read_text())
    assert plan["train_dataset"]["batch_size"] == chosen["batch"]
    assert plan["optimizer"]["args"]["lr"] == chosen["lr"]

    assert ship.main([str(tmp_path / "work-2"), "--out", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().out.count("made as a trial") == 4
    assert not list(tmp_path.glob("none/*"))
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path / "weights")
    with pytest.raises(SystemExit):
        ship.main([str(tmp_path / "work-2"), "--trial", "--out", str(pretrained.SHIPPED)])
    shipped = [ship.ship(tmp_path / "work-2", run, tmp_path / "weights", trial=True) for run in tool("runs").RUNS]
    assert {file.stem for file in shipped} == set(pretrained.OPEN) <= set(pretrained.names())
    for file, run in zip(shipped, tool("runs").RUNS, strict=True):
        model = liif_fast.load(file.stem)
        trained = checkpoints.load(save / f"_{tool('runs').RUNS[run]}" / "epoch-last.pth").state_dict()
        for key, t in model.state_dict().items():
            assert t.dtype == (torch.float32 if t.is_floating_point() else t.dtype)
            # float16 keeps 11 bits; below 2^-14 the same absolute error
            assert torch.allclose(t, trained[key], rtol=2**-11, atol=2**-25)
        card = file.with_suffix(".md").read_text()
        for source in tool("photos").SOURCES.values():
            assert source["licence"] in card
            assert source["credit"] in card
        assert "not trained" in card
        assert f"{file.stat().st_size} bytes" in card
        assert "| Set5 | x4 | bicubic |" in card
    assert moving.FINISHED in os.listdir(save / "_open-srgan-x4")


def test_unfinished_runs_are_not_shipped(pieces, tmp_path, capsys):
    work = tmp_path / "work"
    assert call(pieces, "work", "none", "out", "--steps", "4000", "srcnn:0.01") == 0
    assert "gone on with in another piece" in capsys.readouterr().out
    assert tool("ship").main([str(work), "--out", str(tmp_path / "weights"), "--trial"]) == 1
    assert "srcnn-x4-open: not shipped: not trained to its end" in capsys.readouterr().out


def test_the_default_depends_on_both_sets(tmp_path):
    def compared(**behind):
        rows = [("official", 32.0, d) for d in ("Set5", "Set14")] + [("liif", 32.0 - x, d) for d, x in behind.items()]
        results = [{"method": m, "psnr": p, "data": d, "scale": 4.0} for m, p, d in rows]
        (tmp_path / "compare.json").write_text(json.dumps({"results": results}))
        return tool("ship").verdict(tmp_path / "compare.json")

    assert "upscale: yes" in compared(Set5=0.29, Set14=0.1)
    assert "upscale: no" in compared(Set5=0.1, Set14=0.31)
    assert "not to be said" in compared(Set5=0.1)
    assert "not to be said" in tool("ship").verdict(tmp_path / "none")


def test_names_of_weights_that_are_not_there_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    with pytest.raises(liif_fast.CheckpointError, match="have not been trained"):
        liif_fast.load("srcnn-x4-open")
    (tmp_path / "srcnn-x4-open.safetensors").write_bytes(b"damaged")
    with pytest.raises(liif_fast.CheckpointError, match="install liif_fast again"):
        liif_fast.load("srcnn-x4-open")


def test_nothing_is_timed_when_the_losses_differ(pieces, tmp_path, monkeypatch):
    speed, runs = tool("training_speed"), tool("runs")
    tool("photos").unpack(pieces, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    raw = runs.tiny(yaml.safe_load((ROOT / "configs" / "open-edsr-baseline-liif.yaml").read_text()))
    raw["data_norm"]["gt"] = {"sub": [0.4], "div": [0.5]}
    monkeypatch.setattr(speed, "timed", lambda *_: pytest.fail("timed"))
    with pytest.raises(RuntimeError, match="nothing is timed"):
        speed.throughput(raw, torch.device("cpu"), 4)


def test_the_scripts_run(pieces):
    """A piece from the shell; what it prints stands in log.txt too."""
    folder = pieces.parent
    for names in (("pieces", "none"), ("pieces", "none", "out")):
        done = subprocess.run(
            [TOOLS / "piece-2.sh", *names], cwd=folder, capture_output=True, text=True,
            env={**environment(), "TINY": "1", "WORK": str(folder / "work"), "OPTIONS": "--steps 4"},
        )  # fmt: skip
        assert (done.returncode == 0) == (len(names) == 3), done.stderr
    assert "liif: finished" in done.stdout
    assert (folder / "out" / "log.txt").read_text() == done.stdout
    assert (folder / "out" / "state.tar.1").is_file()
