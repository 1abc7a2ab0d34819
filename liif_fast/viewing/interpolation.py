"""What models are compared with: a picture's pixels by bicubic interpolation, and the nearest ones."""

from __future__ import annotations

import numpy as np
from PIL import Image

_TIE = 1e-9  # pixels: a centre on the border of two is the second one's, whatever the roundings
Box = tuple[float, float, float, float]  # left, top, right, bottom, in a picture's pixels


def bicubic(image: Image.Image, box: Box, size: tuple[int, int]) -> np.ndarray:
    """A part of an image, of 8 bits, at ``size`` (height, width), by Pillow's bicubic filter: antialiased where it
    becomes smaller. What lies around the part counts, so that parts are those of the whole."""
    inside = _inside(image, box)
    return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC, box=inside))


def nearest(image: Image.Image, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The pixels in which the centres of the result's lie."""
    left, top, right, bottom = _inside(image, box)
    rows, cols = (
        np.minimum((start + (np.arange(count) + 0.5) * (end - start) / count + _TIE).astype(int), n - 1)
        for start, end, count, n in zip((top, left), (bottom, right), size, image.size[::-1], strict=True)
    )
    (first_row, last_row), (first, last) = ((int(index[0]), int(index[-1]) + 1) for index in (rows, cols))
    part = np.asarray(image.crop((first, first_row, last, last_row)))
    return part[rows - first_row][:, cols - first]


def _inside(image: Image.Image, box: Box) -> Box:
    """Without the roundings by which a box may end beyond the image."""
    width, height = image.size
    return max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3])
