"""ICC profiles that Pillow does not read: those of JPEG 2000 and BMP.

ISO/IEC 15444-1, I.5.3.3 (the `colr` box: method 1 names a colour space, 2 and 3 hold a profile); Microsoft's
BITMAPV5HEADER (bV5CSType, bV5ProfileData).
"""

from __future__ import annotations

import struct
from typing import IO

from PIL import Image

from .boxes import boxes, find
from .png import MAX_TEXT

# sRGB, grey and sYCC, which Pillow's decoder gives as such; bilevel; CMYK, which the reader converts and says.
_KNOWN_SPACES = {16, 17, 18, 0, 15, 12}
_EMBEDDED, _LINKED, _CALIBRATED = b"DEBM", b"KNIL", bytes(4)  # little-endian, "MBED" and "LINK" as numbers


def hidden_profile(image: Image.Image, stream: IO[bytes], notes: list[str]) -> bytes | None:
    """The profile of an opened JPEG 2000 or BMP file; None if there is none, and for all other formats.

    Args:
        stream: the file; its position is kept.
        notes: gets colour descriptions that cannot be kept.
    """
    if image.format not in ("JPEG2000", "BMP"):
        return None
    position = stream.tell()
    try:
        profile = (_of_jp2 if image.format == "JPEG2000" else _of_bmp)(stream, notes)
    except struct.error:
        notes.append("the file's colour description is damaged: dropped")
        profile = None
    finally:
        stream.seek(position)
    return profile or None


def _of_jp2(stream: IO[bytes], notes: list[str]) -> bytes | None:
    end = stream.seek(0, 2)
    header = find(stream, 0, end, b"jp2h")
    for kind, at, stop in boxes(stream, *header) if header else ():
        if kind != b"colr":
            continue
        stream.seek(at)
        method = stream.read(3)[:1]
        if method == b"\1":
            (space,) = struct.unpack(">I", stream.read(4))
            if space not in _KNOWN_SPACES:
                notes.append(f"the file's colour space (number {space} of JPEG 2000) is taken as sRGB")
        elif method in (b"\2", b"\3"):
            return stream.read(min(stop - at - 3, MAX_TEXT))
        return None  # the first that there is counts
    return None


def _of_bmp(stream: IO[bytes], notes: list[str]) -> bytes | None:
    stream.seek(14)
    head = stream.read(124)
    (size,) = struct.unpack_from("<I", head)
    space = head[56:60] if size >= 108 and len(head) >= 108 else b""
    if space == _EMBEDDED and size >= 124:
        at, length = struct.unpack_from("<II", head, 112)
        stream.seek(14 + at)
        return stream.read(min(length, MAX_TEXT))
    if space == _LINKED:
        notes.append("the file names an ICC profile in another file, which is not read: colours may look different")
    elif space == _CALIBRATED and any(head[60:96]):
        notes.append("the file's own primaries (calibrated RGB) are dropped: colours may look different")
    return None
