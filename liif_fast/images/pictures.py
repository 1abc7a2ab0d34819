"""One way through for every kind of image: PIL, NumPy, tensor or file contents in, the same kind out."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .alpha import settle
from .photo import Photo, as_kind, as_photo, fill_transparent


def apply(image: Any, enlarge: Callable[..., Tensor], window: Sequence[float] | None = None) -> Any:
    """Apply ``enlarge`` to an image of any kind that ``LIIF.upscale`` takes; returns the same kind.

    Args:
        enlarge: ``[B, 3 or 1, H, W]`` to the same number of channels and the same dtype; uint8, uint16 or float32 in
            [0, 1]. Second argument: the alpha of the colours that it gets, ``[1, 1, H, W]``, unless it is one value.
            ``share``: of the whole work that this is, where an image has alpha.
        window: (top, left, height, width) of what it makes of an image, in its pixels; None: all of it.
    """
    if isinstance(image, Tensor):
        done = enlarge(_checked(image))
        return done if image.ndim == 4 else done.squeeze(0)
    if isinstance(image, Photo):
        return _photo(image, enlarge, window)
    photo = as_photo(image)
    _tell(photo)
    return as_kind(_photo(photo, enlarge, window), image)


def opened(image: Any) -> tuple[Tensor, Callable[[Tensor], Any]] | None:
    """``apply`` in two steps: the colours ``[B, 3 or 1, H, W]``, a view where that is possible, and what makes the same
    kind of image of others; None: the image has alpha, whose enlargement is another's."""
    if isinstance(image, Tensor):
        return _checked(image), lambda done: done if image.ndim == 4 else done.squeeze(0)
    photo = as_photo(image)
    if photo.alpha is not None:
        return None
    if photo is not image:
        _tell(photo)

    def back(done: Tensor) -> Any:
        larger = dataclasses.replace(photo, pixels=_array_of(done))
        return larger if isinstance(image, Photo) else as_kind(larger, image)

    return _tensor_of(photo.pixels), back


def copied(image: Any) -> Any:
    """A copy of an image that is no tensor, in memory of its own."""
    return copy.deepcopy(image) if isinstance(image, Photo) else image.copy()


def pixels_of(image: Any) -> Tensor:
    """The colours of an image of any kind that ``apply`` takes: ``[B, 3 or 1, H, W]``."""
    seen: list[Tensor] = []

    def look(pixels: Tensor, alpha: Tensor | None = None, share: float = 1.0) -> Tensor:
        seen.append(pixels)
        return pixels

    apply(image, look)
    return seen[0]


def _tell(photo: Photo) -> None:
    for note in photo.notes:
        warnings.warn(f"image: {note}", stacklevel=5)


def _checked(image: Tensor) -> Tensor:
    """As a batch."""
    if image.dtype not in (torch.uint8, torch.uint16) and not image.is_floating_point():
        raise TypeError(f"image: a tensor of dtype uint8, uint16 or floating point is wanted, got {image.dtype}")
    if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3) or 0 in image.shape[-3:]:
        raise ValueError(f"image: a tensor [3, H, W] or [B, 3, H, W] is wanted (or 1 channel), got {list(image.shape)}")
    if image.is_floating_point() and image.numel():
        low, high = image.aminmax()
        inside = (low >= 0) & (high <= 1)  # false too when there is a NaN
        if torch.compiler.is_compiling():  # then the graph itself looks, when it runs
            torch._assert_async(inside, "image: floating-point colours must lie in [0, 1]: clamp them")
        elif not inside:
            raise ValueError(
                f"image: floating-point colours must lie in [0, 1], got {low.item():.4g} to {high.item():.4g}: clamp "
                "them, divide 0..255 by 255, or use render() for normalised network inputs"
            )
    return image if image.ndim == 4 else image.unsqueeze(0)


def _photo(photo: Photo, enlarge: Callable[..., Tensor], window: Sequence[float] | None) -> Photo:
    pixels, alpha = photo.pixels, photo.alpha
    if alpha is None:
        return dataclasses.replace(photo, pixels=_array(pixels, enlarge))
    # Colours and coverage apart: colours under transparent pixels mean nothing and would bleed into the edges.
    own = np.ascontiguousarray(alpha[..., None])
    weight = () if alpha.min() == alpha.max() else (_tensor_of(own),)
    colours = _array(fill_transparent(pixels, alpha), lambda given: enlarge(given, *weight, share=0.5))
    coverage = _array(own, lambda given: enlarge(given, share=0.5))[..., 0]
    return dataclasses.replace(photo, pixels=colours, alpha=settle(alpha, coverage, window))


def _array(pixels: np.ndarray, enlarge: Callable[[Tensor], Tensor]) -> np.ndarray:
    """[H, W, C] -> [OH, OW, C]; views both ways."""
    return _array_of(enlarge(_tensor_of(pixels)))


def _tensor_of(pixels: np.ndarray) -> Tensor:
    """[H, W, C] -> [1, C, H, W]"""
    if not pixels.flags.writeable or any(step < 0 for step in pixels.strides):
        pixels = pixels.copy()  # torch has neither read-only tensors nor negative strides
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def _array_of(image: Tensor) -> np.ndarray:
    """[1, C, H, W] -> [H, W, C]"""
    return image[0].permute(1, 2, 0).numpy()
