"""What a file says its numbers mean as colours where it says so without an ICC profile, and which Pillow leaves out.

PNG specification, third edition (W3C 2025): 4.3 (which chunk counts), cHRM, gAMA and cICP in 11.3.2; ITU-T H.273 (code
points of primaries, transfer and matrix); TIFF 6.0, section 20 (WhitePoint, PrimaryChromaticities). AVIF: `avif`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO, Any

from PIL import Image, PngImagePlugin

from .avif import primaries_and_transfer

# White, red, green and blue point of sRGB (x, y), times 100,000, as PNG's cHRM has them.
_SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
# 0.002 in x and y: rounding, and the nearby white points 0.3127/0.329 and 0.3128/0.3292; no eye sees it.
_CHROMATICITY_TOLERANCE = 200
_PRIMARIES = {1: "BT.709", 9: "BT.2020", 11: "DCI P3", 12: "Display P3", 5: "BT.470 BG", 6: "BT.601", 22: "EBU 3213"}
_TRANSFERS = {1: "BT.709", 4: "gamma 2.2", 5: "gamma 2.8", 6: "BT.601", 8: "linear", 13: "sRGB", 14: "BT.2020"}
_TRANSFERS |= {15: "BT.2020", 16: "PQ (HDR)", 17: "SMPTE 428", 18: "HLG (HDR)"}
_UNSPECIFIED = 2


@dataclass(frozen=True)
class Colour:
    """How samples are meant, where that is not sRGB and no ICC profile says it.

    Attributes:
        cicp: colour primaries and transfer characteristics, code points of ITU-T H.273, and whether the samples have
            full range (0 to 255); or None.
        chromaticities: white, red, green, blue as (x, y), times 100,000; or None.
        gamma: exponent of the encoding, times 100,000 (45455 is 1 / 2.2); or None.
    """

    cicp: tuple[int, int, bool] | None = None
    chromaticities: tuple[int, ...] | None = None
    gamma: int | None = None

    def __str__(self) -> str:
        if self.cicp:
            primaries, transfer, full = self.cicp
            p, t = _PRIMARIES.get(primaries, f"code {primaries}"), _TRANSFERS.get(transfer, f"code {transfer}")
            return f"{p} primaries, {t} transfer" + ("" if full else ", narrow range")
        parts = ["other primaries than sRGB's (cHRM)"] if self.chromaticities else []
        return ", ".join(parts + ([f"gamma {self.gamma / 100000:g}"] if self.gamma else []))

    def add_to(self, chunks: PngImagePlugin.PngInfo) -> None:
        """Add the PNG chunks that say the same; Pillow writes them before PLTE and IDAT, where they must stand."""
        if self.chromaticities:
            chunks.add(b"cHRM", struct.pack(">8I", *self.chromaticities))
        if self.gamma:
            chunks.add(b"gAMA", struct.pack(">I", self.gamma))
        if self.cicp:
            primaries, transfer, full = self.cicp
            chunks.add(b"cICP", bytes((primaries, transfer, 0, full)))  # PNG holds RGB: the matrix is the identity


def read_colour(image: Image.Image, stream: IO[bytes], notes: list[str]) -> Colour | None:
    """The colour description of an opened file, None for sRGB, for none, and where an ICC profile counts instead.

    Args:
        image: opened by Pillow, its tags not changed yet.
        stream: the file; its position is kept.
        notes: gets what cannot be handed on.
    """
    position = stream.tell()
    try:
        if image.format == "PNG":
            return _of_png(stream, notes)
        if image.info.get("icc_profile"):
            return None
        if image.format in ("AVIF", "HEIF"):
            cicp = primaries_and_transfer(stream) if image.format == "AVIF" else _of_heif(image)
            # Pillow gives full-range RGB whatever range and matrix the file has; unspecified means sRGB (MIAF).
            codes = [fallback if c == _UNSPECIFIED else c for c, fallback in zip(cicp or (1, 13), (1, 13), strict=True)]
            return None if codes == [1, 13] else Colour((codes[0], codes[1], True))
        if image.format == "TIFF" and image.mode == "RGB":
            return _of_tiff(image)
    except (struct.error, IndexError, ValueError, TypeError, KeyError, ArithmeticError):
        notes.append("the file's colour description is damaged: dropped")
    finally:
        stream.seek(position)
    return None


def _differs(points: tuple[int, ...]) -> bool:
    return any(abs(a - b) > _CHROMATICITY_TOLERANCE for a, b in zip(points, _SRGB, strict=True))


def _of_png(stream: IO[bytes], notes: list[str]) -> Colour | None:
    """cICP if there, else nothing beside iCCP or sRGB, else cHRM and gAMA."""
    stream.seek(8)
    found: dict[bytes, bytes] = {}
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"PLTE", b"IEND"):  # all of these stand before
            break
        if kind in (b"cICP", b"cHRM", b"gAMA") and kind not in found:
            found[kind] = stream.read(min(length, 32))
            length -= len(found[kind])
        elif kind in (b"iCCP", b"sRGB", b"mDCV", b"cLLI"):
            found[kind] = b""
        stream.seek(length + 4, 1)
    if b"mDCV" in found or b"cLLI" in found:
        notes.append("HDR mastering data (mDCV, cLLI) dropped: Pillow cannot write them")
    if b"cICP" in found:
        primaries, transfer, matrix, full = struct.unpack(">4B", found[b"cICP"])
        if matrix:
            notes.append(f"cICP asks for matrix {matrix}, which PNG does not have: taken as RGB")
        return None if (primaries, transfer, full) == (1, 13, 1) else Colour((primaries, transfer, bool(full)))
    if b"iCCP" in found or b"sRGB" in found:
        return None
    points = struct.unpack(">8I", found[b"cHRM"]) if b"cHRM" in found else None
    gamma = struct.unpack(">I", found[b"gAMA"])[0] if b"gAMA" in found else None
    points = points if points and _differs(points) else None
    other = gamma and abs(gamma / 100000 * 2.2 - 1) > 0.01
    if not points and not other:
        return None
    return Colour(None, points, gamma or None)


def _of_heif(image: Image.Image) -> tuple[int, int] | None:
    found = image.info.get("nclx_profile")
    return (found["color_primaries"], found["transfer_characteristics"]) if found else None


def _of_tiff(image: Image.Image) -> Colour | None:
    tags: Any = getattr(image, "tag_v2", {})
    white, primaries = tags.get(318), tags.get(319)
    if not primaries:
        return None
    points = [round(float(value) * 100000) for value in (*(white or (0.3127, 0.329)), *primaries)]
    if len(points) != 8 or not all(0 <= value < 2**31 for value in points):
        raise ValueError("eight numbers between 0 and 1 are wanted")
    return Colour(None, tuple(points)) if _differs(tuple(points)) else None
