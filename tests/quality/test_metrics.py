"""PSNR and SSIM against their definitions."""

from __future__ import annotations

import builtins
import math

import numpy as np
import pytest
import torch

from liif_fast.quality import metrics


def pair(*shape):
    hr = torch.rand(shape)
    return (hr + 0.1 * torch.randn(shape)).clamp(0, 1), hr


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 2.5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("protocol", ["benchmark", "div2k"])
def test_psnr_against_the_official_formula(protocol, channels, scale):
    sr, hr = pair(2, channels, 40, 37)
    b = math.ceil(scale) + (6 if protocol == "div2k" else 0)
    diff = (sr - hr).double().numpy()[..., b:-b, b:-b]
    if protocol == "benchmark" and channels == 3:
        diff = (65.738 * diff[:, 0] + 129.057 * diff[:, 1] + 25.064 * diff[:, 2]) / 256
    want = -10 * np.log10((diff**2).mean())
    assert metrics.psnr(sr, hr, protocol, scale) == pytest.approx(want, abs=1e-9)  # both float64


def test_psnr_defaults_and_image_without_batch():
    sr, hr = pair(3, 20, 20)
    assert metrics.psnr(sr, hr) == metrics.psnr(sr[None], hr[None], "benchmark", 1)


@pytest.mark.parametrize(("protocol", "extra"), [("benchmark", 0), ("div2k", 6), ("y", 0)])
def test_border_is_left_out_exactly(protocol, extra):
    b = 3 + extra
    hr = torch.rand(1, 3, 40, 40)
    sr = hr + 0.5
    sr[..., b:-b, b:-b] = hr[..., b:-b, b:-b]
    assert metrics.psnr(sr, hr, protocol, 3) == math.inf
    sr[..., b, b] += 0.5
    assert metrics.psnr(sr, hr, protocol, 3) < 100


def test_luma_of_known_colours():
    """BT.601 studio range: white 235, black 16, the primaries 81.5, 144.6, 41.0 (MATLAB: 81, 145, 41)."""
    colours = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    y = metrics.luma(colours.view(5, 3, 1, 1)).flatten()
    want = torch.tensor([235, 16, 81.481, 144.553, 40.966], dtype=torch.float64)
    torch.testing.assert_close(y, want, rtol=0, atol=1e-12)  # a sum of three float64 products below 256
    grey = torch.tensor([0, 0.4, 1]).view(1, 1, 3)
    assert metrics.luma(grey).flatten().tolist() == [0, 102, 255]


def test_y_rounds_the_images_and_then_luma():
    """In MATLAB's 8 bits: rgb2ycbcr gives 126 for grey 128, and 128 for grey 130."""
    hr = torch.full((1, 3, 9, 9), 128 / 255)
    sr = torch.full((1, 3, 9, 9), 130.4 / 255)  # rounds to 130
    assert metrics.psnr(sr, hr, "y", 2) == pytest.approx(20 * math.log10(255 / 2), abs=1e-9)  # both float64
    assert metrics.psnr(torch.full((1, 3, 9, 9), 128.4 / 255), hr, "y", 2) == math.inf
    assert metrics.psnr(sr + 9, hr + 9, "y", 2) == math.inf  # clamped: both white


def ssim_by_definition(a, b):
    """Wang et al. 2004, equation 13, on float64 [H, W], window by window."""
    x = np.arange(11) - 5
    window = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return np.mean(values)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_against_the_definition(channels):
    sr, hr = pair(1, channels, 30, 27)
    y = []
    for image in (sr, hr):
        pixels = np.floor(image[0].double().numpy() * 255 + 0.5)
        if channels == 3:
            pixels = np.tensordot([65.481, 128.553, 24.966], pixels, 1)[None] / 255 + 16
        y.append(pixels[0, 2:-2, 2:-2])
    # computed in float32; strong contrasts, so rounding is small against the variances: 2e-7 at most in six seeds
    assert metrics.ssim(sr, hr, 2) == pytest.approx(ssim_by_definition(*y), abs=2e-6)


