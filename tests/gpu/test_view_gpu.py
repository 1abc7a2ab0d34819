"""What a page is shown by a model on a CUDA device: the CPU's pixels, with features that stay on the device."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from desks import MODEL, drawn, nothing, smooth

from liif_fast.viewing.desk import Desk, Shown
from liif_fast.viewing.view import View


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1), ("bfloat16", 6), ("float16", 1), ("int8", 8)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pixels_are_the_cpus(device, tiny, tmp_path, mode, dtype, tolerance):
    smooth((90, 70), mode).save(tmp_path / "photo.png")
    model = tiny(hidden=[64, 64]).eval()
    models = [Shown(kind, copy.deepcopy(model).to(where), of) for kind, where, of in (
        ("reference", "cpu", torch.float32), ("ours", device, getattr(torch, dtype)))]  # fmt: skip
    desk = Desk([tmp_path / "photo.png"], models)
    desk.begin()
    for scale, x in ((3, 17), (33.3, 1000), (0.6, 4)):
        view = View(0, MODEL, scale, x, 5, 30, 20)
        want, got = (drawn(desk, view._replace(method=method)).astype(int) for method in (MODEL, MODEL + 1))
        assert np.abs(got - want)[want[..., 3] > 0].max() <= tolerance
    assert desk.save(View(0, MODEL + 1, 2, 0, 0, 20, 20), (30, 30), nothing)
