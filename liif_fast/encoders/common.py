"""Parts that several encoders share."""

from __future__ import annotations

import math

from torch import nn


def conv(n_in: int, n_out: int, kernel_size: int = 3) -> nn.Conv2d:
    """Convolution that keeps the size of the image."""
    return nn.Conv2d(n_in, n_out, kernel_size, padding=kernel_size // 2)


def upsampler(scale: int, n_feats: int) -> nn.Sequential:
    """Sub-pixel upsampling by a power of two or by three: convolutions with PixelShuffle."""
    factors = [2] * int(math.log2(scale)) if scale & (scale - 1) == 0 else [scale]
    if factors not in ([2] * len(factors), [3]):
        raise ValueError(f"scale: a power of two or 3 is wanted, got {scale}")
    return nn.Sequential(*(m for r in factors for m in (conv(n_feats, r * r * n_feats), nn.PixelShuffle(r))))
