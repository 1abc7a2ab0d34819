"""LTE beyond the scales that it was trained at."""

from __future__ import annotations

import math

import pytest
import torch
from liif_queries import grid_of
from lte_models import KINDS
from torch.testing import assert_close

import liif_fast
from liif_fast.base.room import Room
from liif_fast.head import sampling
from liif_fast.models.mosaic import Mosaic


@pytest.fixture(params=KINDS)
def model(request):
    return KINDS[request.param]().eval()


def test_beyond_scale_max_pixels_count_as_large_as_at_it(model, tmp_path):
    """As in LTE's demo.py: cell * max(scale / 4, 1)."""
    image = torch.rand(3, 6, 5)
    inp, (coord, cell) = image[None] * 2 - 1, grid_of((48, 40))
    for scale_max, factor in ((4, 2), (None, 1), (6, 8 / 6), (16, 1)):
        model.scale_max = scale_max
        with torch.no_grad():
            want = model(inp, coord, cell * factor).mT.unflatten(2, (48, 40))
        assert_close(model.upscale(image, scale=8), (want[0] * 0.5 + 0.5).clamp(0, 1), rtol=0, atol=2e-6)
        assert_close(model.upscale(image, scale=8, tile=32), (want[0] * 0.5 + 0.5).clamp(0, 1), rtol=0, atol=2e-6)
        mosaic = Mosaic(model, image[None], None, Room(1 << 20))
        shown = mosaic.render((sampling.Axis(48, 48), sampling.Axis(40, 40)))
        assert_close(shown[0], (want[0] * 0.5 + 0.5).clamp(0, 1), rtol=0, atol=2e-6)
    spec = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    for scale_max in (4, 6, None):
        own = liif_fast.make(
            {"name": "lte-fast", "args": {"encoder_spec": spec, "scale_max": scale_max, "hidden_dim": 8}}
        )
        assert ("scale_max" in own.spec["args"]) is (scale_max != 4)
        own.save(tmp_path / "own.safetensors")
        assert liif_fast.load(tmp_path / "own.safetensors").scale_max == scale_max
    for wrong in (0, -1, True, math.inf, math.nan, "4"):
        with pytest.raises(ValueError, match=r"^scale_max: a number above 0, or None, is wanted, got"):
            liif_fast.make({"name": "lte-fast", "args": {"encoder_spec": spec, "scale_max": wrong}})
