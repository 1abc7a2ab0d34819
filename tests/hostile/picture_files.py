"""Picture files of some sixty kinds: formats, modes, depths and ways to store them that a reader meets."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from image_bytes import chunk, exif, png, profile, tiff
from PIL import Image, PngImagePlugin

Maker = Callable[[random.Random], tuple[bytes, str]]  # the file's bytes and a suffix


def samples(rng: random.Random, channels: int, dtype: Any = np.uint8, size: tuple[int, int] | None = None) -> Any:
    """[H, W, channels] (channels 0: [H, W]): smooth, noisy, constant or of two values."""
    h, w = size or rng.choice(((1, 1), (1, 9), (13, 1), (2, 2), (7, 5), (16, 16), (17, 22), (33, 31), (40, 64)))
    most = np.iinfo(dtype).max
    generator = np.random.default_rng(rng.randrange(2**32))
    shape = (h, w, max(1, channels))
    kind = rng.randrange(4)
    if kind == 0:
        out = generator.integers(0, most, shape, endpoint=True)
    elif kind == 1:
        out = np.broadcast_to(np.linspace(0, most, w).round().astype(int)[None, :, None], shape)
    elif kind == 2:
        out = np.full(shape, rng.choice((0, most, most // 3)))
    else:
        out = generator.integers(0, 2, shape) * most
    out = np.ascontiguousarray(out.astype(dtype))
    return out if channels else out[:, :, 0]


def picture(rng: random.Random, mode: str) -> Image.Image:
    channels = {"1": 0, "L": 0, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3, "LAB": 3, "HSV": 3}
    if mode == "I;16":
        return Image.fromarray(samples(rng, 0, np.uint16))
    if mode == "I":
        return Image.fromarray(samples(rng, 0, np.uint16).astype(np.int32))
    if mode == "F":
        return Image.fromarray(samples(rng, 0, np.uint8).astype(np.float32) / np.float32(255))
    if mode == "P":
        return Image.fromarray(samples(rng, 3)).quantize(rng.choice((2, 5, 16, 200)))
    values = samples(rng, channels[mode])
    if mode == "1":
        return Image.fromarray(values).convert("1")
    if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return Image.frombytes(mode, (values.shape[1], values.shape[0]), values.tobytes())
    return Image.fromarray(values)


def saved(mode: str, format: str, suffix: str, **options: Any) -> Maker:
    """A file written by Pillow; an option that is a function is called with the generator."""

    def make(rng: random.Random) -> tuple[bytes, str]:
        stream = io.BytesIO()
        chosen = {k: v(rng) if callable(v) else v for k, v in options.items()}
        picture(rng, mode).save(stream, format, **chosen)
        return stream.getvalue(), suffix

    return make


def several(mode: str, format: str, suffix: str, **options: Any) -> Maker:
    """Several frames or pages in one file."""

    def make(rng: random.Random) -> tuple[bytes, str]:
        first, *more = (Image.fromarray(samples(rng, 3, size=(12, 10))).convert(mode) for _ in range(3))
        stream = io.BytesIO()
        first.save(stream, format, save_all=True, append_images=more, **options)
        return stream.getvalue(), suffix

    return make


def raw_png(depth: int, colour: int, *, key: bool = False, interlaced: bool = False, palette: bool = False) -> Maker:
    """A PNG written byte by byte, so that every depth occurs."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]

    def make(rng: random.Random) -> tuple[bytes, str]:
        dtype = np.uint16 if depth == 16 else np.uint8
        values = samples(rng, channels, dtype) >> (0 if depth >= 8 else 8 - depth)
        h, w = values.shape[:2]
        chunks = []
        if palette:
            chunks.append(chunk(b"PLTE", rng.randbytes(3 * 2**depth)))
        if key:
            seen = [int(v) for v in values[0, 0]]
            chunks.append(chunk(b"tRNS", rng.randbytes(2**depth) if palette else struct.pack(f">{channels}H", *seen)))
        if not interlaced:
            return png(w, h, depth, colour, _rows(values, depth), *chunks), ".png"
        body = b""
        for top, left, down, right in (
            (0, 0, 8, 8),
            (0, 4, 8, 8),
            (4, 0, 8, 4),
            (0, 2, 4, 4),
            (2, 0, 4, 2),
            (0, 1, 2, 2),
            (1, 0, 2, 1),
        ):
            part = values[top::down, left::right]
            if part.size:
                body += b"".join(b"\0" + row for row in _rows(part, depth))
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 1))
        data = chunk(b"IDAT", zlib.compress(body))
        return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + chunk(b"IEND", b""), ".png"

    return make


