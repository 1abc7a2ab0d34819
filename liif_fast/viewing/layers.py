"""What a page shows a photo by: interpolation, a model, the ground truth. Each draws rectangles of it in 8 bits."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..base.room import Room
from ..head import sampling
from ..images.alpha import settle
from ..images.photo import convert_depth
from ..models import reduction
from ..models.liif import LIIF
from ..models.mosaic import Mosaic
from ..models.quantized import QuantizedLIIF
from . import interpolation
from .pictures import Picture


class Place(NamedTuple):
    """A rectangle of the pixels into which a whole photo is divided; real numbers of them, as ``sampling.Axis``.

    Attributes:
        whole: (rows, columns) of all. first: (row, column) of the first pixel. size: (rows, columns) of the rectangle.
    """

    whole: tuple[float, float]
    first: tuple[int, int]
    size: tuple[int, int]

    def window(self, n: tuple[int, int]) -> tuple[float, float, float, float]:
        """(top, left, height, width) in the pixels of a picture of size n."""
        (top, height), (left, width) = (
            (first * length / whole, count * length / whole)
            for first, count, whole, length in zip(self.first, self.size, self.whole, n, strict=True)
        )
        return top, left, height, width

    def box(self, n: tuple[int, int]) -> interpolation.Box:
        top, left, height, width = self.window(n)
        return left, top, left + width, top + height


class Layer(Protocol):
    """A way to show one photo."""

    def draw(self, place: Place) -> np.ndarray:
        """``[rows, columns, 4]`` uint8: RGBA, not premultiplied."""
        ...

    def prepare(self) -> None:
        """What can be done before it is known what is looked at."""


class Interpolated:
    """By ``interpolation.bicubic`` or ``nearest``."""

    def __init__(self, picture: Picture, how: Any) -> None:
        self.picture, self.how = picture, how

    def prepare(self) -> None: ...

    def draw(self, place: Place) -> np.ndarray:
        return self.drawn(place.box(self.picture.size), place.size)

    def drawn(self, box: interpolation.Box, size: tuple[int, int]) -> np.ndarray:
        """A part of the picture, in its pixels, at ``size`` (rows, columns)."""
        alpha = self.picture.alpha
        return _rgba(self.how(self.picture.eight, box, size), None if alpha is None else self.how(alpha, box, size))


class Enlarged:
    """By a model: as ``LIIF.upscale`` enlarges that window."""

    def __init__(self, picture: Picture, model: LIIF, dtype: torch.dtype, room: Room) -> None:
        self.picture, self.dtype, self.room = picture, None if dtype == torch.int8 else dtype, room
        self._colours, self._alpha = _tensor(picture.colours), None
        self._models = [_calibrated(model, dtype, self._colours)]
        self._weight = None
        if picture.photo.alpha is not None:
            self._alpha = _tensor(picture.photo.alpha[..., None])
            alpha = picture.photo.alpha
            self._weight = None if alpha.min() == alpha.max() else self._alpha
            self._models.append(_calibrated(model, dtype, self._alpha))
        self._whole: list[Mosaic | None] = [None, None]

    def prepare(self) -> None:
        self._mosaic(0, self._colours.shape[-2:]).prepare()

    def draw(self, place: Place) -> np.ndarray:
        colours = convert_depth(self._drawn(0, place), np.uint8)
        if self._alpha is None or self.picture.photo.alpha is None:
            return _rgba(colours)
        coverage = settle(self.picture.photo.alpha, self._drawn(1, place)[..., 0], place.window(self.picture.size))
        return _rgba(colours, convert_depth(coverage, np.uint8))

    def _drawn(self, which: int, place: Place) -> np.ndarray:
        rows, cols = (sampling.Axis(*axis) for axis in zip(place.size, place.whole, place.first, strict=True))
        return self._mosaic(which, place.whole).render((rows, cols))[0].permute(1, 2, 0).numpy()

    def _mosaic(self, which: int, whole: tuple[float, ...]) -> Mosaic:
        """Of the colours or of the alpha, reduced where pixels become fewer, as ``upscale`` reduces them."""
        image: Any = self._alpha if which else self._colours
        size = tuple(min(n, math.ceil(count)) for n, count in zip(image.shape[-2:], whole, strict=True))
        if size == image.shape[-2:]:
            found = self._whole[which]
            if found is None:
                found = self._whole[which] = Mosaic(self._models[which], image, self.dtype, self.room)
            return found
        name = (id(self), which, size)
        found = self.room.get(name)
        if found is None:
            pixels = tuple(sampling.Axis(math.ceil(n), n) for n in whole)
            reduced = reduction.reduced(image, pixels, None if which else self._weight)  # type: ignore[arg-type]  # two
            found = Mosaic(self._models[which], reduced, self.dtype, self.room, image.dtype)
            self.room.put(name, found, reduced.nbytes)
        return found


def _calibrated(model: LIIF, dtype: torch.dtype, image: Tensor) -> LIIF:
    """As ``upscale`` of this image does it."""
    uncalibrated = isinstance(model, QuantizedLIIF) and not model.calibrated
    return model.quantize(image) if dtype == torch.int8 or uncalibrated else model


def _tensor(pixels: np.ndarray) -> Tensor:
    """``[H, W, C] -> [1, C, H, W]``"""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).unsqueeze(0)


def _rgba(colours: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """``[h, w, 3 or 1]`` uint8 as RGBA."""
    made = np.empty((*colours.shape[:2], 4), np.uint8)
    made[..., :3] = colours
    made[..., 3] = 255 if alpha is None else alpha
    return made
