"""EXIF blocks: what to keep of them, and values changed in place."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from PIL import Image

PREFIX = b"Exif\0\0"
_HEADERS = (b"II*\0", b"MM\0*")
ORIENTATION, WIDTH, HEIGHT = 0x0112, 0xA002, 0xA003
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
# Far above what cameras write (some hundred entries); readers keep each entry's value, so that there must be a limit.
_MOST_ENTRIES = 2048
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes, by type of field
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


def is_sound(exif: bytes) -> bool:
    """Whether the work of reading a block is bounded by its length: no directory that names itself or is named twice.

    In a well-formed block directories and values do not overlap (TIFF 6.0, section 2; Exif 2.32, 4.5). One whose
    entries all point at the same directory or value makes readers do the square of its length. A block that is merely
    cut short is sound: whoever reads it stops there.
    """
    block = exif.removeprefix(PREFIX)
    order = "<" if block[:2] == b"II" else ">"
    seen: set[int] = set()
    total = 0
    try:
        waiting = list(struct.unpack_from(order + "I", block, 4))
        while waiting:
            ifd = waiting.pop()
            (count,) = struct.unpack_from(order + "H", block, ifd)
            if ifd in seen or count > _MOST_ENTRIES:
                return False
            seen.add(ifd)
            for tag, kind, number, at in _entries(block, order, ifd):
                size = number * _SIZES.get(kind, 0)
                total += size if 4 < size <= len(block) else 0  # readers leave out what cannot be there
                if tag in (_EXIF_IFD, _GPS_IFD, _INTEROP_IFD):
                    waiting += [value for value in struct.unpack_from(order + "I", block, at) if 0 < value < len(block)]
            if len(waiting) > 4 or total > 4 * len(block) + 4096:  # some writers share values: not too strict
                return False
            if len(seen) == 1:  # the thumbnail's directory
                (after,) = struct.unpack_from(order + "I", block, ifd + 2 + 12 * count)
                waiting += [after] * (0 < after < len(block))
    except struct.error:
        pass
    return True


def has_header(exif: bytes) -> bool:
    """Whether a block begins as the TIFF file that it must be (Exif 2.32, 4.5.2)."""
    return exif.removeprefix(PREFIX)[:4] in _HEADERS


def main_orientation(exif: bytes) -> int | None:
    """The orientation in the main directory of a block that may not be sound; None without one."""
    block = exif.removeprefix(PREFIX)
    order = "<" if block[:2] == b"II" else ">"
    try:
        entries = _entries(block, order, struct.unpack_from(order + "I", block, 4)[0])
        for tag, kind, _, at in entries if has_header(exif) else ():
            if tag == ORIENTATION and kind == 3:
                return struct.unpack_from(order + "H", block, at)[0]
    except struct.error:
        pass
    return None


def with_prefix(exif: bytes) -> bytes:
    """The block with "Exif\\0\\0" once in front; some cameras write it twice."""
    while exif.startswith(PREFIX):
        exif = exif.removeprefix(PREFIX)
    return PREFIX + exif


def descriptive_tags(exif: bytes | Image.Exif | None) -> Image.Exif:
    """The EXIF tags that describe the picture, without those that describe how a file stores it (sizes, offsets).

    Tags that Pillow has read already are reduced in place.
    """
    tags = exif if isinstance(exif, Image.Exif) else Image.Exif()
    if isinstance(exif, bytes) and exif:
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
        fields = list(_entries(block, order, 6 + main))
        for tag, _, _, at in fields:
            if tag == _EXIF_IFD:  # the first of that name, as readers do: each costs a walk
                (offset,) = struct.unpack_from(order + "I", block, at)
                fields += list(_entries(block, order, 6 + offset))
                break
        for tag, kind, count, at in fields:
            field = {3: "H", 4: "I"}.get(kind)
            if tag in values and count == 1 and field and values[tag] < 256 ** struct.calcsize("=" + field):
                struct.pack_into(order + field, block, at, values[tag])
        if unlink_thumbnail:
            (count,) = struct.unpack_from(order + "H", block, 6 + main)
            struct.pack_into(order + "I", block, 6 + main + 2 + 12 * count, 0)
    except struct.error:  # the block is cut short; whoever reads it stops there too
        pass
    return bytes(block)


def _entries(block: bytes | bytearray, order: str, ifd: int) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and position of the value, for each entry of a directory that is there whole."""
    if ifd + 2 > len(block):
        return
    (entries,) = struct.unpack_from(order + "H", block, ifd)
    for entry in range(ifd + 2, min(ifd + 2 + 12 * entries, len(block) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHI", block, entry)
        yield tag, kind, count, entry + 8
