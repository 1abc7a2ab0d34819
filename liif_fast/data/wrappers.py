"""Training samples from images, under the official names: low-resolution crops, coordinates, cells and colours."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.shown import shown
from ..images.resize import pil_bicubic
from ..registry import register_dataset
from .errors import DataError
from .samples import Samples, whole


@register_dataset("sr-implicit-paired")
class SRImplicitPaired(Samples):
    """Samples from given pairs of low- and high-resolution images, whose scale is a whole number.

    Args:
        dataset: gives pairs, such as `PairedImageFolders`.
        inp_size: side of the low-resolution crop; None: whole images.
        augment: flip and transpose at random.
        sample_q: queries per sample; None: every pixel, in order.
    """

    paired = True

    def __init__(
        self, dataset: Any, inp_size: int | None = None, augment: bool = False, sample_q: int | None = None
    ) -> None:
        super().__init__(dataset, augment, sample_q)
        self.inp_size = whole("inp_size", inp_size)

    def pair(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        low, high = _pixels(self.dataset, index)
        s = high.shape[0] // low.shape[0]
        if self.inp_size is None:
            high = high[: low.shape[0] * s, : low.shape[1] * s]
        else:
            side = self.inp_size
            y, x = (int(rng.integers(0, n - side + 1)) for n in low.shape[:2])
            low = low[y : y + side, x : x + side]
            high = high[y * s : (y + side) * s, x * s : (x + side) * s]
        return _augmented(rng, low, high) if self.augment else (low, high)

    def _checked(self, *sizes: tuple[int, int]) -> tuple[tuple[int, int], int, int]:
        low, high = sizes
        s = high[0] // low[0]
        if s < 1 or high[1] // low[1] != s or any(high[i] - low[i] * s >= s for i in (0, 1)):
            raise DataError(
                f"{_wxh(high)} pixels, but its low-resolution image has {_wxh(low)}: no pair of a whole scale"
            )
        _room(low, self.inp_size, f"inp_size {self.inp_size}", "the low-resolution image has ")
        side = low if self.inp_size is None else (self.inp_size, self.inp_size)
        pixels = math.prod(side) * s * s
        return side, pixels, pixels


@register_dataset("sr-implicit-downsampled")
class SRImplicitDownsampled(Samples):
    """Samples from high-resolution images, reduced by a random scale with Pillow's bicubic filter.

    Args:
        dataset: gives images, such as `ImageFolder`.
        inp_size: side of the low-resolution crop: one of round(inp_size * scale) is cut out and then reduced; None:
            whole images.
        scale_min, scale_max: the scale is uniform between them; None: always scale_min.
        augment: flip and transpose at random.
        sample_q: queries per sample; None: every pixel, in order.
    """

    def __init__(
        self,
        dataset: Any,
        inp_size: int | None = None,
        scale_min: float = 1,
        scale_max: float | None = None,
        augment: bool = False,
        sample_q: int | None = None,
    ) -> None:
        super().__init__(dataset, augment, sample_q)
        self.inp_size = whole("inp_size", inp_size)
        self.scale_min = _scale("scale_min", scale_min)
        self.scale_max = self.scale_min if scale_max is None else _scale("scale_max", scale_max)
        self.varied = self.inp_size is None and self.scale_min != self.scale_max

    def pair(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        high = _pixels(self.dataset, index)
        s = rng.uniform(self.scale_min, self.scale_max)
        if self.inp_size is None:
            h, w = (math.floor(n / s + 1e-9) for n in high.shape[:2])
            high = high[: round(h * s), : round(w * s)]
            low = pil_bicubic(high, (h, w))
        else:
            side = round(self.inp_size * s)
            y, x = (int(rng.integers(0, n - side + 1)) for n in high.shape[:2])
            high = high[y : y + side, x : x + side]
            low = pil_bicubic(high, (self.inp_size, self.inp_size))
        return _augmented(rng, low, high) if self.augment else (low, high)

    def _checked(self, *sizes: tuple[int, int]) -> tuple[tuple[int, int], int, int]:
        (high,) = sizes
        least, most = sorted((self.scale_min, self.scale_max))
        if self.inp_size is not None:
            _room(high, round(self.inp_size * most), f"inp_size {self.inp_size} at scale {most:g}")
            return (self.inp_size,) * 2, round(self.inp_size * least) ** 2, round(self.inp_size * most) ** 2
        if min(high) < most:
            raise DataError(f"{_wxh(high)} pixels are too few to reduce by {most:g}")
        h, w = (math.floor(n / most + 1e-9) for n in high)
        pixels = round(h * most) * round(w * most)
        return (h, w), pixels, pixels if least == most else pixels + 1  # a range of scales: a range of sizes


@register_dataset("sr-implicit-uniform-varied")
class SRImplicitUniformVaried(Samples):
    """Samples from pairs whose high-resolution image is reduced to a size that grows with the index: from size_min for
    the first to size_max for the last, so that an epoch has every size.

    Args:
        dataset: gives pairs, such as `PairedImageFolders`.
        size_min, size_max: the shorter side of the reduced image; None: always size_min.
        augment: mirror left and right at random.
        gt_resize: resize the reduced image to this shorter side again (for models of one output size).
        sample_q: queries per sample; None: every pixel, in order.
    """

    paired = True

    def __init__(
        self,
        dataset: Any,
        size_min: int,
        size_max: int | None = None,
        augment: bool = False,
        gt_resize: int | None = None,
        sample_q: int | None = None,
    ) -> None:
        super().__init__(dataset, augment, sample_q)
        self.size_min = _scale("size_min", size_min)
        self.size_max = self.size_min if size_max is None else _scale("size_max", size_max)
        self.gt_resize = whole("gt_resize", gt_resize)

    def pair(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        low, high = _pixels(self.dataset, index)
        p = index / (len(self.dataset) - 1) if len(self.dataset) > 1 else 0.0
        high = _shorter_side(high, round(self.size_min + (self.size_max - self.size_min) * p))
        if self.augment and rng.random() < 0.5:
            low, high = low[:, ::-1], high[:, ::-1]
        if self.gt_resize is not None:
            high = _shorter_side(high, self.gt_resize)
        return low, high

    def _checked(self, *sizes: tuple[int, int]) -> tuple[tuple[int, int], int, int]:
        low, high = sizes
        sides = (self.size_min, self.size_max) if self.gt_resize is None else (self.gt_resize,)
        long = max(high) / min(high)
        least, most = (round(side) * int(round(side) * long) for side in (min(sides), max(sides)))
        return low, least, most


def _augmented(rng: np.random.Generator, *images: np.ndarray) -> Any:
    """As many images as it gets."""
    flip_rows, flip_columns, transpose = rng.random(3) < 0.5
    done = []
    for image in images:
        if flip_rows:
            image = image[::-1]
        if flip_columns:
            image = image[:, ::-1]
        done.append(image.swapaxes(0, 1) if transpose else image)
    return tuple(done)


def _shorter_side(image: np.ndarray, side: int) -> np.ndarray:
    """Resized so that the shorter side is ``side``, the longer one in proportion, rounded down, as torchvision does."""
    h, w = image.shape[:2]
    return pil_bicubic(image, (side, int(side * w / h)) if h <= w else (int(side * h / w), side))


def _pixels(dataset: Any, index: int) -> Any:
    """uint8 ``[H, W, 3]``, or a pair of them, from any dataset that gives tensors as the official ones do."""
    if hasattr(dataset, "pixels"):
        return dataset.pixels(index)
    item = dataset[index]
    return tuple(_bytes(t) for t in item) if isinstance(item, tuple | list) else _bytes(item)


def _bytes(image: Tensor) -> np.ndarray:
    return (image * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _room(size: tuple[int, int], side: int | None, why: str, what: str = "") -> None:
    if side is not None and min(size) < side:
        raise DataError(f"{what}{_wxh(size)} pixels, smaller than a crop of {side}x{side} ({why}); take this file out")


def _wxh(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _scale(name: str, value: Any) -> float:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise DataError(f"{name}: a number above 0 is wanted, got {shown(value)}")
    return value
