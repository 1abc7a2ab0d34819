"""Below scale 1 LIIF samples points, so that details finer than the output's pixels alias, up to a white checkerboard.

So the image is reduced first, along each side on which the output is coarser than it, by Lanczos's filter; LIIF then
works at scale 1 there. Compared with Pillow's own Lanczos reduction of Set5 and of every fourth image of Set14 (PSNR in
dB, official EDSR-baseline; ``benchmarks/reduction.py``):

| at scale | points | this | LIIF at the next multiple of the size, then Lanczos | bicubic filter, no LIIF |
|---|---|---|---|---|
| 0.7 | 35.5 | 48.8 | 48.3 | 45.5 |
| 0.5 | 30.1 | 47.9 | 52.4 | 44.2 |
| 0.3 | 23.0 | 46.2 | 54.8 | 42.9 |

The other order follows Lanczos more closely the less LIIF is left to do, and encodes and renders all of the large image
for it: 2.7, 5 and 17 times the time. Both differences are below what can be seen.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..head import sampling
from .values import from_dtype

_LOBES = 3
_VISIBLE = 1 / 512  # least alpha that 8 bits have, rounded


def reduced(image: Tensor, pixels: sampling.Sampling, alpha: Tensor | None = None) -> Tensor:
    """``[B, C, H, W]`` of any dtype that ``upscale`` takes, with no side finer than ``pixels``.

    Args:
        alpha: ``[1, 1, H, W]`` of the same dtype, by which colours count, where something is visible; None: all alike.

    Returns:
        the image itself, or float32 in [0, 1].
    """
    plain = _reduced(image, pixels)
    if alpha is None or plain is image:
        return plain
    coverage = from_dtype(alpha.to(image.device))
    premultiplied = _reduced(from_dtype(image) * coverage, pixels)
    coverage = _reduced(coverage, pixels)
    return torch.where(coverage > _VISIBLE, premultiplied / coverage, plain).clamp_(0, 1)


def _reduced(image: Tensor, pixels: sampling.Sampling) -> Tensor:
    coarser = False
    for axis, along in ((-2, pixels[0]), (-1, pixels[1])):
        n = image.shape[axis]
        if (out := math.ceil(along.whole)) < n:
            image, coarser = _lanczos(from_dtype(image), axis, out), True
    return image.clamp_(0, 1) if coarser else image


def _lanczos(image: Tensor, axis: int, out: int) -> Tensor:
    """Reduced along ``axis`` to ``out`` pixels; at the border the weights inside sum to 1, as Pillow's do."""
    n = image.shape[axis]
    step = n / out
    centre = (torch.arange(out, dtype=torch.float64, device="cpu") + 0.5) * step
    first = (centre - _LOBES * step).floor().long()
    total, weights = None, torch.zeros(out, dtype=torch.float64, device="cpu")
    shape = [-1 if i == axis else 1 for i in range(-image.ndim, 0)]
    for tap in range(math.ceil(2 * _LOBES * step) + 1):  # one after the other, in the memory of the result
        index = first + tap
        x = (index + 0.5 - centre) / step
        weight = torch.where(x.abs() < _LOBES, torch.sinc(x) * torch.sinc(x / _LOBES), 0)
        weight = torch.where((index >= 0) & (index < n), weight, 0)
        weights += weight
        part = image.index_select(axis, index.clamp(0, n - 1).to(image.device))
        part *= weight.to(image.device, torch.float32).view(shape)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total.div_(weights.to(image.device, torch.float32).view(shape))
