"""What some file formats hold and Pillow does not look at: ICC profiles, layers that nobody merged, larger versions."""

from __future__ import annotations

import struct
from typing import IO, Any

from PIL import Image

from .image_modes import SampleError

_HEAD, _MOST_PROFILE = 1 << 18, 1 << 24  # bytes


def check_contents(image: Image.Image, notes: list[str]) -> None:
    """Notes where an open image is not all that its file has to offer.

    Raises:
        SampleError: a PSD file without the merged picture, in place of which Pillow would give a blank one.
    """
    if image.format == "PSD":  # image resource 1057: version, hasRealMergedData
        info = [data for key, _, data in getattr(image, "resources", ()) if key == 1057]
        if info and info[0][4:5] == b"\0":
            raise SampleError("holds layers without a merged picture; save it with 'Maximize Compatibility' on")
    elif image.format == "PCD":
        notes.append(f"PhotoCD: its base resolution of {image.width}x{image.height} is read, larger ones are not")


def embedded_profile(image: Image.Image, stream: IO[bytes], notes: list[str]) -> Any:
    """The ICC profile of an open image, also of a BMP or JPEG 2000; a note on colours described otherwise."""
    icc = image.info.get("icc_profile")
    if icc or image.format not in ("BMP", "JPEG2000", "GIF", "QOI"):
        return icc
    position = stream.tell()
    stream.seek(0)
    head = stream.read(_HEAD)
    try:
        if image.format == "BMP":
            return _bmp_profile(stream, head, notes)
    finally:
        stream.seek(position)
    if image.format == "JPEG2000":
        at = head.find(b"colr\x02")  # ISO 15444-1, I.5.3.3: method 2, precedence, approximation, profile
        if at >= 4:
            (length,) = struct.unpack_from(">I", head, at - 4)
            return head[at + 7 : at - 4 + length] or None
    elif (image.format == "GIF" and b"ICCRGBG1012" in head) or (image.format == "QOI" and head[13:14] == b"\1"):
        what = "an ICC profile" if image.format == "GIF" else "linear samples"
        notes.append(f"the file says that it has {what}, which is dropped: colours may look different")
    return None


def _bmp_profile(stream: IO[bytes], head: bytes, notes: list[str]) -> bytes | None:
    """BITMAPV4HEADER and BITMAPV5HEADER: an embedded profile, or a note on what is said otherwise."""
    size = struct.unpack_from("<I", head, 14)[0] if len(head) >= 138 else 0
    kind = head[70:74][::-1] if size >= 108 else b"sRGB"
    if kind == b"MBED" and size >= 124:
        offset, length = struct.unpack_from("<II", head, 126)
        stream.seek(14 + offset)
        return stream.read(min(length, _MOST_PROFILE)) or None
    if kind == b"LINK" or (kind == bytes(4) and any(head[74:110])):
        notes.append("the file has colours of its own (calibrated or a linked profile), which are dropped")
    return None
