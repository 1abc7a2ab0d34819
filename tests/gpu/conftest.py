"""What only a CUDA device can show. Everything in this folder is marked ``gpu`` and not collected without one.

LIIF_FAST_GPU_TEST_DEVICE=cpu runs on the CPU whatever needs no CUDA, to check the tests themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

# cuBLAS promises equal results only with a workspace of fixed size; read when its handle is made
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch

DEVICE = os.environ.get("LIIF_FAST_GPU_TEST_DEVICE", "cuda")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture
def device():
    """Where the test runs; without TF32, so that float32 is float32."""
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield torch.device(DEVICE)
    for switch, was in zip(switches, before, strict=True):
        switch.allow_tf32 = was


@pytest.fixture
def cuda(device):
    """``device`` for tests that make sense on CUDA only."""
    if device.type != "cuda":
        pytest.skip("makes sense on CUDA only")
    return device


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
