"""Pillow's image modes as pixel and alpha arrays: what each mode means, and what is lost on the way."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms

# Conversions go strip by strip: beside input and output they hold about this many pixels, whatever the image's size.
STRIP_PIXELS = 1 << 20


class SampleError(ValueError):
    """Samples whose range has no meaning as an image."""


def strips(height: int, width: int) -> Iterator[slice]:
    """Slices of whole rows that cover an image of this size, each of about `STRIP_PIXELS` pixels."""
    rows = max(1, STRIP_PIXELS // max(1, width))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def split(image: Image.Image, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels [H, W, 1 or 3] and alpha [H, W] or None of a Pillow image of any mode; losses are added to `notes`."""
    raw = raw_mode(image)  # known only until load()
    tags: Any = getattr(image, "tag_v2", {})
    if set(tags.get(258, ())) == {16} and (tags.get(284), tags.get(259)) == (2, 1):  # Pillow takes them for bytes
        raise SampleError("holds uncompressed planes of 16 bits; save it with interleaved channels or compressed")
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _split_deep(image, raw, notes)
    mode, convert = _conversion(image, raw, notes)
    height, width = image.height, image.width
    pixels = np.empty((height, width, 1 if mode[0] == "L" else 3), np.uint8)
    alpha = np.empty((height, width), np.uint8) if mode[-1] == "A" else None
    for rows in strips(height, width):
        strip = np.asarray(convert(image.crop((0, rows.start, width, rows.stop))))
        strip = strip.reshape(*strip.shape[:2], -1)  # L: [h, W] -> [h, W, 1]
        pixels[rows] = strip[:, :, : pixels.shape[2]]
        if alpha is not None:
            alpha[rows] = strip[:, :, -1]
    return pixels, alpha


def raw_mode(image: Image.Image) -> str:
    """How the file stores samples ("RGB;16B", "L;4"), for an image that Pillow has opened but not loaded; else ""."""
    for _, _, _, args in getattr(image, "tile", None) or ():
        first = args[0] if isinstance(args, tuple) and args else args
        if isinstance(first, str):
            # PPM gives the largest sample in place of a raw mode with a depth
            deep = image.format == "PPM" and isinstance(args[-1], int) and args[-1] > 255
            return f"{first};16" if deep else first
    return ""


def fitting_profile(icc: Any, pixels: np.ndarray, mode: str, notes: list[str]) -> bytes | None:
    """The ICC profile if its colour space is the pixels' (grey or RGB), else None and a note."""
    if not icc or mode in ("CMYK", "LAB"):  # those are noted with the conversion to sRGB
        return None
    if not isinstance(icc, bytes):  # a TIFF may give its tag any type
        notes.append("ICC profile dropped: it is damaged")
        return None
    wanted = "GRAY" if pixels.shape[2] == 1 else "RGB"
    space = bytes(icc[16:20]).decode("latin-1").strip()
    if space == wanted:
        return bytes(icc)
    notes.append(f"ICC profile dropped: it is for {space or 'no'} colours, the pixels are {wanted}")
    return None


def _split_deep(image: Image.Image, raw: str, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """One channel of 16 or 32 bits: uint16 where the values fit, float32 in [0, 1] for mode F."""
    values = np.asarray(image)
    if image.mode == "F":
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 1):
            raise SampleError(f"image has floating-point samples from {low:g} to {high:g}; scale them to [0, 1] first")
        values = values.astype(np.float32, copy=True)
        return (1 - values if _white_is_zero(image) else values)[:, :, None], None
    if image.mode == "I":
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise SampleError(f"image has 32-bit samples from {low} to {high}; convert it to 16 bit (0 to 65535) first")
        if image.format != "PPM":  # Pillow reads 16-bit PGM as I, scaled to 65535
            notes.append("integers of mode I are taken as 16 bit (0 to 65535)")
    values = values.astype(np.uint16)
    if raw == "I;12":
        values = convert_twelve(values)
    if _white_is_zero(image):
        values = 65535 - values
    key = image.info.get("transparency")
    alpha = None if key is None else np.where(values == key, 0, 65535).astype(np.uint16)
    return values[:, :, None], alpha


def convert_twelve(values: np.ndarray) -> np.ndarray:
    """0..4095 stretched to 0..65535: v / 4095 * 65535 rounded, the way 8 bits become 16 by * 257."""
    return ((values.astype(np.uint32) * 65535 + 2047) // 4095).astype(np.uint16)


def _white_is_zero(image: Image.Image) -> bool:
    """TIFF may store grey inverted; Pillow undoes that for up to 8 bits only."""
    tags = getattr(image, "tag_v2", None)
    return image.format == "TIFF" and tags is not None and tags.get(262) == 0


def _conversion(image: Image.Image, raw: str, notes: list[str]) -> tuple[str, Callable[[Image.Image], Image.Image]]:
    """The mode (L, LA, RGB, RGBA) that shows all of an 8-bit image, and a function that converts a strip to it."""
    if ";16" in raw:
        notes.append("16 bits per channel are read as 8 (Pillow's limit for colour and for grey with alpha)")
    if image.mode in ("CMYK", "LAB"):
        return "RGB", _to_srgb(image, notes)
    mode = "L" if image.mode in ("1", "L", "LA", "La") or raw.startswith("LA") else "RGB"
    if image.has_transparency_data:
        mode += "A"
    key = image.info.get("transparency")
    if raw in ("L;2", "L;4") and isinstance(key, int):
        key = key * 255 // (2 ** int(raw[-1]) - 1)  # Pillow stretches the pixels but not the key
    elif image.mode == "1" and key:
        key = 255  # Pillow before 12 says 1
    elif ";16" in raw and isinstance(key, tuple):
        key = tuple(value >> 8 for value in key)  # as Pillow does with the pixels
        notes.append("the transparent colour is compared at 8 bits per channel")

    def convert(strip: Image.Image) -> Image.Image:
        if key is not None:
            strip.info["transparency"] = key
        # 16-bit grey with alpha arrives as RGBA with three equal channels
        return strip if strip.mode == mode else strip.convert(mode)

    return mode, convert


def _to_srgb(image: Image.Image, notes: list[str]) -> Callable[[Image.Image], Image.Image]:
    """Strips of a CMYK or LAB image to RGB: through the embedded profile if there is a usable one."""
    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "LAB":
        notes.append("LAB converted to sRGB")
        transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), srgb, "LAB", "RGB")
        return _through(transform)
    icc, why = image.info.get("icc_profile"), "no ICC profile is embedded"
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            transform = ImageCms.buildTransform(profile, srgb, "CMYK", "RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            why = "the embedded ICC profile is not usable"
        else:
            notes.append("CMYK converted to sRGB with the embedded ICC profile, which is dropped")
            return _through(transform)
    notes.append(f"CMYK converted to RGB by the plain formula, colours may differ: {why}")
    return lambda strip: strip.convert("RGB")


def _through(transform: ImageCms.ImageCmsTransform) -> Callable[[Image.Image], Image.Image]:
    # None comes only of what is converted in place
    return lambda strip: cast(Image.Image, ImageCms.applyTransform(strip, transform))
