"""The command ``doctor``: versions and implementations, as text and as JSON."""

from __future__ import annotations

import json

import command
import pytest
import torch


@pytest.fixture
def run(model_file, capsys):
    return command.caller(model_file, capsys)


def test_doctor(run):
    code, stdout, _ = run(command="doctor")
    assert code == 0
    assert f"torch {torch.__version__}" in stdout
    for name in ("corner_gather", "corner_gather_backward", "render"):
        assert f"{name} on cpu: " in stdout
    facts = json.loads(run("--json", command="doctor")[1])
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["operators"]["render"]["cpu"]
