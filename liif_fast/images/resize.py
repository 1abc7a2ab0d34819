"""Reducing 8-bit images as the low-resolution benchmark files were made: MATLAB's imresize, and Pillow's bicubic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from PIL import Image

from ..base.shown import shown

PIL_BITS = 22  # behind the point of Pillow's weights for 8-bit images
_KERNEL_WIDTH = 4.0  # support of the cubic kernel, input pixels (or output pixels when reducing with antialiasing)


def imresize(image: np.ndarray, size: float | Sequence[int]) -> np.ndarray:
    """Resize an 8-bit image as MATLAB's ``imresize(image, size)`` does, bit for bit.

    Bicubic (Keys, "Cubic convolution interpolation for digital image processing", 1981, a = -0.5), antialiased when
    reducing, symmetric padding, one axis after the other: the axis with the smaller scale first, rows when they are
    equal. The result of each pass is rounded (half up) and clipped to uint8. This is how the `LR_bicubic` files of
    the super-resolution benchmarks were made.

    Args:
        image: uint8, ``[H, W]`` or ``[H, W, C]``.
        size: ``(height, width)`` of the result, or one scale for both axes (0.25 is a quarter of each side; the
            result has ``ceil(scale * n)`` pixels along an axis).

    Returns:
        uint8 ``[h, w]`` or ``[h, w, C]``.

    Raises:
        TypeError: image is not a uint8 array, or size is neither a number nor two whole numbers.
        ValueError: an empty image, another number of axes, or a size that is not positive.
    """
    _check_image("imresize", image)
    if isinstance(size, Real) and not isinstance(size, bool):
        scale = float(size)
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"imresize: scale must be a positive finite number, got {shown(size)}")
        lengths: Sequence[int] = [math.ceil(scale * n) for n in image.shape[:2]]
        scales = [scale, scale]
    else:
        lengths = _check_size("imresize", size)
        scales = [out / n for out, n in zip(lengths, image.shape, strict=False)]
    for axis in sorted((0, 1), key=lambda a: scales[a]):  # sorted() is stable: rows first when the scales are equal
        image = _resize_axis(image, axis, lengths[axis], scales[axis])
    return np.ascontiguousarray(image)


def pil_bicubic(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize an 8-bit image by Pillow's bicubic filter, as the official LIIF data code does; antialiased when reducing.

    Every channel is resized on its own, an alpha channel too (Pillow would multiply the colours by it first).

    Args:
        image: uint8, ``[H, W]`` or ``[H, W, C]``.
        size: ``(height, width)`` of the result.

    Returns:
        uint8 ``[h, w]`` or ``[h, w, C]``.

    Raises:
        TypeError, ValueError: as ``imresize``.

    Equivalent to (three channels): ``np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC))``
    """
    _check_image("pil_bicubic", image)
    h, w = _check_size("pil_bicubic", size)
    if image.ndim == 3 and image.shape[2] == 3:  # at once: no alpha, and a third of the time
        rgb = Image.fromarray(np.ascontiguousarray(image))
        return np.array(rgb.resize((w, h), Image.Resampling.BICUBIC))
    planes = image[..., None] if image.ndim == 2 else image
    resized = [
        np.asarray(Image.fromarray(np.ascontiguousarray(planes[..., c])).resize((w, h), Image.Resampling.BICUBIC))
        for c in range(planes.shape[-1])
    ]
    return resized[0].copy() if image.ndim == 2 else np.stack(resized, -1)


def pil_weights(n: int, out: int) -> np.ndarray:
    """Weights of `pil_bicubic` along an axis of n pixels as Pillow rounds them: int64 ``[out, n]``, in units of 2^-22.

    Pillow filters rows (``out`` is the width), rounds to uint8, then columns. With these weights both are sums of whole
    numbers below 2^31, so that any arithmetic that is exact up to there, float64 too, gives Pillow's result.

    Equivalent to: ``(pil_weights(n, out) @ pixels + 2**21 >> 22).clip(0, 255)`` for ``pixels [n]`` is the row
    ``pixels`` resized to ``out`` pixels.
    """
    step = n / out
    stretch = max(step, 1.0)
    centre = (np.arange(out)[:, None] + 0.5) * step
    pixel = np.arange(n)[None]
    # Pillow truncates towards zero, then cuts off what lies outside
    first, behind = (np.trunc(centre + side * stretch * _KERNEL_WIDTH / 2 + 0.5) for side in (-1, 1))
    weight = _cubic((pixel - centre + 0.5) / stretch) * ((pixel >= first) & (pixel < behind))
    weight /= weight.sum(1, keepdims=True)
    return np.trunc(weight * 2**PIL_BITS + np.copysign(0.5, weight)).astype(np.int64)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x <= 2))


def _taps(n: int, out: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Input indices [out, P] and weights [out, P] of each output pixel along an axis of n pixels.

    Positions count from 1, as in MATLAB: the roundings then fall as they do there.
    """
    stretch = min(scale, 1.0)  # antialiasing widens the kernel when reducing
    width = _KERNEL_WIDTH / stretch
    u = np.arange(1, out + 1) / scale + 0.5 * (1 - 1 / scale)  # where the output pixels lie in the input
    index = np.floor(u - width / 2)[:, None] + np.arange(math.ceil(width) + 2)  # [out, P]
    weight = stretch * _cubic(stretch * (u[:, None] - index))
    weight /= weight.sum(1, keepdims=True)
    mirror = np.concatenate([np.arange(n), np.arange(n)[::-1]])
    return mirror[(index.astype(np.int64) - 1) % (2 * n)], weight


def _resize_axis(image: np.ndarray, axis: int, out: int, scale: float) -> np.ndarray:
    index, weight = _taps(image.shape[axis], out, scale)
    rows = np.moveaxis(image, axis, 0)
    total = np.zeros((out, *rows.shape[1:]))
    per_row = (-1,) + (1,) * (rows.ndim - 1)
    for p in np.flatnonzero(weight.any(0)):  # one tap after the other: no BLAS, so the same sum on every machine
        total += weight[:, p].reshape(per_row) * rows[index[:, p]]
    return np.moveaxis(np.floor(total + 0.5).clip(0, 255).astype(np.uint8), 0, axis)


def _check_image(name: str, image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name}: image must be a numpy array, got {type(image).__name__}; use numpy.asarray(image)")
    if image.dtype != np.uint8:
        raise TypeError(f"{name}: image must be uint8, got {image.dtype}; round it to 0..255 and cast it first")
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"{name}: image must be [H, W] or [H, W, C] and not empty, got shape {list(image.shape)}")


def _check_size(name: str, size: Any) -> tuple[int, int]:
    wanted = "two whole numbers (height, width)"
    if isinstance(size, (str, bytes)) or not hasattr(size, "__len__"):
        raise TypeError(f"{name}: size must be {wanted}, got {shown(size)}")
    if len(size) != 2 or not all(isinstance(n, Integral) and not isinstance(n, bool) for n in size):
        raise TypeError(f"{name}: size must be {wanted}, got {shown(size)}")
    if min(size) < 1:
        raise ValueError(f"{name}: size must be at least 1x1, got {tuple(size)}")
    return int(size[0]), int(size[1])
