"""Colour and alpha of 16 bits in PNG and TIFF files, of which Pillow itself gives and takes 8.

Pillow has an unpacker for the upper byte of each sample, in either byte order: reading a file as if it had the other
one gives the lower byte. Written are the samples as they are: Pillow's IFD for a TIFF, its chunks for a PNG (W3C PNG,
9.4 for the filter).
"""

from __future__ import annotations

import io
import re
import struct
import sys
import zlib
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, TiffTags

from .modes import raw_mode, strips
from .photo import Photo
from .png import SIGNATURE, chunks, put

_DEEP = re.compile(r"(RGB|RGBA|RGBX|RGBa);16([BLN])|([RGBA])")
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES = 256, 257, 258, 259, 262, 273, 277
_ROWS_PER_STRIP, _BYTE_COUNTS, _PLANAR, _EXTRA, _ICC = 278, 279, 284, 338, 34675


def samples(image: Image.Image, reopened: Callable[[], Image.Image]) -> np.ndarray | None:
    """[H, W, 2 to 4] uint16 of an opened PNG or TIFF, alpha last and not premultiplied; None for all others.

    Args:
        image: opened, not loaded yet; it is loaded here.
        reopened: gives the same image, opened once more.
    """
    tags: Any = getattr(image, "tag_v2", {})
    raw, bits = raw_mode(image), tags.get(_BITS, ())
    if image.format == "PNG" and raw == "LA;16B":  # bytes of grey and alpha, as if they were four channels
        both = np.asarray(_as(image, lambda _: "RGBA"))
        return both.reshape(*both.shape[:2], 2, 2).view(">u2")[..., 0].astype(np.uint16)
    found = _DEEP.fullmatch(raw)
    if image.format not in ("PNG", "TIFF") or found is None or (found[3] and set(bits) != {16}):
        return None
    if tags.get(_PLANAR) == 2 and tags.get(_COMPRESSION) != 1:  # Pillow has but the upper bytes of these
        return None
    order = found[2] or ("L" if tags.prefix == b"II" else "B")  # planes have the file's
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"

    # of planes, too, whose names do not say it
    premultiplied = found[1] == "RGBa" or (found[3] is not None and 1 in tags.get(_EXTRA, ()))

    def kind(of_order: str) -> Callable[[str], str]:
        # premultiplied samples are undone below, with all their bits
        return lambda name: f"{name.partition(';')[0].replace('a', 'A')};16{of_order}"

    other = _as(reopened(), kind("L" if order == "B" else "B"))
    upper, lower = np.asarray(_as(image, kind(order))), np.asarray(other)
    values = np.empty(upper.shape, np.uint16)
    for rows in strips(image.height, image.width):
        values[rows] = upper[rows].astype(np.uint16) << 8 | lower[rows]
        if premultiplied:
            alpha = values[rows, :, 3:].astype(np.uint32)
            colours = (values[rows, :, :3] * np.uint32(65535) + alpha // 2) // np.maximum(alpha, 1)
            values[rows, :, :3] = np.minimum(colours, 65535)
    return values


def parted(values: np.ndarray, key: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels [H, W, 1 or 3] and alpha [H, W] or None of such samples.

    Args:
        key: the colour that is transparent, three numbers of 16 bits, if there is one.
    """
    if values.shape[2] != 3:
        return np.ascontiguousarray(values[..., :-1]), values[..., -1].copy()
    if not isinstance(key, tuple):
        return values, None
    return values, np.where((values == np.array(key)).all(2), 0, 65535).astype(np.uint16)


def _as(image: Image.Image, kind: Callable[[str], str]) -> Image.Image:
    """The image loaded, its samples taken as of another kind."""

    def changed(arguments: Any) -> Any:
        first, *rest = [arguments] if isinstance(arguments, str) else arguments
        return kind(first) if isinstance(arguments, str) else (kind(first), *rest)

    assert isinstance(image, ImageFile.ImageFile)
    image.tile = [tile._replace(args=changed(tile.args)) for tile in image.tile]
    image.load()
    return image


def mode(photo: Photo, format: str) -> str:
    """Pillow's mode of 8 bits for a picture that ``save`` is for; "" for those that Pillow writes itself."""
    grey = photo.pixels.shape[2] == 1
    if photo.pixels.dtype != np.uint16 or format not in ("PNG", "TIFF") or (grey and photo.alpha is None):
        return ""
    if grey:
        return "LA" if format == "PNG" else "RGBA"  # Pillow reads no TIFF of 16-bit grey with alpha
    return "RGB" if photo.alpha is None else "RGBA"


def save(stream: IO[bytes], photo: Photo, format: str, options: dict[str, Any]) -> None:
    """Write uint16 samples, with what Pillow's ``save`` makes of ``options``."""
    name = mode(photo, format)
    pixels = photo.pixels
    if name == "RGBA" and pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    values = pixels if photo.alpha is None else np.dstack((pixels, photo.alpha))
    (_save_png if format == "PNG" else _save_tiff)(stream, values, name, options)


def _save_png(stream: IO[bytes], values: np.ndarray, name: str, options: dict[str, Any]) -> None:
    height, width, channels = values.shape
    memory = io.BytesIO()
    Image.new(name, (1, 1)).save(memory, "PNG", **options)
    memory.seek(len(SIGNATURE))
    stream.write(SIGNATURE)
    for kind, length in chunks(memory):
        data = memory.read(length)
        if kind == b"IHDR":
            put(stream, kind, struct.pack(">IIB", width, height, 16) + data[9:])
        elif kind != b"IDAT":
            put(stream, kind, data)
        else:
            _put_samples(stream, values.reshape(height, width * channels), 2 * channels)


def _put_samples(stream: IO[bytes], values: np.ndarray, step: int) -> None:
    """The chunks of the pixels: [H, N] uint16, ``step`` bytes a pixel; all rows filtered by Paeth's."""
    pack = zlib.compressobj(6)
    above = np.zeros((1, 2 * values.shape[1]), np.uint8)
    for rows in strips(*values.shape):
        own = values[rows].astype(">u2").view(np.uint8)
        up = np.concatenate((above, own[:-1]))
        above = own[-1:]
        left, corner = (np.pad(each, ((0, 0), (step, 0)))[:, :-step].astype(np.int16) for each in (own, up))
        high = up.astype(np.int16)
        a, b, c = np.abs(high - corner), np.abs(left - corner), np.abs(left + high - 2 * corner)
        guess = np.where((a <= b) & (a <= c), left, np.where(b <= c, high, corner)).astype(np.uint8)
        filtered = np.empty((own.shape[0], own.shape[1] + 1), np.uint8)
        filtered[:, 0], filtered[:, 1:] = 4, own - guess
        if data := pack.compress(filtered.data):
            put(stream, b"IDAT", data)
    put(stream, b"IDAT", pack.flush())


def _save_tiff(stream: IO[bytes], values: np.ndarray, name: str, options: dict[str, Any]) -> None:
    height, width, channels = values.shape
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    exif: Any = options.get("exif", {})
    for tag in exif:
        tags[tag] = exif.get_ifd(tag) if tag in TiffTags.TAGS_V2_GROUPS else exif[tag]
    if "icc_profile" in options:
        tags[_ICC] = options["icc_profile"]
    if "dpi" in options:
        (tags[282], tags[283]), tags[296] = options["dpi"], 2
    tags[_WIDTH], tags[_HEIGHT], tags[_BITS] = width, height, (16,) * channels
    tags[_COMPRESSION], tags[_PHOTOMETRIC], tags[_SAMPLES], tags[_PLANAR] = 1, 2, channels, 1
    tags[_ROWS_PER_STRIP], tags[_OFFSETS] = height, 0
    tags.tagtype[_BYTE_COUNTS] = TiffTags.LONG
    tags[_BYTE_COUNTS] = values.nbytes
    if name == "RGBA":
        tags[_EXTRA] = 2  # not premultiplied
    tags.save(stream)
    for rows in strips(height, width):
        stream.write(values[rows].astype("<u2").data)
