"""The files that are looked at: photos, and ground truths, as a page shows them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from ..images import files as images
from ..images.outputs import ANIMATED
from ..images.photo import Photo, convert_depth, fill_transparent
from ..images.tiff import SEVERAL


@dataclass
class Picture:
    """A file that has been read.

    Attributes:
        photo: as ``upscale`` gets it. colours: its pixels, ``[H, W, 3 or 1]``, with colours under transparent pixels
            that are those around them. eight: these as an image of mode RGB, for interpolation.
    """

    photo: Photo

    @classmethod
    def read(cls, file: Path, max_pixels: int) -> Picture:
        """``images.ImageError`` if it cannot be."""
        return cls(images.read(file, max_pixels=max_pixels))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.photo.pixels.shape[0], self.photo.pixels.shape[1]

    @cached_property
    def colours(self) -> np.ndarray:
        photo = self.photo
        return photo.pixels if photo.alpha is None else fill_transparent(photo.pixels, photo.alpha)

    @cached_property
    def eight(self) -> Image.Image:
        return as_image(convert_depth(self.colours, np.uint8))

    @cached_property
    def alpha(self) -> Image.Image | None:
        """Of 8 bits."""
        return None if self.photo.alpha is None else Image.fromarray(convert_depth(self.photo.alpha, np.uint8))

    @property
    def animated(self) -> bool:
        """Whether ``liif-fast upscale`` makes a PNG of several frames of it; this is the first."""
        return self.photo.format in ANIMATED and any(note.startswith(SEVERAL) for note in self.photo.notes)

    @property
    def notes(self) -> list[str]:
        """What a page does not show as it is, after what reading lost."""
        found = list(self.photo.notes)
        if self.photo.pixels.dtype != np.uint8:
            found.append("shown in 8 bits; saved views of a model have as many as the photo")
        if self.photo.colour is not None or not _is_srgb(self.photo.icc):
            found.append("its colour space is not sRGB, as which it is shown here; saved views say which it is")
        return found


def as_image(pixels: np.ndarray) -> Image.Image:
    """RGB of ``[h, w, 3 or 1]`` uint8."""
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))


def _is_srgb(profile: bytes | None) -> bool:
    """Whether colours with this profile may be shown as sRGB's; what has none is taken for that everywhere."""
    if profile is None:
        return True
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except ImageCms.PyCMSError:
        return False
    return "srgb" in name.lower() or "sgray" in name.lower()


def check_truth(size: tuple[int, int], truth: tuple[int, int], name: str) -> None:
    """``images.ImageError`` unless a picture of size ``truth`` may be a larger one of the same scene."""
    ratios = [large / small for large, small in zip(truth, size, strict=True)]
    if min(ratios) < 1 or max(ratios) / min(ratios) - 1 > 1 / min(size):
        raise images.ImageError(
            f"{name}: {truth[1]}x{truth[0]} is no ground truth of a photo of {size[1]}x{size[0]}: the same picture is "
            "wanted, of the same shape, with more pixels"
        )
