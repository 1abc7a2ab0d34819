"""Frames of an animated PNG put together as its standard says (W3C PNG, 12.8 and 13); Pillow decodes their parts.

Pillow itself mixes palette indices and half transparent colours wrongly, and forgets what was below a loaded frame.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from PIL import Image

from .modes import split
from .photo import convert_depth, to_image
from .png import SIGNATURE, chunks, put

_BACKGROUND, _PREVIOUS = 1, 2  # what becomes of a frame's place when its time is over
_OVER = 1


@dataclass
class _Part:
    """A frame as the file has it: its control chunk and compressed pixels."""

    control: tuple[int, ...]  # number, width, height, x, y, numerator and denominator of the time, disposal, blending
    data: list[bytes] = field(default_factory=list)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        _, width, height, x, y, *_ = self.control
        return x, y, x + width, y + height


def frames(stream: IO[bytes], notes: list[str]) -> Iterator[tuple[Image.Image, float]]:
    """Each frame whole, as RGBA, and its milliseconds.

    Args:
        notes: what is lost on the way, of all frames.

    Raises:
        OSError: cut off. What Pillow raises.
    """
    canvas: Image.Image | None = None
    for header, shared, part in _parts(stream):
        canvas = canvas or Image.new("RGBA", struct.unpack(">II", header[:8]))
        numerator, denominator, disposal, blending = part.control[5:]
        box = part.box
        below = canvas.crop(box)
        own = _decoded(header, shared, part, notes)
        canvas.paste(Image.alpha_composite(below, own) if blending == _OVER else own, box)
        yield canvas.copy(), 1000 * numerator / (denominator or 100)
        if disposal == _BACKGROUND:
            canvas.paste((0, 0, 0, 0), box)
        elif disposal == _PREVIOUS:
            canvas.paste(below, box)


def leaves_holes(stream: IO[bytes]) -> bool:
    """Whether parts of the picture are empty at some time even if all colours are opaque."""
    emptied: tuple[int, int, int, int] | None = None
    for i, (header, _, part) in enumerate(_parts(stream)):
        emptied = emptied if i else (0, 0, *struct.unpack(">II", header[:8]))
        if emptied and not _covers(part.box, emptied):
            return True
        # what the first one covers was empty before
        emptied = part.box if part.control[7] == _BACKGROUND or (part.control[7] == _PREVIOUS and not i) else None
    return False


def _covers(box: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return box[0] <= other[0] and box[1] <= other[1] and box[2] >= other[2] and box[3] >= other[3]


def _parts(stream: IO[bytes]) -> Iterator[tuple[bytes, list[tuple[bytes, bytes]], _Part]]:
    """Header, palette and transparency of the file, and each frame's part."""
    header, shared, part = b"", [], None
    stream.seek(len(SIGNATURE))
    for kind, length in chunks(stream):
        if kind in (b"fcTL", b"IEND") and part is not None:
            yield header, shared, part
        if kind == b"IEND":
            return
        if kind not in (b"IHDR", b"PLTE", b"tRNS", b"fcTL", b"IDAT", b"fdAT"):
            continue
        data = stream.read(length)
        if kind == b"IHDR":
            header = data
        elif kind == b"fcTL":
            part = _Part(struct.unpack(">5IHHBB", data))
        elif kind in (b"PLTE", b"tRNS"):
            shared.append((kind, data))
        elif part is not None:  # else of the still picture before the animation
            part.data.append(data if kind == b"IDAT" else data[4:])
    raise OSError("image file is truncated")


def _decoded(header: bytes, shared: list[tuple[bytes, bytes]], part: _Part, notes: list[str]) -> Image.Image:
    x, y, right, bottom = part.box
    if not _covers((0, 0, *struct.unpack(">II", header[:8])), part.box):
        raise ValueError("a frame reaches beyond the picture")
    memory = io.BytesIO()
    memory.write(SIGNATURE)
    put(memory, b"IHDR", struct.pack(">II", right - x, bottom - y) + header[8:])
    for kind, data in shared:
        put(memory, kind, data)
    for data in part.data:
        put(memory, b"IDAT", data)
    put(memory, b"IEND", b"")
    memory.seek(0)
    with Image.open(memory) as image:
        pixels, alpha = split(image, notes)
    if pixels.dtype != np.uint8:
        notes.append("16 bits per channel are read as 8, as this is an animation")
    return to_image(convert_depth(pixels, np.uint8), convert_depth(alpha, np.uint8)).convert("RGBA")
