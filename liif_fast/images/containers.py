"""What files hold and Pillow does not tell: layers that nobody merged, larger versions, depth, storage without loss."""

from __future__ import annotations

import os
from typing import IO

from PIL import Image

from .modes import SampleError


def check_contents(image: Image.Image, notes: list[str]) -> None:
    """Notes where an open image is not all that its file has to offer.

    Raises:
        SampleError: a PSD file without the merged picture, in place of which Pillow would give a blank one.
    """
    if image.format == "PSD":  # image resource 1057: version, hasRealMergedData
        info = [data for key, _, data in getattr(image, "resources", ()) if key == 1057]
        if info and info[0][4:5] == b"\0":
            raise SampleError("holds layers without a merged picture; save it with 'Maximize Compatibility' on")
    elif image.format == "HEIF" and (image.info.get("depth_images") or image.info.get("aux")):
        notes.append("depth and gain maps are dropped: only the picture is read")
    elif image.format == "PCD":
        notes.append(f"PhotoCD: its base resolution of {image.width}x{image.height} is read, larger ones are not")


def depth(image: Image.Image, stream: IO[bytes]) -> int:
    """Bits per channel in formats where Pillow does not tell: JPEG 2000, AVIF, HEIF; 8 for the others."""
    if image.format == "HEIF":
        return image.info.get("bit_depth", 8)
    if image.format not in ("JPEG2000", "AVIF"):
        return 8
    position = stream.tell()
    stream.seek(0)
    head = stream.read(1 << 18)
    stream.seek(position)
    if image.format == "AVIF":
        at = head.find(b"av1C")
        flags = head[at + 6] if at >= 0 and at + 6 < len(head) else 0
        return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    at = head.find(b"\xff\x4f\xff\x51")  # start of codestream, then the SIZ segment
    return (head[at + 42] & 0x7F) + 1 if at >= 0 and at + 42 < len(head) else 8


def is_lossless_webp(stream: IO[bytes]) -> bool:
    """Whether the (first) picture is in a VP8L chunk, without loss (WebP container specification)."""
    stream.seek(12)  # behind "RIFF", its size, "WEBP"
    while len(head := stream.read(8)) == 8 and head[:4] not in (b"VP8L", b"VP8 "):
        size = int.from_bytes(head[4:], "little")
        stream.seek(16 if head[:4] == b"ANMF" else size + size % 2, os.SEEK_CUR)  # a frame holds chunks of its own
    return head[:4] == b"VP8L"
