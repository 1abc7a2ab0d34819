"""Models by name: what ``make`` refuses, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch

import liif_fast
from liif_fast import registry


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


def test_the_packages_own_do_not_replace_one_that_was_there_before(monkeypatch):
    """The command imports its models late, so that they may find a user's of the same name."""
    monkeypatch.setattr(registry, "_MODELS", {})

    def own() -> str:
        return "own"

    def users() -> str:
        return "user's"

    own.__module__ = "liif_fast.models.encoders.edsr"
    registry.register("x")(own)
    assert registry.make({"name": "x"}) == "own"
    registry.register("x")(users)
    assert registry.register("x")(own) is own
    assert registry.make({"name": "x"}) == "user's"
