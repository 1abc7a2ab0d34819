"""Public modules by their short names: the very modules, with all their parts, in whatever order they are imported."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import liif_fast

FRESH = """
import sys
sys.argv[0] = "{program}"
from liif_fast.functional import query
import liif_fast.baselines.losses as losses
from liif_fast.encoders.edsr import EDSR
import liif_fast.models.baselines.losses as first, liif_fast.models.encoders.edsr as edsr
import liif_fast.head.functional as functional
assert losses is first and EDSR is edsr.EDSR and query is functional.query
assert (losses.__name__, losses.__spec__.name) == ("liif_fast.models.baselines.losses",) * 2
"""


@pytest.mark.parametrize("program", ["program.py", "liif-fast"])
def test_parts_of_public_modules_are_there_once(program):
    env = {**os.environ, "PYTHONPATH": str(Path(liif_fast.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH.format(program=program)], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr


def test_public_modules_are_what_they_stand_for():
    for name, first in liif_fast._MODULES.items():
        module = importlib.import_module(f"liif_fast.{name}")
        assert module is importlib.import_module(f"liif_fast.{first}") is getattr(liif_fast, name)
        assert module.__spec__.name == module.__name__ == f"liif_fast.{first}"
    with pytest.raises(ModuleNotFoundError, match=r"liif_fast\.models\.encoders\.none"):
        importlib.import_module("liif_fast.encoders.none")
    assert importlib.util.find_spec("liif_fast.none") is None
