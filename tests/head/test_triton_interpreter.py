"""The fused kernel's numbers in triton's interpreter (tests/helpers/triton_interpreter.py) against plain PyTorch's."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: pip install triton"
)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict]:
    """The script's rows by name."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "triton_interpreter.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({row["name"] for row in found}) == len(found)
    return {row["name"]: row for row in found}


def _of(rows, *words):
    found = [row for name, row in rows.items() if set(words) <= set(name.split())]
    assert found
    return found


def _check(found, unit):
    """Twice the error that plain PyTorch makes in the same precision (it rounds in the same places, but sums in another
    order), or one rounding of the largest colour where chance made plain PyTorch's smaller."""
    for row in found:
        assert row["finite"], row
        assert row["error"] <= max(2 * row["plain"], unit * row["scale"]), row


def test_float32(rows):
    found = _of(rows, "float32")
    assert len(found) == 16
    # 2^-20: some ten additions, each rounded to 2^-24
    _check(found, 2**-20)


def test_bfloat16(rows):
    found = _of(rows, "bfloat16") + _of(rows, "width") + _of(rows, "descriptors")
    _check([row for row in found if not row["name"].startswith("int8")], 2**-8)


def test_float16(rows):
    _check(_of(rows, "float16"), 2**-11)


@pytest.mark.parametrize("name", ["part of a map", "edges", "nan", "infinite"])
def test_unusual_queries(rows, name):
    _check([rows[name]], 2**-20)


def test_waves(rows):
    """render_fourier; what is not finite in it, and that Gluon's gather waits, is asserted by the script."""
    for dtype, unit in (("float32", 2**-20), ("bfloat16", 2**-8), ("float16", 2**-11)):
        found = _of(rows, f"waves-{dtype}")
        assert len(found) >= 12
        _check(found, unit)
    for structure in ("pairs", "chain"):
        _check([rows[f"waves-64-bits {structure}"]], 2**-20)


def test_cosines_and_sines(rows):
    """Against float64; coarse ones are rounded to half precision."""
    found = _of(rows, "table")
    assert len(found) == 4
    for row in found:
        assert row["error"] <= (2e-7 if row["name"].endswith("fine") else 7e-5), row


def test_pixels_that_are_missing(rows):
    """NaN there is asserted by the script; elsewhere, the same bits as from the whole map."""
    found = _of(rows, "missing")
    assert len(found) == 2
    for row in found:
        assert row["error"] == 0, row
        assert row["finite"], row


def test_offsets_of_64_bits(rows):
    found = _of(rows, "64", "bits")
    assert len(found) == 2
    _check(found, 2**-20)


def test_int8(rows):
    """The same integers. The output layer's product is in two parts of bfloat16, which leave 2^-17 of either factor;
    one different integer would show as more than 1e-3."""
    found = _of(rows, "int8")
    assert len(found) == 16
    for row in found:
        assert row["finite"], row
        assert row["error"] <= 2**-16 * max(row["scale"], 1), row


def test_the_comparison_sees_an_integer(rows):
    """One step of one activation, as the script measures it, is far above what test_int8 allows."""
    assert rows["one integer"]["error"] > 10 * 2**-16 * rows["one integer"]["scale"]
    assert math.isfinite(rows["one integer"]["error"])
