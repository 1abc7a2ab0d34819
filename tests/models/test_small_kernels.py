"""The small kernels: their numbers in triton's interpreter, and compiled for cards that are not here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from liif_fast.head import triton
from liif_fast.head.triton import small
from liif_fast.head.triton.configs import SHARED
from liif_fast.models import encoders
from liif_fast.models.encoders import residual

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: pip install triton"
)


def script(*arguments):
    """What tests/helpers/small_kernels.py prints."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "small_kernels.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_kernels_in_the_interpreter():
    script()


@pytest.mark.parametrize("architecture", ["80", "90"])
def test_the_kernels_compiled(architecture):
    """Nothing spilled, and 16 bytes a load: two of x and two of y for each thread's 16 values, four in float32."""
    found = json.loads(script(architecture))
    convolutions = {name: found.pop(name) for name in list(found) if name.startswith("convolution")}
    assert len(convolutions) == (3 if architecture == "90" else 0)
    for name, kernel in convolutions.items():
        assert (kernel["spilled"], kernel["unordered"]) == (0, 0), name
        assert kernel["shared"] <= SHARED[90], name
        assert kernel["wgmma"] > 0, name
    assert found.keys() == {"residual", "relu_backward", "add", "relu_backward float32"}
    for name, kernel in found.items():
        assert kernel["spilled"] == 0, name
        assert kernel["wide"] >= (8 if "float32" in name else 4), name


@pytest.mark.parametrize("setting", ["auto", "0", "1"])
def test_where_the_kernel_runs(monkeypatch, setting):
    """Where triton does and is not switched off; if it does not compile, that is said once, or raised if wanted."""
    x, y = (torch.randn(2, 5, 4, 3).to(torch.bfloat16, memory_format=torch.channels_last) for _ in range(2))
    b, given = torch.randn(5).to(torch.bfloat16), []
    want = torch.add(x, y + b.view(-1, 1, 1), alpha=0.3)
    kernel = types.SimpleNamespace(add=lambda *arguments: given.append(arguments) or want)
    monkeypatch.setitem(sys.modules, "liif_fast.models.encoders.residual_kernel", kernel)
    monkeypatch.setattr(encoders, "residual_kernel", kernel, raising=False)
    monkeypatch.setattr(small, "_said", set())
    monkeypatch.setattr(triton, "available", lambda device: (True, ""))
    monkeypatch.setenv("LIIF_FAST_TRITON", setting)

    def add(x=x):
        return residual._added(x, y.clone(), b, 0.3)

    assert torch.equal(add(), want)
    assert len(given) == (setting != "0")
    assert_close(add(x.contiguous()), want, rtol=2**-7, atol=2**-7)  # another layout: torch's sums round otherwise
    assert len(given) == (setting != "0")

    def broken(*arguments):
        raise ImportError("no Python.h")

    kernel.add = broken
    if setting == "auto":
        with pytest.warns(UserWarning, match=r"no Python\.h"):
            assert torch.equal(add(), want)
        assert torch.equal(add(), want)
    elif setting == "1":
        with pytest.raises(ImportError):
            add()
