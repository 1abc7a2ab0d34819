"""Fixtures for all tests. Test data (Set5, Set14, weights) lies where LIIF_FAST_DATA says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of test data. Unset: skip. Set but wrong: the test that misses its file fails."""
    where = os.environ.get("LIIF_FAST_DATA")
    if not where:
        pytest.skip("LIIF_FAST_DATA is not set")
    return Path(where)


@pytest.fixture(scope="session")
def official(data_dir):
    """The official EDSR-baseline-LIIF; tests must not change it."""
    import liif_fast

    return liif_fast.load(data_dir / "weights" / "edsr-baseline-liif.pth")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def no_compiled_code():
    """The compiler keeps a few graphs for each function: those of other tests' models do not count."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class TinyEncoder(torch.nn.Module):
    """Two convolutions: a stand-in with a known receptive field."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.out_dim = channels
        self.receptive_field = 2
        self.first = torch.nn.Conv2d(3, channels, 3, padding=1)
        self.second = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


@pytest.fixture
def tiny():
    """Builds a LIIF with TinyEncoder: tiny(hidden=[16, 16], channels=6, **flags)."""
    import liif_fast

    def build(hidden=(16, 16), channels=6, out_dim=3, **flags):
        imnet = None if hidden is None else {"name": "mlp", "args": {"out_dim": out_dim, "hidden_list": list(hidden)}}
        return liif_fast.LIIF(TinyEncoder(channels), imnet, **flags)

    return build