def _rows(values: Any, depth: int) -> list[bytes]:
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in values]
    if depth == 8:
        return [row.tobytes() for row in values]
    bits = np.unpackbits(values.astype(np.uint8), axis=2).reshape(*values.shape[:2], -1, 8)[..., -depth:]
    return [np.packbits(row.reshape(-1)).tobytes() for row in bits]


def chunked_png(*kinds: str) -> Maker:
    """A PNG with further chunks: text of all sorts, colour descriptions, EXIF."""

    def make(rng: random.Random) -> tuple[bytes, str]:
        info = PngImagePlugin.PngInfo()
        made = {
            "text": lambda: info.add_text("Comment", "x" * rng.choice((1, 2000))),
            "itxt": lambda: info.add_itxt("Title", "größe", "de", "Titel"),
            "ztxt": lambda: info.add_text("Long", "y" * 5000, zip=True),
            "bomb": lambda: info.add_text("Bomb", "z" * rng.choice((900_000, 1_100_000, 20_000_000)), zip=True),
            "gamma": lambda: info.add(b"gAMA", struct.pack(">I", rng.choice((0, 1, 45455, 100000, 2**32 - 1)))),
            "chrm": lambda: info.add(b"cHRM", struct.pack(">8I", *(rng.randrange(100001) for _ in range(8)))),
            "cicp": lambda: info.add(b"cICP", bytes([rng.choice((1, 9)), rng.choice((13, 16, 18)), 0, 1])),
            "exif": lambda: info.add(b"eXIf", exif(rng.randrange(10))[6:]),
            "phys": lambda: info.add(b"pHYs", struct.pack(">IIB", rng.randrange(2**32), 0, rng.randrange(3))),
            "xmp": lambda: info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>'),
        }
        for kind in kinds:
            made[kind]()
        stream = io.BytesIO()
        options = {"icc_profile": profile(rng.choice((b"RGB ", b"GRAY", b"CMYK")))} if rng.random() < 0.3 else {}
        picture(rng, rng.choice(("RGB", "L", "RGBA"))).save(stream, "PNG", pnginfo=info, **options)
        return stream.getvalue(), ".png"

    return make


