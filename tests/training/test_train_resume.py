"""Runs in pieces: what resuming gives after an end, a kill, a signal or the given minutes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import training_files as files

from liif_fast.cli import train
from liif_fast.training import signals


@pytest.fixture
def run(images, tmp_path, capsys):
    return files.runner(images, tmp_path, capsys)


@pytest.mark.parametrize(
    "extra", [{}, {"ema": 0.9, "amp": "bf16", "grad_clip": 0.5, "channels_last": True}], ids=["", "all"]
)
def test_more_epochs_by_resuming(run, tmp_path, extra):
    assert run(folder="whole", epoch_max=4, **extra)[0] == 0
    assert run(epoch_max=2, **extra)[0] == 0
    assert run("--resume", epoch_max=4, **extra)[0] == 0
    assert files.losses(tmp_path / "run") == files.losses(tmp_path / "whole")
    assert files.same(files.weights(tmp_path / "run"), files.weights(tmp_path / "whole"))
    assert len(files.losses(tmp_path / "run")) == 16


def test_resume_of_an_official_checkpoint(run, tmp_path):
    """Without what this trainer adds: goes on behind its epochs, with the rate that they leave."""
    assert run(folder="first", epoch_max=2)[0] == 0
    checkpoint = torch.load(tmp_path / "first" / "epoch-last.pth", weights_only=True)
    official = {key: checkpoint[key] for key in ("model", "optimizer", "epoch")}
    torch.save(official, tmp_path / "official.pth")
    code, out, _ = run(resume=str(tmp_path / "official.pth"))
    assert code == 0
    assert "epoch 3/3" in out
    assert "epoch 2/3" not in out
    after = torch.load(tmp_path / "run" / "epoch-last.pth", weights_only=True)
    assert after["optimizer"]["sd"]["param_groups"][0]["lr"] == 5e-4  # once, not again


def start(images, tmp_path, *arguments, **changes) -> subprocess.Popen:
    config = files.write(tmp_path / "run.yaml", files.configuration(images, **changes))
    command = [sys.executable, "-m", "liif_fast.train", str(config), "--save", str(tmp_path / "run"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(process: subprocess.Popen, run: Path, step: int) -> None:
    """Until a record of this step or a later one stands in metrics.jsonl."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        text = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else ""
        done = re.findall(r'"step": (\d+),.*\n', text)
        if done and int(done[-1]) >= step:
            return
        time.sleep(0.005)
    pytest.fail(f"ended or stood still: {process.communicate()[1][-500:]}")


@pytest.mark.long
def test_five_kills(images, run, tmp_path):
    """kill -9 at random steps, resumed each time: bit for bit the run that nobody killed, losses and weights."""
    changes = {"epoch_max": 12, "save_steps": 3, "train_dataset__dataset__args__repeat": 10}
    assert run(folder="whole", **changes)[0] == 0
    whole = files.losses(tmp_path / "whole")
    assert len(whole) == 120
    random.seed(os.environ.get("PYTEST_KILL_SEED"))
    for step in sorted(random.sample(range(5, 100), 5)):
        process = start(images, tmp_path, "--resume", num_workers=1, **changes)
        wait_for_step(process, tmp_path / "run", step)
        process.kill()
        process.communicate()
        saved = torch.load(tmp_path / "run" / "epoch-last.pth", weights_only=True)["training"]["progress"]["step"]
        assert saved >= step - 3  # no more is lost than the steps since the last save
    assert run("--resume", **changes)[0] == 0
    assert files.losses(tmp_path / "run") == whole
    assert files.epochs(tmp_path / "run") == files.epochs(tmp_path / "whole")
    assert files.same(files.weights(tmp_path / "run"), files.weights(tmp_path / "whole"))


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_first(images, run, tmp_path, number, code):
    changes = {"epoch_max": 4000, "epoch_val": None, "epoch_save": None}
    process = start(images, tmp_path, num_workers=1, **changes)
    wait_for_step(process, tmp_path / "run", 10)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, "")
    assert "--resume" in out.splitlines()[-1]
    done = files.losses(tmp_path / "run")
    assert torch.load(tmp_path / "run" / "epoch-last.pth", weights_only=True)["training"]["progress"]["step"] == len(
        done
    )
    changes["epoch_max"] = len(done) // 4 + 2
    assert run("--resume", **changes)[0] == 0
    assert run(folder="whole", **changes)[0] == 0
    assert files.losses(tmp_path / "run") == files.losses(tmp_path / "whole")


@pytest.mark.parametrize("cache", ["in_memory", "device"])
def test_pieces_of_a_run(run, tmp_path, monkeypatch, cache):
    """--minutes ends with exit code 0 in the middle of epochs and of validation; the pieces are the whole run."""
    changes = {"train_dataset__dataset__args__cache": cache, "ema": 0.9}
    assert run(folder="whole", **changes)[0] == 0
    pieces, stopped = 0, set()
    while True:
        ticks = iter(range(10**6))  # a clock that a look at it moves on by a second: four looks, and the time is over
        monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda ticks=ticks: next(ticks)))
        monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: 0))
        code, out, err = run("--resume", "--minutes", "0.06", **changes)
        assert (code, err) == (0, "")
        pieces += 1
        if "--resume" not in out.splitlines()[-1]:
            break
        stopped.add(torch.load(tmp_path / "run" / "epoch-last.pth")["training"]["progress"]["batch"])
    assert pieces > 3
    assert len(stopped) > 2  # in different places of an epoch
    assert files.losses(tmp_path / "run") == files.losses(tmp_path / "whole")
    assert files.epochs(tmp_path / "run") == files.epochs(tmp_path / "whole")
    assert files.same(files.weights(tmp_path / "run"), files.weights(tmp_path / "whole"))


def test_minutes_are_checked(run):
    for minutes in ("0", "-1", "nan"):
        code, out, err = run("--minutes", minutes)
        assert (code, out) == (2, "")
        assert "--minutes" in err
