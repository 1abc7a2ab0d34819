"""Writing several pictures into one file, one after the other: of all of them never more than one is in memory."""

from __future__ import annotations

import functools
import io
import itertools
import os
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import IO, Any

import numpy as np
from PIL import Image, TiffImagePlugin

from .outputs import TIFF_BYTES, check_lossless, check_output, check_quality, check_size
from .photo import ImageError, Photo, convert_depth, to_image
from .png import SIGNATURE, chunks, put
from .writing import encoding, metadata, save, whole

_LONGEST = 65535  # hundredths of a second of a GIF's frame; numerator and denominator of an APNG's


def write_frames(
    path: str | os.PathLike[str],
    frames: Iterable[Photo],
    count: int,
    plays: int | None,
    *,
    format: str | None = None,
    quality: int | None = None,
    lossless: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Write an animation or the pages of a TIFF, so that the file appears whole or not at all; see ``write``.

    Each picture is asked for when the one before it has been written. Frames are stored whole, so that each is shown
    as it is whatever was there before it; Pillow's WebP encoder may join those that are the same.

    Args:
        frames: ``count`` pictures; an animation's of one size, with ``milliseconds``.
        plays: how often it is shown, 0: for ever; None: pages.

    Returns:
        What the pictures' own notes say, and what the file could not hold, one sentence each.

    Raises:
        ImageError: as ``write``, and a format that does not hold several pictures. What ``frames`` raises.
    """
    check_quality(quality)
    format = check_output(path, format=format, overwrite=overwrite)
    if lossless:
        check_lossless(path, format)
        quality = 100  # which is without loss in WebP, the only one with a choice
    notes: list[str] = []
    failed: list[Exception] = []

    def pictures() -> Iterator[Photo]:
        total, size = 0, None
        try:
            for i, photo in enumerate(frames):
                size = size or photo.pixels.shape[:2]
                if plays is not None and photo.pixels.shape[:2] != size:
                    raise ImageError(
                        f"{path}: frames of one size are wanted, got {photo.pixels.shape[:2]} after {size}"
                    )
                total += photo.pixels[..., 0].size * photo.pixel_bytes
                if format == "TIFF" and total > TIFF_BYTES:
                    raise ImageError(f"{path}: the pages are too large for one TIFF (4 GB); give a smaller size")
                check_size(path, photo.pixels.shape[:2], format, photo.pixel_bytes)
                page = f"page {i + 1}: " if plays is None and i else ""
                notes.extend(page + note for note in photo.notes if note not in notes)
                if plays is not None and photo.pixels.dtype == np.uint16:
                    if lossless:
                        raise ImageError(f"{path}: not without loss: frames hold 8 bits per channel; use tif for pages")
                    notes.append("16 bits per channel are written as 8, as this is an animation")
                yield photo
        except Exception as error:
            failed.append(error)
            raise

    animated = {"GIF": _gif, "PNG": _apng} | {f: functools.partial(_by_pillow, f) for f in ("WEBP", "AVIF")}
    writer = {"TIFF": _tiff}.get(format) if plays is None else animated.get(format)
    if writer is None:
        kinds = "tif" if plays is None else "gif, webp, png (as APNG) or avif"
        raise ImageError(f"{path}: {format} holds one picture, {count} were given; use {kinds}")
    try:
        with whole(path, format, overwrite) as stream:
            writer(stream, pictures(), count, plays or 0, quality, notes)
    except ImageError:
        if failed:  # no matter of writing
            raise failed[0] from None
        raise
    return list(dict.fromkeys(notes))


def _tiff(stream: IO[bytes], pages: Iterator[Photo], count: int, plays: int, quality: Any, notes: list[str]) -> None:
    with TiffImagePlugin.AppendingTiffWriter(stream) as tiff:
        for photo in pages:
            own: list[str] = []
            save(tiff, photo, "TIFF", None, own)
            notes.extend(own)
            tiff.newFrame()


def _like_first(photo: Photo, first: Photo) -> Image.Image:
    """A frame in the mode of the whole animation; where palettes are, any frame may have holes."""
    pixels, alpha = convert_depth(photo.pixels, np.uint8), convert_depth(photo.alpha, np.uint8)
    if first.format == "GIF" or first.mode == "P" or first.alpha is not None:
        return to_image(pixels, alpha).convert("RGBA")
    if alpha is not None:
        raise ValueError("alpha in all frames or in none is wanted")
    return to_image(pixels).convert("L" if first.pixels.shape[2] == 1 else "RGB")


def _gif(stream: IO[bytes], frames: Iterator[Photo], count: int, plays: int, quality: Any, notes: list[str]) -> None:
    """Each frame by Pillow as a file of its own, of which its palette and pixels are taken (GIF89a, 20 to 26)."""
    notes.append("GIF holds 256 colours in each frame, and no half transparency: colours are reduced; webp keeps them")
    exact, end, before, first_holes = Fraction(0), 0, b"", False
    for i, photo in enumerate(frames):
        if not i:
            metadata(photo, "GIF", "RGB", notes)
        exact += Fraction(photo.milliseconds or 0) / 10
        shown, end = min(max(0, round(exact) - end), _LONGEST), round(exact)
        if shown != Fraction(photo.milliseconds or 0) / 10:
            notes.append("GIF holds times in hundredths of a second: some are rounded")
        picture, key = _with_palette(photo)
        memory = io.BytesIO()
        picture.save(memory, "GIF", optimize=False)
        screen, palette, data = _parts_of_gif(memory.getvalue())
        if not i:
            stream.write(b"GIF89a" + screen + palette)  # of which each frame has its own, too
            if plays != 1:
                stream.write(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", min(max(plays - 1, 0), 65535), 0))
        stream.write(_removed(before, key is not None))
        first_holes = first_holes if i else key is not None
        flags = data[9] | 0x80 | screen[4] & 7 if palette else data[9]
        before = b"!\xf9\x04" + struct.pack("<BHBB", key is not None, shown, key or 0, 0)
        before += data[:9] + bytes([flags]) + palette + data[10:]
    stream.write(_removed(before, first_holes) + b";")  # it is shown again


def _removed(frame: bytes, holes: bool) -> bytes:
    """A frame of a GIF that is removed where the next one has holes, and covered where not."""
    return frame and frame[:3] + bytes([frame[3] | (2 if holes else 1) << 2]) + frame[4:]


def _with_palette(photo: Photo) -> tuple[Image.Image, int | None]:
    """A frame of at most 256 colours, and the index that is transparent; half transparent becomes one or the other."""
    pixels, alpha = convert_depth(photo.pixels, np.uint8), convert_depth(photo.alpha, np.uint8)
    picture = to_image(pixels)
    if alpha is None or alpha.min() >= 128:
        return picture if picture.mode == "L" else picture.convert("P", palette=Image.Palette.ADAPTIVE), None
    picture = picture.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=255)
    picture.paste(255, mask=Image.fromarray(np.where(alpha < 128, np.uint8(255), np.uint8(0))))
    colours = picture.getpalette() or []
    picture.putpalette(colours + [0] * (768 - len(colours)))
    return picture, 255


def _parts_of_gif(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Screen descriptor, palette, and the first picture from its descriptor on, without the end of the file."""
    screen, at = data[6:13], 13
    size = 3 << (screen[4] & 7) + 1 if screen[4] & 0x80 else 0
    palette, at = data[at : at + size], at + size
    while data[at : at + 1] == b"!":
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    return screen, palette, data[at:-1]


def _apng(stream: IO[bytes], frames: Iterator[Photo], count: int, plays: int, quality: Any, notes: list[str]) -> None:
    """Each frame by Pillow as a file of its own, of which the compressed pixels are taken (W3C PNG, 11.3)."""
    number = itertools.count()
    first = None
    stream.write(SIGNATURE)
    for photo in frames:
        is_first, first = first is None, first or photo
        picture = _like_first(photo, first)
        memory = io.BytesIO()
        picture.save(memory, "PNG", **(metadata(photo, "PNG", picture.mode, notes) if is_first else {}))
        delay = Fraction((photo.milliseconds or 0) / 1000).limit_denominator(_LONGEST)
        if delay.numerator > _LONGEST:  # of more than 65 seconds whole ones
            delay = Fraction(min(round(delay), _LONGEST))
        control = struct.pack(">5I", next(number), *picture.size, 0, 0)
        control += struct.pack(">HHBB", delay.numerator, delay.denominator, 0, 0)
        memory.seek(len(SIGNATURE))
        begun = False
        for kind, length in chunks(memory):
            data = memory.read(length)
            if kind == b"IDAT":
                if not begun:
                    put(stream, b"fcTL", control)
                begun = True
                put(stream, *((kind, data) if is_first else (b"fdAT", struct.pack(">I", next(number)) + data)))
            elif is_first and kind != b"IEND":
                put(stream, kind, data)
                if kind == b"IHDR":
                    put(stream, b"acTL", struct.pack(">II", count, plays))
    put(stream, b"IEND", b"")


class _Lazy(Image.Image):
    """An image of several frames, as Pillow's encoders ask for them; each is made when they seek it."""

    def __init__(self, frames: Iterator[Photo], count: int) -> None:
        super().__init__()
        self._frames, self.n_frames, self.is_animated, self._at = frames, count, count > 1, -1
        self.milliseconds: list[int] = []
        self.exact = Fraction(0)
        self.first = next(frames)
        self._take(self.first)

    def _take(self, photo: Photo) -> None:
        picture = _like_first(photo, self.first)
        self.im, self._mode, self._size = picture.im, picture.mode, picture.size
        self._at += 1
        self.exact += Fraction(photo.milliseconds or 0)
        self.milliseconds.append(round(self.exact) - sum(self.milliseconds))

    def tell(self) -> int:
        return self._at

    def seek(self, frame: int) -> None:
        if frame >= self.n_frames:
            raise EOFError
        if frame > self._at:  # back only when all are written
            self._take(next(self._frames))


def _by_pillow(
    format: str, stream: IO[bytes], frames: Iterator[Photo], count: int, plays: int, quality: Any, notes: list[str]
) -> None:
    lazy = _Lazy(frames, count)
    options = metadata(lazy.first, format, lazy.mode, notes) | encoding(format, quality, lazy.first.lossless)
    if format == "AVIF" and plays:
        notes.append(f"AVIF is shown for ever here, not {plays} time{'s' * (plays > 1)}")
    # its encoders read each time after the frame, so that the list may grow meanwhile
    lazy.save(stream, format, save_all=True, duration=lazy.milliseconds, loop=min(plays, 65535), **options)
    if lazy.exact != int(lazy.exact):
        notes.append(f"{format} holds times in milliseconds here: some are rounded")