def raw_tiff(bits: list[int], photometric: int, kind: int = 1) -> Maker:
    def make(rng: random.Random) -> tuple[bytes, str]:
        h, w = rng.choice(((1, 1), (3, 5), (16, 24)))
        if kind == 3:
            data = (samples(rng, 0, size=(h, w)).astype("<f4") / np.float32(255)).tobytes()
        else:
            data = rng.randbytes(h * -(-w * sum(bits) // 8))
        return tiff((w, h), bits, photometric, data, kind), ".tif"

    return make


def tagged_tiff(*, thumbnail: bool = False, planar: bool = False, tiled: bool = False, looped: bool = False) -> Maker:
    """A TIFF of RGB written byte by byte: first image a thumbnail, planes or tiles apart, directories in a circle."""

    def make(rng: random.Random) -> tuple[bytes, str]:
        values = samples(rng, 3, size=(16, 16))
        blocks = [values[:, :, i].tobytes() for i in range(3)] if planar else [values.tobytes()]
        counts = [len(b) for b in blocks]
        offsets = [200 + sum(counts[:i]) for i in range(len(counts))]
        at_bits, at_offsets, at_counts = 1100, 1110, 1130
        tags = [(254, 4, 1, 1 if thumbnail else 0), (256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 3, at_bits)]
        tags += [(259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3), (284, 3, 1, 2 if planar else 1)]
        where, sizes = (324, 325) if tiled else (273, 279)
        n = len(blocks)
        tags += [(where, 4, n, at_offsets if n > 1 else offsets[0]), (sizes, 4, n, at_counts if n > 1 else counts[0])]
        tags += [(322, 3, 1, 16), (323, 3, 1, 16)] if tiled else [(278, 3, 1, 16)]
        body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
        data = b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 8 if looped else 0)
        data = data.ljust(200, b"\0") + b"".join(blocks)
        data = data.ljust(at_bits, b"\0") + struct.pack("<3H", 8, 8, 8)
        data = data.ljust(at_offsets, b"\0") + struct.pack(f"<{n}I", *offsets)
        return data.ljust(at_counts, b"\0") + struct.pack(f"<{n}I", *counts), ".tif"

    return make


def netpbm(kind: int) -> Maker:
    def make(rng: random.Random) -> tuple[bytes, str]:
        values = samples(rng, 3 if kind in (3, 6) else 0)
        most = 255
        if kind in (1, 4):
            values, most = values >> 7, 1
        h, w = values.shape[:2]
        head = f"P{kind}\n# made for a test\n{w} {h}\n" + ("" if most == 1 else f"{most}\n")
        if kind <= 3:
            return head.encode() + " ".join(map(str, values.reshape(-1))).encode(), ".pnm"
        body = np.packbits(values, axis=1).tobytes() if kind == 4 else values.tobytes()
        return head.encode() + body, ".pnm"

    return make


def bmp_rle(rng: random.Random) -> tuple[bytes, str]:
    w, h = 9, 4
    body = b"".join(bytes([4, rng.randrange(256), 5, rng.randrange(256), 0, 0]) for _ in range(h)) + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, w, h, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + rng.randbytes(1024) + body, ".bmp"


def looping_exif(rng: random.Random) -> tuple[bytes, str]:
    """A directory of many entries that all name the directory itself."""
    entries = rng.choice((3, 200, 5000))
    block = b"MM\0*" + struct.pack(">IH", 8, entries) + struct.pack(">HHII", 0x8769, 4, 1, 8) * entries + bytes(4)
    stream = io.BytesIO()
    if rng.random() < 0.5:
        picture(rng, "RGB").save(stream, "JPEG", exif=b"Exif\0\0" + block)
        return stream.getvalue(), ".jpg"
    info = PngImagePlugin.PngInfo()
    info.add(b"eXIf", block)
    picture(rng, "RGB").save(stream, "PNG", pnginfo=info)
    return stream.getvalue(), ".png"


def huge_header(rng: random.Random) -> tuple[bytes, str]:
    """A few bytes that say they are a large picture."""
    w, h = rng.choice(((2**31 - 1, 1), (30000, 30000), (65535, 17), (1, 2**31 - 1), (2**16, 2**16), (2000, 2000)))
    kind = rng.choice(("png", "gif", "bmp", "ppm"))
    if kind == "png":
        return png(w, h, rng.choice((1, 8, 16)), 0, [b""]), ".png"
    if kind == "gif":
        w, h = min(w, 65535), min(h, 65535)
        head = b"GIF89a" + struct.pack("<HHBBB", w, h, 0x80, 0, 0) + rng.randbytes(6)
        return head + b"," + struct.pack("<HHHHB", 0, 0, w, h, 0) + b"\x02\x02\x4c\x01\0;", ".gif"
    if kind == "ppm":
        return f"P5 {w} {h} 255\n".encode() + bytes(50), ".pgm"
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, w, min(h, 2**31 - 1), 1, 24, 0, 0, 0, 0, 0, 0
    ) + bytes(46), ".bmp"


def quality(rng: random.Random) -> int:
    return rng.choice((1, 50, 95, 100))


def orientation(rng: random.Random) -> bytes:
    return exif(rng.randrange(10), rng.choice((b"", b"\xff\xd8thumb\xff\xd9")))
