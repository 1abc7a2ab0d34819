"""Encoders that work on windows: the image is padded to whole windows, and the feature map cut back to the image.

An encoder that pads inside (SwinIR and others, to windows of 8) returns a map of the padded image. Taken as a map of
the image itself, it is a picture shrunk into a corner. So such an encoder says its window (``pad_to``), and any map
that does not fit its image is refused.
"""

from __future__ import annotations

import numbers

import torch
from torch import Tensor

LARGEST = 1024  # pixels: above any encoder's window, and small enough that padding costs little memory


def checked(pad_to: int | None, name: str = "pad_to") -> int:
    """The window as an int; None is 1, no padding.

    Raises:
        ValueError: not a whole number from 1 to LARGEST.
    """
    if pad_to is None:
        return 1
    whole = isinstance(pad_to, numbers.Integral) and not isinstance(pad_to, bool)
    if not whole or not 1 <= pad_to <= LARGEST:
        raise ValueError(f"{name}: a whole number from 1 to {LARGEST} is wanted, got {str(pad_to)[:80]!r}")
    return int(pad_to)


def padded(image: Tensor, pad_to: int) -> Tensor:
    """``[B, C, H, W]`` with its sides made multiples of ``pad_to`` at the bottom and the right, by reflection.

    The edge pixel is repeated too, and a side shorter than the padding reflected again and again, as by LTE's test
    program: ``torch.cat([image, image.flip(2)], 2)[:, :, :multiple]`` until that is long enough. The image itself if
    its sides are multiples already.
    """
    for dim in (2, 3):
        n = image.shape[dim]
        if pad_to > 1 and (_open(n) or n % pad_to):
            index = torch.arange(n + -n % pad_to, device=image.device) % (2 * n)
            image = image.index_select(dim, torch.where(index < n, index, 2 * n - 1 - index))
    return image


def _open(n: int) -> bool:
    """Whether a compiler has a symbol for a side: asked whether it is a multiple, its graph would be for such alone."""
    return not isinstance(n, int)


def cut(feat: Tensor, whole: Tensor, image: Tensor, encoder: str) -> Tensor:
    """The part of a feature map of ``whole`` that belongs to ``image``, which is the upper left part of it.

    Args:
        feat: what an encoder returned for ``whole``: as large, or larger or smaller by one whole factor for both sides.
        encoder: its name, for messages.

    Raises:
        ValueError: another shape, or a part that begins or ends inside a feature pixel.
    """
    if not isinstance(feat, Tensor) or feat.ndim != 4:
        got = list(feat.shape) if isinstance(feat, Tensor) else type(feat).__name__
        raise ValueError(f"{encoder} must return a tensor [B, C, H, W], got {got}")
    size, given, wanted = feat.shape[2:], whole.shape[2:], image.shape[2:]
    if size == given:
        same = not any(map(_open, (*given, *wanted))) and given == wanted
        return feat if same else feat[:, :, : wanted[0], : wanted[1]]
    up, down = size[0] // given[0], given[0] // max(size[0], 1)
    if all(n == up * m for n, m in zip(size, given, strict=True)):
        return feat[:, :, : up * wanted[0], : up * wanted[1]]
    if not all(n * down == m for n, m in zip(size, given, strict=True)):
        raise ValueError(
            f"{encoder} returned features of {size[0]}x{size[1]} for an image of {given[0]}x{given[1]}: the same size "
            "is wanted, or one whole multiple or fraction of both sides. An encoder that pads to whole windows needs "
            "pad_to: LIIF(..., pad_to=side of the windows), or an attribute pad_to of the encoder"
        )
    if any(n % down for n in wanted):
        raise ValueError(
            f"inp: {encoder} reduces the image by {down}, so sides that are multiples of {down} are wanted, got "
            f"{wanted[0]}x{wanted[1]}: crop the image"
        )
    return feat[:, :, : wanted[0] // down, : wanted[1] // down]
