"""Coverage that is certain: where an image is wholly transparent or wholly opaque, so is its enlargement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .modes import strips

REACH = 2  # input pixels, to each side: what bicubic interpolation, the field's common measure, looks at


def settle(alpha: np.ndarray, coverage: np.ndarray, window: Sequence[float] | None = None) -> np.ndarray:
    """Set ``coverage`` to exactly 0, or to its largest value, where ``alpha`` is that all around.

    A network's answer to a constant is nearly, not exactly, the constant: 1 or 2 of 255 where nothing is, so that the
    picture's bounding box becomes all of it. Around an output pixel means: all input pixels whose centres are less than
    ``REACH`` from its own, in rows and in columns, or ``REACH`` output pixels where these are larger.

    Args:
        alpha: ``[h, w]`` of the input; uint8, uint16, or float32 in [0, 1].
        coverage: ``[H, W]``, the enlarged alpha, of the same dtype; changed in place.
        window: (top, left, height, width) of the part of alpha that coverage is of; None: all.

    Returns:
        ``coverage``; all of it is ``alpha``'s value if that has but one.
    """
    if alpha.min() == alpha.max():
        coverage.fill(alpha.flat[0])
        return coverage
    top = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    masks = {value: alpha == value for value in (0, top)}
    parts = [(0, n) for n in alpha.shape] if window is None else list(zip(window[:2], window[2:], strict=True))
    (first_row, last_row), (first, last) = map(_around, alpha.shape, coverage.shape, parts)
    for rows in strips(*coverage.shape):
        for value, mask in masks.items():
            band = _all_between(mask, first_row[rows], last_row[rows])  # [rows, w]
            coverage[rows][_all_between(band.T, first, last).T] = value
    return coverage


def _around(n: int, m: int, part: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Of n pixels the first and the last whose centres are less than the reach from the centre of each of m pixels that
    span a part (start, length) of them; in whole numbers where it is all, so that mirrored images give mirrored
    results."""
    start, length = part
    if part == (0, n):
        twice, reach = (2 * np.arange(m) + 1) * n - m, 2 * REACH * max(m, n)  # the centre, in n's pixels, times 2 m
        first, last = (twice - reach) // (2 * m) + 1, -(-(twice + reach) // (2 * m)) - 1
    else:
        centre, far = start + (np.arange(m) + 0.5) * length / m - 0.5, REACH * max(1.0, length / m)
        first, last = np.floor(centre - far).astype(int) + 1, np.ceil(centre + far).astype(int) - 1
    return np.clip(first, 0, n - 1), np.clip(last, 0, n - 1)


def _all_between(mask: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Whether the rows first to last of ``mask [n, ...]`` are all true: ``[len(first), ...]``."""
    result = mask[first]
    for step in range(1, int((last - first).max()) + 1):
        result &= mask[np.minimum(first + step, last)]
    return result
