"""Training samples whose queries lie in rows and columns, under the names of the LTE repository (Lee & Jin, CVPR 2022).

Its models of one query for each pixel, ``lte-fast``, take them: ``coord [h, w, 2]``, one ``cell [2]`` for all, and the
colours as an image, ``gt [3, h, w]``. With ``inp_size`` a sample has as many queries as its input has pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import register_dataset
from .wrappers import SRImplicitDownsampled, SRImplicitPaired


@register_dataset("sr-implicit-paired-fast")
class SRImplicitPairedFast(SRImplicitPaired):
    """As `SRImplicitPaired`; with ``inp_size`` a random window of inp_size x inp_size pixels of the crop's original is
    asked for, without it the whole image. (The official class of this name means that and fails, with a NameError.)

    Args:
        dataset: gives pairs, such as `PairedImageFolders`.
        inp_size: side of the low-resolution crop, and of the window; None: whole images.
        augment: flip and transpose at random.
    """

    grid = True
    drawn_by = "inp_size"

    def __init__(self, dataset: Any, inp_size: int | None = None, augment: bool = False) -> None:
        super().__init__(dataset, inp_size, augment)
        self.sample_q = None if self.inp_size is None else self.inp_size**2

    def chosen(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        pixels = np.arange(height * width).reshape(height, width)
        if self.inp_size is None:
            return pixels
        y, x = (int(rng.integers(0, n - self.inp_size + 1)) for n in (height, width))
        return pixels[y : y + self.inp_size, x : x + self.inp_size]


@register_dataset("sr-implicit-downsampled-fast")
class SRImplicitDownsampledFast(SRImplicitDownsampled):
    """As `SRImplicitDownsampled`; with ``inp_size`` as many pixels of the crop's original are asked for as the input
    has, each once at most, from anywhere and put into rows and columns; without it the whole image.

    Args:
        dataset: gives images, such as `ImageFolder`.
        inp_size: side of the low-resolution crop, and of the grid of queries; None: whole images.
        scale_min, scale_max: the scale is uniform between them, at least 1 with ``inp_size``; None: always scale_min.
        augment: flip and transpose at random.
    """

    grid = True
    drawn_by = "inp_size"

    def __init__(
        self,
        dataset: Any,
        inp_size: int | None = None,
        scale_min: float = 1,
        scale_max: float | None = None,
        augment: bool = False,
    ) -> None:
        super().__init__(dataset, inp_size, scale_min, scale_max, augment)
        self.sample_q = None if self.inp_size is None else self.inp_size**2

    def chosen(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        shape = (height, width) if self.inp_size is None else (self.inp_size, self.inp_size)
        return super().chosen(height, width, rng).reshape(shape)
