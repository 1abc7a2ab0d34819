"""Boxes of ISO base media files (ISO/IEC 14496-12, 4.2), of which AVIF and JPEG 2000 files consist."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

MOST_BOXES = 4096


def find(stream: IO[bytes], start: int, end: int, wanted: bytes) -> tuple[int, int] | None:
    """Begin and end of the contents of the first box of this kind."""
    return next(((at, stop) for kind, at, stop in boxes(stream, start, end) if kind == wanted), None)


def boxes(stream: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the contents of each box; stops at the first that does not fit in."""
    for _ in range(MOST_BOXES):
        stream.seek(start)
        head = stream.read(16)
        if start + 8 > end or len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        inner = start + 8
        if size == 1:
            (size,), inner = struct.unpack(">Q", head[8:16]), start + 16
        stop = end if size == 0 else start + size
        if stop < inner or stop > end:
            return
        yield kind, inner, stop
        start = stop
