"""Images on the device: the CPU's results, Set5."""

from __future__ import annotations

import copy

import pytest
import torch

from gpu.test_training_gpu import model
from liif_fast.quality.evaluate import evaluate


@pytest.mark.parametrize("size", [(37, 41), (90, 52), (11, 13)])
def test_render_equals_the_cpu(device, size):
    net = model("cpu").eval()
    torch.manual_seed(0)
    inp = torch.rand(2, 3, 13, 17) * 2 - 1
    want = net.render(inp, size)
    out = copy.deepcopy(net).to(device).render(inp.to(device), size)
    torch.testing.assert_close(out.cpu(), want, rtol=0, atol=2e-5)  # float32 sums in other orders, through ten layers


@pytest.mark.parametrize("tile", [0, 9])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_upscale_equals_the_cpu(device, tile, dtype, tolerance):
    net = model("cpu").eval()
    torch.manual_seed(0)
    image = torch.rand(1, 3, 19, 23)
    want = net.upscale(image, scale=2.3)
    out = copy.deepcopy(net).to(device).upscale(image.to(device), scale=2.3, tile=tile, dtype=dtype)
    assert out.device.type == device.type
    torch.testing.assert_close(out.cpu(), want, rtol=0, atol=tolerance)  # colours in [0, 1]


@pytest.mark.parametrize("scale", [2, 4])
def test_set5_in_half_precision(device, data_dir, scale):
    """bfloat16 within 0.02 dB of float32 on the same device, float16 too."""
    import liif_fast

    net = liif_fast.load(data_dir / "weights" / "edsr-baseline-liif.pth", device=str(device))
    found = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):

        def upscale(image, size, dtype=dtype):
            return net.upscale(image.to(device), size=size, dtype=dtype)

        found[dtype] = evaluate(upscale, data_dir / "benchmark" / "Set5", scale).psnr
    golden = {2: 37.988, 4: 32.238}[scale]  # the official code's, in float32 on a CPU
    assert found[torch.float32] == pytest.approx(golden, abs=0.01)
    for dtype in (torch.bfloat16, torch.float16):
        assert found[dtype] == pytest.approx(found[torch.float32], abs=0.02), found
