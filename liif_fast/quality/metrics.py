"""PSNR in the three protocols of the super-resolution literature, and SSIM.

| protocol    | compares                                               | border left out |
|-------------|--------------------------------------------------------|-----------------|
| `benchmark` | luma differences, unquantised (Set5, Set14, ... in LIIF) | scale           |
| `div2k`     | RGB, unquantised (DIV2K in LIIF)                       | scale + 6       |
| `y`         | Y rounded to 8 bits, of images rounded to 8 bits       | scale           |

A fractional scale is rounded up for the border.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..base.shown import shown

PROTOCOLS = ("benchmark", "div2k", "y")
SSIM_WINDOW = 11  # pixels; a Gaussian of sigma 1.5 cut off at 3.5 sigma

# BT.601, studio range, of R'G'B' in 0..1. LIIF's code writes the rounded 65.738 / 129.057 / 25.064 over 256 instead.
_BENCHMARK_WEIGHTS = (65.738 / 256, 129.057 / 256, 25.064 / 256)
_Y_WEIGHTS = (65.481, 128.553, 24.966)


def psnr(sr: Tensor, hr: Tensor, protocol: str = "benchmark", scale: float = 1) -> float:
    """Peak signal-to-noise ratio in dB, in one of `PROTOCOLS`.

    `benchmark` and `div2k` give the figures of the official LIIF's ``utils.calc_psnr(sr, hr, dataset=protocol,
    scale=scale)``, `y` those of papers that report "PSNR on the Y channel" of 8-bit images.

    Args:
        sr, hr: ``[B, C, H, W]`` or ``[C, H, W]``, floating point in [0, 1], C = 3 (RGB) or 1 (grey: compared as it is,
            without weights). `benchmark` and `div2k` do not clamp. A batch gives one figure, of the mean squared
            error over all its images.
        protocol: one of `PROTOCOLS`.
        scale: upscaling factor, >= 1; it sets the border that is left out.

    Returns:
        dB; ``inf`` when the images are the same.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: shapes, devices, protocol or scale that do not fit, or images with nothing left inside the border.
    """
    sr, hr = _images("psnr", sr, hr)
    shave = border(protocol, scale)
    if protocol == "y":
        y_sr, y_hr = ((luma(x) + 0.5).floor() for x in (sr, hr))  # half up, as MATLAB's uint8()
        diff = (y_sr - y_hr) / 255
    else:
        diff = sr - hr
        if protocol == "benchmark" and diff.shape[1] > 1:
            diff = (diff * diff.new_tensor(_BENCHMARK_WEIGHTS).view(3, 1, 1)).sum(1, keepdim=True)
    mse = _shave("psnr", diff, shave, 1).square().mean().item()
    return -10 * math.log10(mse) if mse != 0 else math.inf


def ssim(sr: Tensor, hr: Tensor, scale: float = 1) -> float:
    """Structural similarity (Wang et al., "Image quality assessment", 2004) as super-resolution papers report it.

    On the luma of 8-bit images (itself not rounded), a border of ``scale`` left out, Gaussian window 11x11 with sigma
    1.5, K1 = 0.01, K2 = 0.03, mean over the places where the window lies inside the image. Computed by torchmetrics
    in float32: within 1e-5 of float64 on photos, 1e-4 on bright, almost flat images.

    Args:
        sr, hr: as for `psnr`; a batch gives the mean over its images.
        scale: as for `psnr`.

    Returns:
        at most 1, which means: the same.

    Raises:
        ImportError: torchmetrics is not installed.
        TypeError, ValueError: as `psnr`; the images need 11 pixels inside the border.
    """
    sr, hr = _images("ssim", sr, hr)
    # float64 costs ten times as much: the dense 11x11 convolution has no fast path for it
    sr, hr = (_shave("ssim", luma(x), border("y", scale), SSIM_WINDOW).float() for x in (sr, hr))
    # torchmetrics takes the window's size from sigma (11 for 1.5). Its own mean is not used: newer releases count the
    # places where the window leaves the image too, over reflected pixels.
    _, places = _torchmetrics_ssim()(
        sr, hr, gaussian_kernel=True, sigma=1.5, data_range=255.0, k1=0.01, k2=0.03, return_full_image=True
    )
    return _shave("ssim", places, SSIM_WINDOW // 2, 1).double().mean().item()


def have_ssim() -> bool:
    """Whether `ssim` can be computed here: torchmetrics is installed."""
    try:
        _torchmetrics_ssim()
    except ImportError:
        return False
    return True


def luma(image: Tensor) -> Tensor:
    """Y of an image that is first rounded to 8 bits: BT.601, studio range, MATLAB's ``rgb2ycbcr`` before its rounding.

    Args:
        image: ``[..., C, H, W]``, floating point, clamped to [0, 1]; C = 3, or 1 (grey: only rounded, 0..255).

    Returns:
        ``[..., 1, H, W]`` in image's dtype: 16..235, or 0..255 of a grey image.
    """
    image = (image.clamp(0, 1) * 255 + 0.5).floor()  # half up, as MATLAB; torch.round would go to even
    if image.shape[-3] == 1:
        return image
    weighted = image * (image.new_tensor(_Y_WEIGHTS).view(3, 1, 1) / 255)
    return weighted.sum(-3, keepdim=True) + 16


def border(protocol: str, scale: float) -> int:
    """Pixels left out on each side: ``ceil(scale)``, with `div2k` 6 more."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {shown(protocol)}")
    if not isinstance(scale, Real) or isinstance(scale, bool) or not math.isfinite(scale) or scale < 1:
        raise ValueError(f"scale must be a finite number of at least 1, got {shown(scale)}")
    return math.ceil(scale) + (6 if protocol == "div2k" else 0)


