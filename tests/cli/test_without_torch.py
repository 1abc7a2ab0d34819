"""The command says its version, its help and mistakes in its arguments before torch, which takes seconds to import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import liif_fast

WITHOUT = """
import sys
sys.modules["torch"] = None  # whoever imports it fails
sys.argv[0] = "liif-fast"
from liif_fast.cli.main import main
for arguments, wanted in (
    (["--version"], 0), (["--help"], 0), (["upscale", "--help"], 0), (["train", "--help"], 0),
    (["-V"], 0), (["help"], 0), (["help", "train"], 0), ([], 2), (["upscalee"], 2), (["upscale"], 2),
    (["photo.jpg", "--sclae", "2"], 2), (["photo.jpg", "--size", "big"], 2),
    (["compare", "--data", "."], 2), (["doctor", "--no"], 2),
):
    try:
        main(arguments)
    except SystemExit as stop:
        assert stop.code == wanted, (arguments, stop.code)
    else:
        raise AssertionError(arguments)
assert "numpy" not in sys.modules and "PIL" not in sys.modules
"""
LATE = """
import sys
sys.argv[0] = "liif-fast"
import liif_fast
assert "torch" not in sys.modules and "liif_fast.functional" not in sys.modules
assert liif_fast.LIIF is liif_fast.models.liif.LIIF and "torch" in sys.modules
import liif_fast.functional as functional
assert functional is liif_fast.functional
import torch
assert torch.ops.liif_fast.render
"""


@pytest.mark.parametrize("program", [WITHOUT, LATE], ids=["not needed", "at the first use"])
def test_torch_is_imported_late(program):
    env = {**os.environ, "PYTHONPATH": str(Path(liif_fast.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def test_elsewhere_everything_is_there_at_once():
    """Operators are registered by the import alone, as programs that load exported models need."""
    program = "import sys, liif_fast; assert 'liif_fast.head.ops' in sys.modules and liif_fast.functional.query"
    env = {**os.environ, "PYTHONPATH": str(Path(liif_fast.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", program], env=env).returncode == 0
    assert {name for name in liif_fast.__all__ if not hasattr(liif_fast, name)} == set()
    with pytest.raises(AttributeError, match="has no attribute 'liif'"):
        liif_fast.liif  # noqa: B018
