"""The kernel for residual and bias: its numbers in triton's interpreter, and compiled for cards that are not here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: pip install triton"
)


def script(*arguments):
    """What tests/helpers/residual_interpreter.py prints."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "residual_interpreter.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_kernel_in_the_interpreter():
    script()


@pytest.mark.parametrize("architecture", ["80", "90"])
def test_the_kernel_compiled(architecture):
    """Nothing spilled, and 16 bytes a load: two of x and two of y for each thread's 16 values."""
    found = json.loads(script(architecture))
    assert found["spilled"] == 0
    assert found["wide"] >= 4
