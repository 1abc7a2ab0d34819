"""The figures of docs/how.md show what the code does."""

from __future__ import annotations

import sys

import doc_blocks
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import liif_fast
from liif_fast import reference

pytest.importorskip("matplotlib")
sys.path.insert(0, str(doc_blocks.ROOT / "docs"))
import figures


def test_they_are_those_of_the_page(tmp_path):
    figures.draw(tmp_path)
    page = (doc_blocks.ROOT / "docs" / "how.md").read_text(encoding="utf-8")
    assert {f"(figures/{path.name})" in page for path in tmp_path.iterdir()} == {True}
    assert page.count("](figures/") == len(list(tmp_path.iterdir())) == 3


def test_a_corners_weight_is_the_area_across():
    index, weights = figures.corners()
    at = (torch.tensor(figures.QUERY) + 1) / 2 * figures.SIDE
    across = (index.flip(0) + 0.5 - at).abs().prod(-1)
    torch.testing.assert_close(weights, across / across.sum(), rtol=0, atol=1e-5)


def test_multiply_adds_are_those_of_the_layers():
    """Counted by torch on the unfolded computation of as many queries as a map of 4x4 pixels has at x2."""
    hidden = [figures.WIDTH] * figures.LAYERS
    mlp = liif_fast.MLP(9 * figures.CHANNELS + 4, 3, hidden)
    feat, coord = torch.rand(1, figures.CHANNELS, 4, 4), reference.make_coord((8, 8)).unsqueeze(0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        reference.liif(feat, coord, torch.full_like(coord, 0.25), mlp)
    # the counter has two operations a multiply-add
    assert counter.get_total_flops() / 2 / 64 == figures.multiply_adds(2)["unfold, MLP"]


def test_what_a_feature_sees_is_what_its_layers_say():
    model = liif_fast.load("small-liif")
    field, seen = model.encoder.receptive_field, figures.seen(model)
    rows = seen.any(1).nonzero().flatten()
    assert (rows.min().item(), rows.max().item()) == (24 - field, 24 + field)
