"""EXIF blocks: what to keep of them, and values changed in place."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from PIL import Image

PREFIX = b"Exif\0\0"
ORIENTATION, WIDTH, HEIGHT = 0x0112, 0xA002, 0xA003
_EXIF_IFD = 0x8769
# TIFF tags that describe the picture; the others describe how one file stores it.
_DESCRIPTIVE = {
    269,
    270,
    271,
    272,
    274,
    285,
    305,
    306,
    315,
    316,
    18246,
    18249,
    33432,
    34665,
    34853,
    *range(40091, 40096),
}


def descriptive_tags(exif: bytes | None) -> Image.Exif:
    """The EXIF tags that describe the picture, without those that describe how a file stores it (sizes, offsets)."""
    tags = Image.Exif()
    if exif:
        tags.load(exif)
    for key in set(tags) - _DESCRIPTIVE:
        del tags[key]
    return tags


def patched(exif: bytes, values: Mapping[int, int], unlink_thumbnail: bool = False) -> bytes:
    """The block with these whole-number tags changed where they are present.

    They are changed in place, so that all else stays as it is: maker notes hold offsets that rewriting would break.

    Args:
        exif: block beginning with "Exif\\0\\0".
        values: new values by tag, in the main and the Exif directory; one too large for its field is left out.
        unlink_thumbnail: end the list of directories after the first, so that readers see no thumbnail.
    """
    block = bytearray(exif)
    order = "<" if block[6:8] == b"II" else ">"
    try:
        (main,) = struct.unpack_from(order + "I", block, 10)
        for tag, kind, count, at in _entries(block, order, 6 + main):
            if tag == _EXIF_IFD:
                (offset,) = struct.unpack_from(order + "I", block, at)
                below = list(_entries(block, order, 6 + offset))
            else:
                below = [(tag, kind, count, at)]
            for tag_, kind_, count_, at_ in below:
                field = {3: "H", 4: "I"}.get(kind_)
                if tag_ in values and count_ == 1 and field and values[tag_] < 256 ** struct.calcsize("=" + field):
                    struct.pack_into(order + field, block, at_, values[tag_])
        if unlink_thumbnail:
            (count,) = struct.unpack_from(order + "H", block, 6 + main)
            struct.pack_into(order + "I", block, 6 + main + 2 + 12 * count, 0)
    except struct.error:  # the block is cut short; whoever reads it stops there too
        pass
    return bytes(block)


def _entries(block: bytearray, order: str, ifd: int) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and position of the value, for each entry of a directory."""
    (entries,) = struct.unpack_from(order + "H", block, ifd)
    for entry in range(ifd + 2, ifd + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", block, entry)
        yield tag, kind, count, entry + 8