def test_ssim_of_bright_flat_images():
    """Small variances on a bright ground, the hardest case for float32."""
    ramp = torch.linspace(0.9, 1, 40).expand(1, 3, 40, 40)
    sr = ramp + 0.004 * torch.randn(1, 3, 40, 40)
    y = [metrics.luma(x.double())[0, 0, 2:-2, 2:-2].numpy() for x in (sr, ramp)]
    # differences of squares of up to 235: an ulp is 0.004, of a denominator of c2 = 58.5 that is 7e-5
    assert metrics.ssim(sr, ramp, 2) == pytest.approx(ssim_by_definition(*y), abs=2e-4)


def test_ssim_of_identical_images_is_one():
    hr = torch.rand(3, 40, 40)
    assert metrics.ssim(hr, hr, 4) == 1


def test_ssim_without_torchmetrics(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("torchmetrics"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert not metrics.have_ssim()
    with pytest.raises(ImportError, match="pip install torchmetrics"):
        metrics.ssim(*pair(3, 30, 30))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_any_floating_dtype(dtype):
    sr, hr = (x.to(dtype) for x in pair(1, 3, 24, 24))
    for protocol in metrics.PROTOCOLS:
        assert metrics.psnr(sr, hr, protocol, 2) == metrics.psnr(sr.double(), hr.double(), protocol, 2)
    assert metrics.ssim(sr, hr) == metrics.ssim(sr.double(), hr.double())


def test_border_and_its_description():
    assert [metrics.border("benchmark", s) for s in (1, 2.0, 2.01, 4)] == [1, 2, 3, 4]
    assert metrics.border("div2k", 4) == 10
    assert metrics.describe("benchmark", 4) == "PSNR on Y, unquantised, border 4"
    assert metrics.describe("div2k", 2) == "PSNR on RGB, unquantised, border 8"
    assert metrics.describe("y", 3.5) == "PSNR on 8-bit Y, border 4"
    assert metrics.describe_ssim(3) == "SSIM on Y of 8-bit images, border 3, Gaussian 11x11, sigma 1.5"


@pytest.mark.parametrize("function", [metrics.psnr, metrics.ssim])
@pytest.mark.parametrize(
    ("sr", "hr", "error", "words"),
    [
        (np.zeros((3, 40, 40)), torch.zeros(3, 40, 40), TypeError, "sr must be a floating-point tensor, got ndarray"),
        (torch.zeros(3, 40, 40), torch.zeros(3, 40, 40, dtype=torch.uint8), TypeError, "hr .* uint8.*255"),
        (torch.zeros(3, 40, 40), torch.zeros(3, 40, 41), ValueError, r"\[3, 40, 40\] and \[3, 40, 41\]"),
        (torch.zeros(40, 40), torch.zeros(40, 40), ValueError, r"got \[40, 40\]"),
        (torch.zeros(2, 40, 40), torch.zeros(2, 40, 40), ValueError, "C = 1 or 3"),
        (torch.zeros(0, 3, 40, 40), torch.zeros(0, 3, 40, 40), ValueError, "0 image"),
        (torch.zeros(3, 2, 40), torch.zeros(3, 2, 40), ValueError, "2x40; use larger images"),
        (torch.zeros(3, 40, 40, device="meta"), torch.zeros(3, 40, 40), ValueError, "on meta but hr on cpu"),
    ],
)
def test_bad_images(function, sr, hr, error, words):
    with pytest.raises(error, match=words) as caught:
        function(sr, hr)
    assert str(caught.value).startswith(function.__name__)


@pytest.mark.parametrize("scale", [0, -2, 0.5, math.nan, math.inf, "4", None, True])
def test_bad_scale(scale):
    with pytest.raises(ValueError, match="at least 1"):
        metrics.psnr(*pair(3, 30, 30), "benchmark", scale)


def test_bad_protocol():
    with pytest.raises(ValueError, match="benchmark, div2k, y, got 'rgb'"):
        metrics.psnr(*pair(3, 30, 30), "rgb", 2)


def test_ssim_needs_room_for_its_window():
    metrics.ssim(*pair(3, 15, 15), 2)
    with pytest.raises(ValueError, match="less than 11x11"):
        metrics.ssim(*pair(3, 14, 15), 2)