def describe(protocol: str, scale: float) -> str:
    """What the figures of a protocol mean, for people."""
    text = {"benchmark": "PSNR on Y, unquantised", "div2k": "PSNR on RGB, unquantised", "y": "PSNR on 8-bit Y"}
    return f"{text.get(protocol)}, border {border(protocol, scale)}"


def describe_ssim(scale: float) -> str:
    """As `describe`, for `ssim`."""
    return f"SSIM on Y of 8-bit images, border {border('y', scale)}, Gaussian {SSIM_WINDOW}x{SSIM_WINDOW}, sigma 1.5"


def _torchmetrics_ssim() -> Callable[..., Any]:
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError as error:
        raise ImportError("SSIM needs torchmetrics, which is not installed: pip install torchmetrics") from error
    return structural_similarity_index_measure


def _images(name: str, sr: Tensor, hr: Tensor) -> list[Tensor]:
    for label, x in (("sr", sr), ("hr", hr)):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name}: {label} must be a floating-point tensor, got {got}; divide uint8 by 255")
    if sr.shape != hr.shape:
        raise ValueError(f"{name}: sr and hr must have one shape, got {list(sr.shape)} and {list(hr.shape)}")
    if sr.ndim not in (3, 4) or sr.shape[-3] not in (1, 3):
        raise ValueError(f"{name}: images must be [B, C, H, W] or [C, H, W] with C = 1 or 3, got {list(sr.shape)}")
    if sr.device != hr.device:
        raise ValueError(f"{name}: sr is on {sr.device} but hr on {hr.device}; move one of them with .to()")
    dtype = torch.float32 if sr.device.type == "mps" else torch.float64  # MPS has no float64
    return [x.detach().to(dtype).reshape(-1, *x.shape[-3:]) for x in (sr, hr)]


def _shave(name: str, image: Tensor, pixels: int, least: int) -> Tensor:
    h, w = image.shape[-2:]
    if image.shape[0] == 0 or min(h, w) - 2 * pixels < least:
        raise ValueError(
            f"{name}: a border of {pixels} leaves less than {least}x{least} of {image.shape[0]} image(s) of {h}x{w}; "
            "use larger images or a smaller scale"
        )
    return image[..., pixels : h - pixels, pixels : w - pixels]
