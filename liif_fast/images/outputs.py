"""What can be written where: formats by name and suffix, the sizes that they hold, files that are in the way."""

from __future__ import annotations

import os
from typing import Any

from PIL import Image

from ..base.shown import shown
from .photo import ImageError
from .recognised import HEIF_SUFFIXES, NEEDS_HEIF, add_heif, has_heif

COMMON = ".png, .jpg, .webp, .tif, .bmp"
_LOSSY = ("JPEG", "MPO", "AVIF", "GIF", "PCD", "PDF")  # PDF: Pillow writes JPEG into it
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # formats of several frames with times
# Formats whose writers in Pillow resize the image, want another kind of image, or are only stubs.
_UNFIT = {"ICO", "ICNS", "SPIDER", "MSP", "XBM", "PALM", "BLP", "BUFR", "GRIB", "HDF5", "WMF"}
_LONGEST_SIDE = {"JPEG": 65500, "MPO": 65500, "WEBP": 16383, "GIF": 65535, "TGA": 65535, "PCX": 65535, "SGI": 65535}
_WIDEST = (2**31 - 1) // 32 - 7  # pixels in a row: Pillow counts its bits, 32 with alpha, in an int
TIFF_BYTES = 2**32 - 2**24  # of pixels: TIFF has 32-bit offsets, and this leaves room for the rest


def check_quality(quality: int | None) -> None:
    """ValueError unless it is one."""
    if quality is not None and not (isinstance(quality, int) and 1 <= quality <= 100):
        raise ValueError(f"quality: got {shown(quality)}; pass a whole number from 1 to 100")


def check_lossless(path: str | os.PathLike[str], format: str) -> None:
    """ImageError for a format (Pillow's name) that does not keep every value."""
    if format in _LOSSY:
        why = {"GIF": "holds 256 colours", "AVIF": "loses a little at any quality"}.get(format, "always loses some")
        raise ImageError(f"{path}: not without loss in {format}, which {why}; use png, tif or webp")


def check_output(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    format: str | None = None,
    overwrite: bool = False,
) -> str:
    """The format that `write` would use; raises its `ImageError` before any work is done.

    Args:
        path, format, overwrite: as for `write`.
        size: (H, W) of the image to be written, where known.
    """
    chosen = output_format(path, format) if size is None else check_size(path, size, format)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ImageError(f"{path}: there is no folder {folder}; create it first")
    if os.path.isdir(path):
        raise ImageError(f"{path}: is a folder; give the name of a file")
    if os.path.lexists(path) and not overwrite:
        raise exists(path)
    if os.path.exists(path) and not os.path.isfile(path):  # renaming over a device would remove it
        raise ImageError(f"{path}: is not a regular file; give another name")
    return chosen


def check_size(
    path: str | os.PathLike[str], size: tuple[int, int], format: str | None = None, pixel_bytes: int = 3
) -> str:
    """The format that `write` would use; ImageError if ``size`` (H, W) is too large for it, or for Pillow."""
    chosen, (height, width) = output_format(path, format), size
    longest = _LONGEST_SIDE.get(chosen)
    if longest is not None and max(size) > longest:
        fits = "PNG or TIFF" if max(size) > 65500 else "PNG, TIFF or JPEG"
        raise ImageError(f"{path}: {width}x{height} is too large for {chosen} (sides up to {longest}); use {fits}")
    if chosen == "TIFF" and height * width * pixel_bytes > TIFF_BYTES:
        raise ImageError(f"{path}: {width}x{height} is too large for TIFF (4 GB uncompressed); use PNG")
    if width > _WIDEST:
        raise ImageError(f"{path}: {width}x{height} is too wide to be written (up to {_WIDEST}); give a smaller size")
    return chosen


def exists(path: Any) -> ImageError:
    return ImageError(f"{path}: already exists; give another name, or overwrite=True (--overwrite) to replace it")


def output_format(path: str | os.PathLike[str], format: str | None = None) -> str:
    """Pillow's name of the format that `write` would use; raises ImageError if there is none."""
    Image.init()  # loads all of Pillow's plug-ins
    name = format if format is not None else os.path.splitext(path)[1]
    if "." + name.lower().lstrip(".") in HEIF_SUFFIXES:
        if not has_heif():
            raise ImageError(f"{path}: {NEEDS_HEIF}, or use one of {COMMON}")
        add_heif()
    suffixes = Image.registered_extensions()
    chosen = name.upper() if name.upper() in Image.SAVE else suffixes.get("." + name.lower().lstrip("."), "")
    if chosen in Image.SAVE and chosen not in _UNFIT:
        return chosen
    what = f"format {format!r}" if format is not None else f"suffix {name!r}" if name else "a name without suffix"
    named = f"{path}: " if os.fspath(path) else ""
    raise ImageError(f"{named}{what} is none that an image can be written in; use one of {COMMON}")
