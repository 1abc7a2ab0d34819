"""The official checkpoint on Set5: the figures of the official code, reproduced."""

from __future__ import annotations

import pytest
import torch

from liif_fast.quality.evaluate import evaluate

# PSNR (luma, unquantised, border of S) and SSIM of the official code in float32; x6 and x8 from Pillow's reduction
GOLDEN = {2: (37.988, 0.9604), 3: (34.400, 0.9273), 4: (32.238, 0.8956), 6: (28.955, 0.8318), 8: (26.982, 0.7763)}


@pytest.mark.parametrize("scale", GOLDEN)
def test_set5(official, data_dir, scale):
    report = evaluate(official.upscale, data_dir / "benchmark" / "Set5", scale)
    psnr, ssim = GOLDEN[scale]
    # the golden figures are rounded to 0.0005; the rest of 0.01 dB is for another order of float32 sums
    assert report.psnr == pytest.approx(psnr, abs=0.01)
    assert report.ssim == pytest.approx(ssim, abs=0.0005)


@pytest.mark.parametrize(
    ("scale", "products"), [(2, "bfloat16"), (4, "bfloat16"), (4, "float32")], indirect=["products"]
)
def test_set5_in_bfloat16(official, data_dir, products, scale):
    def upscale(image, size):
        return official.upscale(image, size=size, dtype=torch.bfloat16)

    # 0.02 dB: what half precision may cost; coordinates in bfloat16 would cost several dB
    assert evaluate(upscale, data_dir / "benchmark" / "Set5", scale).psnr == pytest.approx(GOLDEN[scale][0], abs=0.02)
