"""NIQE: how natural an image looks, without its original (Mittal et al., "Making a 'Completely Blind' Image Quality
Analyzer", IEEE Signal Processing Letters 20(3), 2013).

PSNR and SSIM reward the average of all pictures that a small one may come from, which is blurred; networks trained
adversarially make one of these pictures instead. NIQE tells the two apart: it compares the statistics of locally
normalised luma, in blocks of 96x96 pixels at two scales, with those of photographs. Lower is better.

``natural.npz`` beside this file is our own fit, to the photographs that we train on (``tools/fit_niqe.py``), not the
authors' to theirs: figures compare the methods of one table, not with NIQE of papers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.shown import shown
from . import metrics

BLOCK = 96  # pixels; half of it at the second scale
NEEDED = f"two blocks of {BLOCK}x{BLOCK} pixels with structure are needed"
MODEL = Path(__file__).with_name("natural.npz")
_SHARP = 0.75  # blocks of photographs count whose mean deviation is more than this share of the image's sharpest
_GREY = (0.2989, 0.5870, 0.1140)  # MATLAB's rgb2gray, which the authors use
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # from a pixel to the neighbours that it is multiplied by


def niqe(image: Tensor, scale: float = 1) -> float | None:
    """Distance of an image's statistics from those of photographs, equation 10 of the paper; lower looks more natural.

    Args:
        image: ``[3, H, W]`` or ``[1, 3, H, W]``, floating point, clamped to [0, 1] and rounded to 8 bits.
        scale: a border of ``ceil(scale)`` pixels is left out, as by ``metrics.ssim``.

    Returns:
        at least 0: Set14's pictures have 1.9 to 5.9, 3.4 on average (``eval --niqe -m bicubic --scale 1``), and 5.7
        when bicubic interpolation makes them from a quarter of their size (``--scale 4``). None: fewer than two blocks
        of 96x96 pixels with structure lie inside the border.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: another shape, or values that are not finite.
    """
    if not isinstance(image, Tensor) or not image.is_floating_point():
        got = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"niqe: image must be a floating-point tensor, got {got}; divide uint8 by 255")
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or (image.ndim == 4 and len(image) != 1):
        raise ValueError(f"niqe: image must be [3, H, W] or [1, 3, H, W], got {shown(list(image.shape))}")
    if not image.isfinite().all():
        raise ValueError("niqe: image: finite colours are wanted, got NaN or infinity")
    shave = metrics.border("y", scale)
    h, w = (n - 2 * shave for n in image.shape[-2:])
    if min(h, w) < BLOCK:
        return None
    found, _ = features(image.reshape(3, *image.shape[-2:])[:, shave : shave + h, shave : shave + w])
    model = fitted(found)
    if model is None:
        return None
    mean, covariance = model
    natural_mean, natural_covariance = _natural()
    difference = natural_mean - mean
    # the pseudo-inverse, as the authors': few blocks do not span all features
    square = difference @ np.linalg.pinv((natural_covariance + covariance) / 2) @ difference
    return math.sqrt(max(square, 0.0))  # rounding may take nothing below it


def describe(scale: float) -> str:
    """What the figures mean, for people; as ``metrics.describe``."""
    return f"NIQE on 8-bit grey, border {metrics.border('y', scale)}, liif_fast's model of photos (lower: more natural)"


def features(image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Features of the blocks that lie in an image ``[3, H, W]`` in [0, 1] (section II.A to C): float64.

    Returns:
        ``[N, 36]``, 18 at each of two scales, and ``[N]``, the blocks' sharpness, mean local deviation in grey levels.
    """
    grey = (image.detach().cpu().double().clamp(0, 1) * 255 + 0.5).floor()
    grey = (grey * grey.new_tensor(_GREY).view(3, 1, 1)).sum(0, keepdim=True).round()[None]
    rows, columns = (n // BLOCK for n in grey.shape[-2:])
    grey = grey[..., : rows * BLOCK, : columns * BLOCK]
    scales, sharpness = [], np.zeros(0)
    for side in (BLOCK, BLOCK // 2):
        if side != BLOCK:
            half = (grey.shape[-2] // 2, grey.shape[-1] // 2)
            grey = F.interpolate(grey, half, mode="bicubic", align_corners=False, antialias=True)
        normalised, deviation = _normalised(grey)
        blocks = _blocks(normalised, side)
        scales.append(_statistics(blocks))
        if side == BLOCK:
            sharpness = _blocks(deviation, side).mean((1, 2)).numpy()
    return np.concatenate(scales, 1), sharpness


def fitted(found: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The multivariate Gaussian of features ``[N, 36]`` (equation 9): mean ``[36]``, covariance ``[36, 36]``. Blocks
    without any structure, whose features are not finite, do not count; None: fewer than two do."""
    whole = found[np.isfinite(found).all(1)]
    if len(whole) < 2:
        return None
    return whole.mean(0), np.cov(whole, rowvar=False)


def fit(images: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """A model of natural images ``[3, H, W]``, of their sharp blocks (section II.B): what ``natural.npz`` holds.

    Raises:
        ValueError: an image of less than 96x96 pixels, or fewer than two sharp blocks in all.
    """
    kept = [np.zeros((0, 36))]
    for i, image in enumerate(images):
        if min(image.shape[-2:]) < BLOCK:
            h, w = image.shape[-2:]
            raise ValueError(f"fit: images: {BLOCK}x{BLOCK} pixels at least are wanted, number {i} has {w}x{h}")
        found, sharpness = features(image)
        kept.append(found[sharpness > _SHARP * sharpness.max()])
    blocks = np.concatenate(kept)
    if (model := fitted(blocks)) is None:
        raise ValueError(f"fit: images: {len(blocks)} sharp blocks are in them, two are wanted at least")
    mean, covariance = model
    return {"mean": mean, "covariance": covariance, "blocks": np.array(len(blocks))}


@functools.cache
def _natural() -> tuple[np.ndarray, np.ndarray]:
    with np.load(MODEL, allow_pickle=False) as data:
        return data["mean"].astype(np.float64), data["covariance"].astype(np.float64)


def _normalised(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 1 to 3: luma less its local mean, over its local deviation plus 1; and that deviation."""
    at = torch.arange(-3, 4, dtype=grey.dtype)
    bell = torch.exp(-(at**2) / (2 * (7 / 6) ** 2))
    bell = bell / bell.sum()

    def local(image: Tensor) -> Tensor:
        image = F.pad(image, (3, 3, 3, 3), mode="replicate")
        return F.conv2d(F.conv2d(image, bell.view(1, 1, 7, 1)), bell.view(1, 1, 1, 7))

    mean = local(grey)
    deviation = (local(grey**2) - mean**2).abs().sqrt()
    return (grey - mean) / (deviation + 1), deviation


def _blocks(image: Tensor, side: int) -> Tensor:
    """``[1, 1, H, W]`` -> ``[N, side, side]``"""
    return image[0, 0].unfold(0, side, side).unfold(1, side, side).flatten(0, 1)


def _statistics(blocks: Tensor) -> np.ndarray:
    """The 18 features of blocks ``[N, n, n]``: of the values themselves, and of products of neighbours in four
    directions (around the block's border to its other side, as the authors')."""
    shape, left, right = _asymmetric_gaussian(blocks)
    parts = [shape, (left + right) / 2]
    for down, across in _SHIFTS:
        shape, left, right = _asymmetric_gaussian(blocks * blocks.roll((down, across), (1, 2)))
        gamma = [torch.lgamma(i / shape) for i in (1, 2, 3)]
        mean = (right - left) * torch.exp(gamma[1] - gamma[0])  # equation 8
        parts += [shape, mean, left, right]
    return torch.stack(parts, 1).numpy()


def _asymmetric_gaussian(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape and the scales to both sides of the generalised Gaussians nearest to ``[N, n, n]`` by their moments
    (equation 7; Lasmar et al., ICIP 2009): ``[N]`` each."""
    values = blocks.flatten(1)
    left, right = (_root_mean_square(values, side) for side in (values < 0, values > 0))
    ratio = left / right
    r = values.abs().mean(1) ** 2 / values.square().mean(1)
    r = r * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes = torch.arange(0.2, 10.0005, 0.001, dtype=torch.float64)
    gamma = [torch.lgamma(i / shapes) for i in (1, 2, 3)]
    of_shapes = torch.exp(2 * gamma[1] - gamma[0] - gamma[2])  # rises with the shape
    after = torch.searchsorted(of_shapes, r).clamp(1, len(shapes) - 1)
    nearer = (r - of_shapes[after - 1]) < (of_shapes[after] - r)
    shape = shapes[torch.where(nearer, after - 1, after)]
    width = torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)
    return torch.where(r.isfinite(), shape, r), left * width, right * width


def _root_mean_square(values: Tensor, counted: Tensor) -> Tensor:
    return ((values * counted).square().sum(1) / counted.sum(1)).sqrt()
