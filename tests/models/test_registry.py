"""Models by name: what ``make`` refuses, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch

import liif_fast


def test_registry():
    with pytest.raises(KeyError, match=r"no model is registered as 'nothing'; known: .*liif"):
        liif_fast.make({"name": "nothing", "args": {}})
    with pytest.raises(TypeError, match="must be a mapping"):
        liif_fast.make("liif")
    with pytest.raises(KeyError, match="load_sd"):
        liif_fast.make({"name": "mlp", "args": {"in_dim": 2, "out_dim": 3, "hidden_list": []}}, load_sd=True)
    spec = {"name": "mlp", "args": {"in_dim": 2, "out_dim": 3, "hidden_list": [4]}}
    assert liif_fast.make(spec, args={"out_dim": 5})(torch.zeros(1, 2)).shape == (1, 5)
    assert spec["args"]["out_dim"] == 3
