"""What the suite promises of itself: what is collected where, and what its environment variables force."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import conftest
import pytest
import torch

from liif_fast.head import precision

ROOT = Path(__file__).parents[2]


def python(*arguments, **environment) -> subprocess.CompletedProcess:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gpu_tests_are_not_collected_without_a_device(monkeypatch):
    gpu = ROOT / "tests" / "gpu"
    monkeypatch.setattr(conftest, "GPU_DEVICE", "cuda")
    assert conftest.pytest_ignore_collect(gpu)
    assert conftest.pytest_ignore_collect(gpu / "test_render.py")
    assert conftest.pytest_ignore_collect(ROOT / "tests" / "head" / "test_ops.py") is None
    monkeypatch.setattr(conftest, "GPU_DEVICE", "cpu")
    assert conftest.pytest_ignore_collect(gpu) is None


def test_who_asks_for_gpu_tests_without_a_device_is_told():
    done = python(
        "-m", "pytest", "-p", "no:cacheprovider", "tests/gpu/test_render.py", LIIF_FAST_GPU_TEST_DEVICE="cuda"
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = done.stderr.split("\n\n")[0].strip().splitlines()
    assert "nothing was run, torch finds no CUDA device" in line


def test_the_precision_of_products_can_be_forced(monkeypatch):
    for name in ("bfloat16", "float32"):
        monkeypatch.setenv("LIIF_FAST_MATMUL", name)
        monkeypatch.setattr(precision, "FAST_HALF_CPU", precision._half_of_cpu()[0])
        assert precision.matmul_dtype(torch.bfloat16, "cpu") == getattr(torch, name)
        assert precision.matmul_dtype(torch.bfloat16, "cuda") == torch.bfloat16
        assert precision.matmul_dtype(torch.float16, "cpu") == torch.float32
    monkeypatch.delenv("LIIF_FAST_MATMUL")
    found = precision._half_of_cpu()
    monkeypatch.setenv("LIIF_FAST_MATMUL", "int4")
    with pytest.warns(UserWarning, match="LIIF_FAST_MATMUL: auto, bfloat16 or float32 is wanted, got 'int4'"):
        assert precision._half_of_cpu() == found
