"""PNG files chunk by chunk; texts and profiles of more bytes than are read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 2**25  # bytes of one text field or profile in a PNG that `images.read` takes, four times that for all
_TEXT = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}


def has_too_much_text(stream: IO[bytes]) -> bool:
    """Whether a PNG's texts and profiles are beyond `MAX_TEXT` each, or four times that in all.

    Pillow counts only the texts that it could decode, not profiles, so that 1 MB could keep it busy for long.
    """
    stream.seek(0)
    total = 0
    for kind, length in chunks(stream) if stream.read(8) == SIGNATURE else ():
        if kind in _TEXT:
            total += _text_size(kind, stream.read(length))
            if total > 4 * MAX_TEXT:
                return True
    return False


def _text_size(kind: bytes, data: bytes) -> int:
    """Bytes of a text or profile when decompressed; more than `4 * MAX_TEXT` for one beyond `MAX_TEXT`."""
    if kind == b"tEXt":
        return len(data)
    name = data.find(b"\0") + 1
    packed = data[name + 1 :]  # after the method
    if kind == b"iTXt":
        if data[name : name + 1] in (b"", b"\0"):  # not compressed
            return len(data)
        packed = data[name + 2 :].split(b"\0", 2)[-1]  # after method, language and translated name
    unpack, size = zlib.decompressobj(), 0
    while packed and size <= MAX_TEXT:
        try:
            size += len(unpack.decompress(packed, 1 << 20))
        except zlib.error:
            break
        packed = unpack.unconsumed_tail
    return size if size <= MAX_TEXT else 4 * MAX_TEXT + 1


def without_text(stream: IO[bytes]) -> IO[bytes]:
    """A copy of a PNG in memory without its text and profile."""
    stream.seek(8)
    out = io.BytesIO()
    out.write(SIGNATURE)
    for kind, length in chunks(stream):
        if kind not in _TEXT:
            out.write(struct.pack(">I4s", length, kind) + stream.read(length + 4))
    out.seek(0)
    return out


def chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Name and length of each chunk from the stream's position on, which stands at its data meanwhile."""
    while len(header := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        after = stream.tell() + length + 4
        yield kind, length
        stream.seek(after)


def put(stream: IO[bytes], kind: bytes, data: bytes) -> None:
    """Write a chunk."""
    stream.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
