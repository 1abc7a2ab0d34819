"""Image files written byte by byte, so that tests of the reader do not depend on any writer."""

from __future__ import annotations

import struct
import zlib


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: list[bytes], *chunks: bytes) -> bytes:
    """A PNG of unfiltered rows; colour type 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


def tiff(
    size: tuple[int, int],
    bits: list[int],
    photometric: int,
    data: bytes,
    kind: int = 1,
    more: dict[int, list[int]] | None = None,
    order: str = "<",
) -> bytes:
    """An uncompressed TIFF; kind of samples: 1 unsigned, 2 signed, 3 float; more: other tags, or other values."""
    width, height = size
    spp = len(bits)
    tags = {256: [width], 257: [height], 258: bits, 259: [1], 262: [photometric], 273: [8], 277: [spp]}
    tags |= {278: [height], 279: [len(data)], 339: [kind] * spp, **(more or {})}
    at = 8 + len(data)
    long_values, entries = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            offset = at + 2 + 12 * len(tags) + 4 + len(long_values)
            long_values, packed = long_values + packed, struct.pack(order + "I", offset)
        entries += struct.pack(order + "HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    return head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + long_values


def exif(orientation: int, thumbnail: bytes = b"") -> bytes:
    """A big-endian EXIF block: make, orientation, and below them the size of the picture and a private maker note."""
    ifd0, below = 8, 8 + 2 + 3 * 12 + 4
    note = below + 2 + 3 * 12 + 4
    first = note + 8
    block = b"MM\0*" + struct.pack(">I", ifd0) + struct.pack(">H", 3)
    block += struct.pack(">HHI", 0x010F, 2, 4) + b"abc\0"
    block += struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    block += struct.pack(">HHII", 0x8769, 4, 1, below)
    block += struct.pack(">I", first if thumbnail else 0)
    block += struct.pack(">H", 3)
    block += struct.pack(">HHII", 0x927C, 7, 8, note)
    block += struct.pack(">HHIHH", 0xA002, 3, 1, 5, 0) + struct.pack(">HHII", 0xA003, 4, 1, 4) + bytes(4)
    block += struct.pack(">I", note) + b"MARK"  # holds its own offset, as real maker notes do
    if thumbnail:
        data = first + 2 + 2 * 12 + 4
        block += struct.pack(">H", 2) + struct.pack(">HHII", 0x0201, 4, 1, data)
        block += struct.pack(">HHII", 0x0202, 4, 1, len(thumbnail)) + bytes(4) + thumbnail
    return b"Exif\0\0" + block


def profile(space: bytes) -> bytes:
    """The shape of an ICC profile for a colour space (b"RGB ", b"GRAY"); no tags, nothing could be converted by it."""
    head = struct.pack(">I4sI4s4s4s", 132, b"none", 0x02400000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    return head.ljust(128, b"\0") + struct.pack(">I", 0)


def cmyk_profile(lab_of_ink: tuple[int, int, int], lab_of_paper: tuple[int, int, int]) -> bytes:
    """A CMYK printer profile of three colours: paper, some ink, all inks (black). Lab in 8 bits (L * 2.55, a + 128)."""
    identity = bytes(range(256))
    grid = bytes(lab_of_paper) + bytes(lab_of_ink) * 14 + bytes([0, 128, 128])  # 2 points along each of 4 inputs
    unit = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit + identity * 4 + grid + identity * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(8 + 2 + 1 + 67)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)  # D50
    rights = b"text" + bytes(4) + b"x\0"
    tags = [(b"desc", text), (b"cprt", rights), (b"wtpt", white), *((n, lut) for n in (b"A2B0", b"A2B1", b"A2B2"))]
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags:
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(data))
        body += data
    head = struct.pack(">4sI4s4s4s", b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    head = struct.pack(">I", 128 + len(table) + len(body)) + head
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body
