"""The command ``eval``: its report, as text and as JSON."""

from __future__ import annotations

import json

import command
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def run(model_file, capsys):
    return command.caller(model_file, capsys)


def test_eval(run, tmp_path):
    hr = tmp_path / "data" / "HR"
    hr.mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)).save(hr / f"{name}.png")
    code, stdout, _ = run("--data", tmp_path / "data", "-s", "2", "--json", command="eval")
    assert code == 0
    report = json.loads(stdout)
    assert 0 < report["psnr"] < 20  # noise cannot be restored
    code, stdout, _ = run("--data", tmp_path / "data", "-s", "2", "--protocol", "div2k", command="eval")
    assert code == 0
    assert "border" in stdout
    code, _, stderr = run("--data", tmp_path / "nowhere", "-s", "2", command="eval")
    assert code == 2
    assert "nowhere" in stderr
    assert run("--data", tmp_path / "data", "-s", "0", command="eval")[0] == 2
