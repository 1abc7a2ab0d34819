"""Every shipped configuration of the fused kernel, compiled ahead of time for every architecture; no card is needed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from liif_fast.head.triton.configs import KINDS, SHARED, WIDTHS, candidates

ROOT = Path(__file__).parents[2]
TENSOR_MEMORY = 512  # columns that a multiprocessor of sm_100 has
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="triton is not installed: pip install triton"
    ),
]


def _run(*arguments: object) -> list[dict]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "triton_aot.py"), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def _tight(row: dict) -> bool:
    """The case tested here in which the Gluon kernel keeps some bytes of a thread in memory: 64 x 256 sums in
    registers, 16 channels, one corner, no cell."""
    unusual = {"out": 16, "cell": False, "ensemble": False}
    return row["config"]["structure"] == "gluon" and row["changed"] == {"D": 256, **unusual}


def _shallow(row: dict) -> bool:
    """One hidden layer behind waves: ptxas aims at three or four blocks a multiprocessor, with 80 or 64 registers, and
    may keep one value in memory for it, stored and loaded once (with ``maxnreg`` it needs no memory, nor has as many
    blocks)."""
    return row["changed"] == {"D": 256, "waves": True, "L": 1} and row["registers"] <= 80


def _fits(row: dict, architecture: int) -> None:
    # In Gluon ptxas uses every register, and whether it keeps one number of a tile in memory (8 bytes) depends even on
    # the source's line numbers: where this fails after a change that leaves the PTX alone, move a line of it.
    assert row["spilled"] <= (64 if _tight(row) else 8 if _shallow(row) else 0), row
    assert row["shared"] <= SHARED[architecture], row
    assert (row["tensor_memory"] or 0) <= TENSOR_MEMORY, row  # more compiles to a trap
    if row["config"]["structure"] == "gluon":  # the order is written out there
        assert row["unordered"] == 0, row


@pytest.mark.parametrize("architecture", SHARED)
def test_shipped_configurations(architecture):
    rows = _run(architecture)
    assert len(rows) == sum(len(candidates(architecture, kind, D)) for kind in KINDS for D in WIDTHS)
    for row in rows:
        _fits(row, architecture)
        assert (row["tma"] > 0) == row["config"]["tma"], row
        # the index arithmetic and all of int8 round every operation; the others' first layer says fma where it means it
        assert (row["fma"] == 0) == (row["kind"] == "int8"), row
        c = row["config"]
        if architecture == 90 and row["kind"] == "half" and c["structure"] == "pairs" and row["width"] == 256:
            # the other widths change layouts through shared memory, int8 stores bytes that are loaded again: that needs
            # no fence, and `unordered` cannot tell
            assert row["unordered"] == 0, row
        if c["structure"] == "gluon":  # two warps gather; no value of the first layer is computed by two threads
            assert row["fma"] == 4 * c["rows"] * row["width"] // (32 * 2), row
        if row["kind"] == "float32" and architecture >= 90:
            assert row["wgmma"] + row["mma"] + row["tcgen05"] > 0, row
        elif architecture == 90:
            assert row["wgmma"] > 0, row
            assert row["mma"] == 0, row
        elif architecture == 100:  # 8-bit products by tcgen05 came after triton 3.6
            assert row["tcgen05"] > 0, row
        else:
            assert row["mma"] > 0, row


@pytest.mark.parametrize("architecture", [90, 80])
def test_dtypes_flags_and_depths(architecture):
    rows = _run(architecture, "flags")
    assert len({json.dumps([row["kind"], row["dtype"], row["changed"]]) for row in rows}) >= 10
    assert any(row["config"]["structure"] == "gluon" for row in rows) == (architecture == 90)
    for row in rows:
        _fits(row, architecture)
        if row["config"]["structure"] == "gluon":
            products = 4 if row["changed"].get("cell", True) else 2  # of each value of the first layer
            assert row["fma"] == products * row["config"]["rows"] * row["width"] // (32 * 2), row


@pytest.mark.parametrize("architecture", SHARED)
def test_waves(architecture):
    rows = _run(architecture, "waves")
    assert {(row["kind"], row["width"]) for row in rows} == {(kind, D) for kind in KINDS[:2] for D in WIDTHS}
    assert any(row["config"]["structure"] == "gluon" for row in rows) == (architecture == 90)
    for row in rows:
        _fits(row, architecture)
        if row["config"]["structure"] == "gluon":
            # angle 1 and its phase 2, the polynomials 5, of half as many values as there are units
            products = 8 if row["changed"].get("cell", True) else 6
            assert row["fma"] == products * row["config"]["rows"] * row["width"] // (2 * 32 * 2), row
