"""Losses that are not finite, and disks that are full: what a run does about them."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch
import training_files as files
from torch import nn

import liif_fast
from liif_fast.weights import files as weight_files


@pytest.fixture
def run(images, tmp_path, capsys):
    return files.runner(images, tmp_path, capsys)


@liif_fast.register("breaks")
class Breaks(nn.Module):
    """A linear model with normalisation whose answer is NaN at the given forward passes."""

    def __init__(self, at: list[int]) -> None:
        super().__init__()
        self.norm, self.last, self.at, self.calls = nn.BatchNorm2d(3), nn.Linear(2, 3), at, 0

    def forward(self, inp, coord, cell):
        if self.training:
            self.calls += 1
            if self.calls in self.at:
                inp = inp * float("nan")
        return self.last(coord) + self.norm(inp).mean((1, 2, 3)).view(-1, 1, 1)


def test_a_nan_is_skipped_and_counted(run, tmp_path):
    code, out, err = run(model={"name": "breaks", "args": {"at": [2, 5]}}, epoch_max=2, nan_limit=2, epoch_val=None)
    assert (code, err) == (0, "")
    assert "step 2: the loss is not finite, step skipped (1 so far)" in out
    assert "step 5: the loss is not finite, step skipped (2 so far)" in out
    assert all(t.isfinite().all() for t in files.weights(tmp_path / "run").values())  # also what BatchNorm remembers
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["skipped"] == 2
    assert "loss" not in records[1]


def test_too_many_nans_end_the_run(run, tmp_path):
    code, _, err = run(model={"name": "breaks", "args": {"at": [2, 3, 5]}}, epoch_max=2, nan_limit=2, epoch_val=None)
    assert code == 1
    assert err.count("\n") == 1
    assert "nan_limit" in err
    saved = torch.load(tmp_path / "run" / "epoch-last.pth", weights_only=True)["training"]["progress"]
    assert (saved["step"], saved["skipped"]) == (5, 3)


def test_a_full_disk(run, tmp_path, monkeypatch):
    assert run(epoch_max=1)[0] == 0
    before = (tmp_path / "run" / "epoch-last.pth").read_bytes()
    write = weight_files.write

    def full(path, content):
        if path.suffix == ".pth":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(weight_files, "write", full)
    code, _, err = run("--resume", epoch_max=2)
    assert code == 1
    assert err.count("\n") == 1
    assert "disk is full" in err
    assert (tmp_path / "run" / "epoch-last.pth").read_bytes() == before


def test_no_room_for_checkpoints_is_said_first(run, tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(1000))
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "nearly full" in err
