"""Icon files: the sizes of the images inside, other than the file's list may say; Pillow decodes them on opening."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from PIL import Image


def sizes_of_ico(stream: IO[bytes]) -> Iterator[tuple[int, int]]:
    """(width, height) in the header of each image of an ICO; nothing for other files. Moves the stream's position."""
    stream.seek(0)
    head = stream.read(6)
    if head[:4] != b"\0\0\1\0" or len(head) < 6:
        return
    (count,) = struct.unpack("<H", head[4:])
    listed = stream.read(16 * count)
    for offset in {at for (at,) in struct.iter_unpack("<12xI", listed[: len(listed) // 16 * 16])}:
        stream.seek(offset)
        data = stream.read(24)
        if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) == 24:
            yield struct.unpack(">II", data[16:])
        elif len(data) >= 12:
            width, height = struct.unpack("<ii", data[4:12])  # BITMAPINFOHEADER; the mask makes it twice as high
            yield abs(width), abs(height) // 2


def sizes_of_icns(image: Image.Image) -> list[tuple[int, int]]:
    """(width, height) of the image inside an opened ICNS that Pillow would decode; nothing for other formats."""
    icns = getattr(image, "icns", None)
    if icns is None:
        return []
    return [channel.size for channel in icns.dataforsize(image.best_size).values()]  # type: ignore[attr-defined]
