"""The upscale node on a CUDA device: images stay on the host, the model goes there and comes back."""

from __future__ import annotations

import pytest
import torch
from integrations.test_comfyui import comfy, images, model, upscale  # noqa: F401


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("auto", 2e-2), ("float16", 3e-3)])
@pytest.mark.parametrize("channels", [3, 4])
def test_results_are_the_cpus(device, comfy, upscale, model, channels, dtype, tolerance):  # noqa: F811
    batch = images(channels, height=90, width=70)
    want = upscale(batch, tile=64)
    comfy.management.state.device, comfy.management.state.half = device, (True, True)
    got = upscale(batch, tile=64, dtype=dtype)
    assert got.device == model.device == torch.device("cpu")
    assert (got - want).abs().max() <= tolerance
    assert comfy.management.freed[-1][1] == device
