"""Colour primaries and transfer of AVIF files, which Pillow does not tell.

AVIF 1.1, section 2 (the `colr` box counts before the sequence header); ISO/IEC 23008-12 (`pitm`, `iprp`, `iloc`); AV1
Bitstream Specification, 5.3 (OBUs), 5.5 (sequence header).
"""

from __future__ import annotations

import struct
from typing import IO

from .boxes import MOST_BOXES, boxes, find


def primaries_and_transfer(stream: IO[bytes]) -> tuple[int, int] | None:
    """Primaries and transfer of an AVIF file's primary image: of its `colr` box, else of its AV1 sequence header.

    Raises:
        struct.error, IndexError: damaged.
    """
    meta = find(stream, 0, stream.seek(0, 2), b"meta")
    if meta is None:
        return None
    start, end = meta[0] + 4, meta[1]  # a full box: version and flags
    properties, number = find(stream, start, end, b"iprp"), 0
    container = properties and find(stream, *properties, b"ipco")
    if not properties or not container:
        return None
    if primary := find(stream, start, end, b"pitm"):
        stream.seek(primary[0])
        version = stream.read(4)[0]
        number = int.from_bytes(stream.read(4 if version else 2), "big")
    associated = _associations(stream, properties, number)
    for index, (kind, at, _) in enumerate(boxes(stream, *container), 1):
        if kind == b"colr" and (associated is None or index in associated):
            stream.seek(at)
            data = stream.read(8)
            if data[:4] == b"nclx":
                return struct.unpack(">HH", data[4:])
    return _of_sequence(_first_bytes(stream, start, end, number))


def _associations(stream: IO[bytes], properties: tuple[int, int], item: int) -> set[int] | None:
    """Numbers of an item's properties, from 1; None if the file does not say."""
    at = find(stream, *properties, b"ipma")
    if at is None:
        return None
    stream.seek(at[0])
    data = stream.read(min(at[1] - at[0], 1 << 20))
    version, wide = data[0], data[3] & 1
    (count,) = struct.unpack_from(">I", data, 4)
    place = 8
    for _ in range(min(count, MOST_BOXES)):
        number, n = struct.unpack_from(">IB" if version else ">HB", data, place)
        place += 5 if version else 3
        if number == item:
            values = struct.unpack_from(f">{n}{'H' if wide else 'B'}", data, place)
            return {value & (0x7FFF if wide else 0x7F) for value in values}
        place += n * (2 if wide else 1)
    return None


def _first_bytes(stream: IO[bytes], start: int, end: int, item: int) -> bytes:
    """Where the file says so, the first 256 bytes of an item's data; else none."""
    at = find(stream, start, end, b"iloc")
    if at is None:
        return b""
    stream.seek(at[0])
    data = stream.read(min(at[1] - at[0], 1 << 20))
    version = data[0]
    offset_size, length_size, base_size = data[4] >> 4, data[4] & 15, data[5] >> 4
    index_size = data[5] & 15 if version else 0
    wide = 4 if version == 2 else 2
    place = 6

    def number(size: int) -> int:
        nonlocal place
        place += size
        if place > len(data):
            raise IndexError("iloc is cut short")
        return int.from_bytes(data[place - size : place], "big")

    for _ in range(min(number(wide), MOST_BOXES)):
        name = number(wide)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        extents, size = number(2), index_size + offset_size + length_size
        if name == item and extents and method == 0:
            number(index_size)
            offset = min(base + number(offset_size), 2**63 - 1)
            length = number(length_size)
            stream.seek(offset)
            return stream.read(min(length or 256, 256))
        place += extents * size
    return b""


def _of_sequence(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of the sequence header among AV1's OBUs; None if it has none."""
    place = 0
    while place < len(data):
        head, place = data[place], place + 1 + (data[place] >> 2 & 1)
        size = len(data) - place
        if head & 2:
            size, shift, more = 0, 0, True
            while more:  # leb128
                size, more = size | (data[place] & 127) << shift, bool(data[place] & 128)
                shift, place = shift + 7, place + 1
        if head >> 3 & 15 == 1:
            return _colour_config(data[place : place + size])
        place += size
    return None


def _colour_config(data: bytes) -> tuple[int, int] | None:
    bits, left = int.from_bytes(data, "big"), 8 * len(data)

    def f(n: int) -> int:
        nonlocal left
        left -= n
        if left < 0:
            raise IndexError("the sequence header is cut short")
        return bits >> left & (1 << n) - 1

    profile, _, reduced = f(3), f(1), f(1)
    if reduced:
        f(5)
    else:
        if f(1):  # timing: of sequences, whose files have a `colr` box or a track
            return None
        some_delay = f(1)
        for _ in range(f(5) + 1):
            f(12)
            if f(5) > 7:
                f(1)
            if some_delay and f(1):
                f(4)
    f(sum((f(4) + 1, f(4) + 1)))
    if not reduced and f(1):
        f(7)
    f(3)
    if not reduced:
        f(4)
        order_hint = f(1)
        f(2 * order_hint)
        screen_content = 2 if f(1) else f(1)
        if screen_content and not f(1):
            f(1)
        f(3 * order_hint)
    f(3)
    if f(1) and profile == 2:
        f(1)
    if profile != 1:
        f(1)
    return (f(8), f(8)) if f(1) else None
