"""TIFF files with pages below pages, byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

RNG = np.random.default_rng(3)
SMALL, LARGE = RNG.integers(0, 256, (3, 4), dtype=np.uint8), RNG.integers(0, 256, (6, 8), dtype=np.uint8)
Page = tuple[np.ndarray, dict[int, int]]


def trees(order: str, *chains: tuple[Page, list[Page]], big: bool = False) -> bytes:
    """A TIFF of uncompressed grey pages, each with pages below it (SubIFDs); further tags by number."""
    count, entry, pointer, start = ("Q", "HHQQ", "Q", 16) if big else ("H", "HHII", "I", 8)
    data, offsets = bytearray(), {}

    def put(page: Page, key: tuple[int, int], below: list[int]) -> None:
        pixels, extra = page
        at_pixels = len(data) + start
        data.extend(pixels.tobytes())
        tags = {256: pixels.shape[1], 257: pixels.shape[0], 258: 8, 259: 1, 262: 1, 273: at_pixels, 277: 1}
        tags |= {278: pixels.shape[0], 279: pixels.size, **extra}
        fields = {tag: (1, value) for tag, value in tags.items()}
        if below:
            at_list = len(data) + start
            data.extend(struct.pack(f"{order}{len(below)}{pointer}", *below))
            fields[330] = (len(below), below[0] if len(below) == 1 else at_list)
        offsets[key] = len(data) + start
        data.extend(struct.pack(order + count, len(fields)))
        for tag, (number, value) in sorted(fields.items()):
            data.extend(struct.pack(order + entry, tag, 16 if big and tag == 330 else 4, number, value))
        offsets[key, "next"] = len(data)
        data.extend(bytes(struct.calcsize(pointer)))

    for i, (page, below) in enumerate(chains):
        for j, lower in enumerate(below):
            put(lower, (i, j), [])
        put(page, (i, -1), [offsets[i, j] for j in range(len(below))])
    for i in range(len(chains) - 1):
        struct.pack_into(order + pointer, data, offsets[(i, -1), "next"], offsets[i + 1, -1])
    magic = {"<": b"II", ">": b"MM"}[order]
    version = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
    return magic + version + struct.pack(order + pointer, offsets[0, -1]) + bytes(data)


def wrote(folder: Path, data: bytes) -> Path:
    (folder / "x.tif").write_bytes(data)
    return folder / "x.tif"
