"""Image files: find them, read them whole with nothing lost silently, write them whole or not at all.

The rest of the package uses this module; `photo` holds the in-memory part and `image_writing` the writer.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..sizes import MAX_PIXELS
from . import icon as image_icon
from . import recognised
from .colour import read_colour
from .containers import check_contents, depth, is_lossless_webp
from .decoding import RAISE, decoding, errors, opened
from .deep import parted, samples
from .exif import ORIENTATION, PREFIX, descriptive_tags, has_header, is_sound, main_orientation, patched, with_prefix
from .finding import find_images, images_in, kinds
from .modes import fitting_profile, raw_mode, split
from .outputs import check_lossless, check_output, check_size, output_format
from .photo import (
    ImageError,
    Photo,
    as_kind,
    as_photo,
    convert_depth,
    fill_transparent,
    middle,
    upright,
)
from .png import MAX_TEXT, has_too_much_text, without_text
from .profile import hidden_profile
from .tiff import SEVERAL, full_page, is_cut
from .writing import check_held, write

__all__ = [
    "ImageError",
    "Photo",
    "as_kind",
    "as_photo",
    "check_held",
    "check_lossless",
    "check_output",
    "check_size",
    "convert_depth",
    "fill_transparent",
    "find_images",
    "header_size",
    "images_in",
    "is_picture",
    "kinds",
    "middle",
    "output_format",
    "read",
    "write",
]

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors, which are raised too, go to stderr


def read(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, page: int | None = None) -> Photo:
    """Read one image of a file, by default the first, upright, as arrays. Several: ``frames_of``.

    Palettes, bilevel, CMYK, LAB, YCbCr, ... become RGB or grey of 8 bits (alpha kept apart). 16-bit grey stays 16 bit,
    as do 16-bit RGB and alpha of PNG and TIFF; floating-point grey in [0, 1] becomes 16 bit. EXIF orientation is
    applied to the pixels and set to 1 in the tags. What is lost on the way is said in the photo's `notes`. One file is
    decoded at a time, whatever the threads.

    Args:
        path: the file.
        max_pixels: refuse images of more pixels, before they are decoded (decompression bombs).
        page: of a TIFF, counted from 0; None: the first that is no thumbnail.

    Raises:
        ImageError: not found, a folder, no permission, empty, not an image, damaged or truncated, too many pixels.
    """
    name = os.fspath(path)
    with errors(name, max_pixels), opened(name) as stream:
        recognised.check(stream, name)
        with decoding(max_pixels) as seen:
            bounded = without_text(stream) if has_too_much_text(stream) else stream
            photo = _decode(bounded, name, max_pixels, page)
            if bounded is not stream:
                most = f"{MAX_TEXT >> 20} MB, or {4 * MAX_TEXT >> 20} MB in all"
                photo.notes.append(f"text and ICC profile dropped: more than {most}")
        photo.notes += [note for note in dict.fromkeys(seen()) if note not in photo.notes]
        return photo


def header_size(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> tuple[int, int] | None:
    """(width, height) as a file's header says, not turned upright; None if it says none. Nothing is decoded."""
    name = os.fspath(path)
    try:
        with opened(name) as stream, decoding(max_pixels):
            recognised.check(stream, name)
            with Image.open(stream) as image:
                return image.size
    except Exception:  # as for pixels: damaged data raise nearly anything
        return None


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file is of a format that Pillow knows, be it damaged; a pipe is not looked into.

    Raises:
        ImageError: HEIF without its plugin; a camera's raw file.
    """
    name = os.fspath(path)
    if not os.path.isfile(name) or not os.path.getsize(name):
        return False
    try:
        with opened(name) as stream, decoding(MAX_PIXELS):
            recognised.check(stream, name)
            Image.open(stream).close()
    except (UnidentifiedImageError, PermissionError):
        return False
    except ImageError:
        raise
    except Exception:  # whoever reads it says why
        return True
    return True


_MOST_HEX = 1 << 18


def _decode(stream: IO[bytes], name: str, max_pixels: int, page: int | None) -> Photo:
    notes: list[str] = []
    chosen = full_page(stream, name, notes) if page is None else page
    _check_sizes(image_icon.sizes_of_ico(stream), name, max_pixels)
    stream.seek(0)
    with Image.open(stream) as image:
        if chosen:
            image.seek(chosen)
        _check_sizes([image.size, *image_icon.sizes_of_icns(image)], name, max_pixels)
        check_contents(image, notes)
        format, mode = image.format or "", image.mode
        if page is None and getattr(image, "is_animated", False):
            if format == "PSD":
                notes.append("the file holds several layers: they are read merged")
            elif format != "TIFF" or not notes:  # else that of the page is enough
                notes.append(f"{SEVERAL}: only the {'main one' if format == 'HEIF' else 'first'} is read")
        if page is None and format == "TIFF" and is_cut(stream):
            notes.append("a further page that the file names cannot be read: it may be cut short")
        if not isinstance(image.info.get("xmp", ""), (str, bytes)):  # a TIFF may give its tag any type
            notes.append("XMP data are damaged: dropped")
            del image.info["xmp"]
        profile = image.info.get("icc_profile") or hidden_profile(image, stream, notes)
        colour = read_colour(image, stream, notes)
        bits = depth(image, stream)

        def reopened() -> Image.Image:
            stream.seek(0)
            again = Image.open(stream)
            if chosen:
                again.seek(chosen)
            return again

        if bits > 8 and ";16" not in raw_mode(image) and not mode.startswith("I"):
            notes.append(f"{bits} bits per channel are read as 8 (Pillow's limit for colour)")
        deep = samples(image, reopened)
        pixels, alpha = split(image, notes) if deep is None else parted(deep, image.info.get("transparency"))
        orientation, exif, xmp = tags(image, notes)
        icc = fitting_profile(profile, pixels, mode, notes)
        text, dpi = _text(image, notes), _resolution(image.info.get("dpi"))
        lossless = format == "WEBP" and is_lossless_webp(stream)
        image.close()  # before the copies below
    if orientation >= 5 and dpi:
        dpi = dpi[::-1]
    if pixels.dtype == np.float32:
        notes.append("floating-point samples are read as 16 bit")
        pixels = convert_depth(pixels, np.uint16)
    pixels, alpha = upright(pixels, orientation), None if alpha is None else upright(alpha, orientation)
    return Photo(pixels, alpha, exif, icc, xmp, dpi, text, format, mode, notes, colour, lossless)


def _check_sizes(sizes: Iterable[tuple[int, int]], name: str, max_pixels: int) -> None:
    """Refuse too many pixels before they are decoded."""
    for width, height in sizes:
        if width * height > max_pixels:
            raise ImageError(f"{name}: {width}x{height} is more than {max_pixels} pixels; {RAISE}")


def tags(image: Image.Image, notes: list[str]) -> tuple[int, bytes | None, bytes | None]:
    """Orientation, EXIF block and XMP packet, both with orientation 1."""
    xmp = image.info.get("xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    exif, orientation = image.info.get("exif"), None
    if isinstance(exif, bytes) and exif:
        exif = with_prefix(exif)
    try:
        profile = image.info.get("Raw profile type exif", "")  # ImageMagick's, in hexadecimal
        if isinstance(exif, bytes) and exif and not (has_header(exif) and is_sound(exif)):
            orientation = main_orientation(exif)  # viewers turn by it all the same
            raise ValueError("no directories, or such as name themselves")
        if len(profile) > _MOST_HEX:
            raise ValueError("directories that name themselves")
        found = image.getexif()
        orientation = found.get(ORIENTATION, 1)
        if not isinstance(exif, bytes) or not exif:
            if image.format == "TIFF":
                found = descriptive_tags(found)
            exif = found.tobytes() if len(found) else None
    except Exception:  # as for pixels: damaged data raise nearly anything
        notes.append("EXIF data are damaged: dropped")
        turned = re.search(rb"tiff:Orientation(?:=[\"']|>)([1-8])", xmp or b"")
        orientation, exif = orientation or (int(turned[1]) if turned else 1), None
    if exif and not exif.startswith(PREFIX):
        exif = PREFIX + exif
    if xmp:
        xmp = re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)
    orientation = orientation if orientation in range(1, 9) else 1
    if exif:  # a thumbnail lies the way the pixels did, so it goes when these are turned
        exif = patched(exif, {ORIENTATION: 1}, unlink_thumbnail=orientation != 1)
    return orientation, exif, xmp or None


def _resolution(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if min(x, y) > 1 and max(x, y) < 1e6 else None  # also None for NaN, and TIFF's "1, no unit"


def _text(image: Image.Image, notes: list[str]) -> dict[str, str]:
    """Text fields that can be written back, and notes on metadata that Pillow cannot write."""
    info = image.info
    if image.format in ("JPEG", "MPO") and isinstance(info.get("photoshop"), dict) and 0x0404 in info["photoshop"]:
        notes.append("IPTC metadata dropped: Pillow cannot write them")
    if image.format == "PNG":
        text = getattr(image, "text", {})
        return {k: v for k, v in text.items() if k != "XML:com.adobe.xmp" and not k.startswith("Raw profile type")}
    comment = info.get("comment")
    if isinstance(comment, bytes):
        comment = comment.decode("utf-8", "replace")
    return {"Comment": comment} if comment and isinstance(comment, str) else {}
