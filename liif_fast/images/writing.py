"""Writing image files: what each format holds, and a file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image, PngImagePlugin

from ..base import atomic
from . import deep
from .exif import HEIGHT, WIDTH, descriptive_tags, patched
from .modes import strips
from .outputs import check_lossless, check_output, check_quality, check_size, exists
from .photo import ImageError, Photo, as_photo, convert_depth, to_image
from .png import MAX_TEXT

_ALL, _OPAQUE = ("L", "LA", "RGB", "RGBA"), ("L", "RGB")
# What each format holds so that it is read back the same; a format not named here (a plug-in's) gets _OPAQUE.
_MODES = {
    **dict.fromkeys(("PNG", "TIFF", "JPEG2000", "IM"), (*_ALL, "I;16")),
    **dict.fromkeys(("WEBP", "AVIF", "HEIF", "TGA", "DDS"), _ALL),
    **{"SGI": ("L", "RGB", "RGBA"), "QOI": ("RGB", "RGBA"), "PPM": (*_OPAQUE, "I;16")},
}
_METADATA = {
    **dict.fromkeys(("JPEG", "MPO", "TIFF"), ("exif", "icc", "xmp", "dpi")),
    "PNG": ("exif", "icc", "xmp", "dpi", "text"),
    **dict.fromkeys(("WEBP", "AVIF", "HEIF"), ("exif", "icc", "xmp")),
    **dict.fromkeys(("BMP", "DIB"), ("dpi",)),
}
_MARKER = 65533  # bytes that one JPEG segment holds
_JPEG_PROFILE = 255 * (_MARKER - 14)  # an ICC profile goes into up to 255 segments, each with a header of 14 bytes


def write(
    path: str | os.PathLike[str],
    image: Photo | Image.Image | np.ndarray,
    *,
    format: str | None = None,
    quality: int | None = None,
    lossless: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Write an image so that the file appears whole or not at all.

    The data go to a temporary file in the same folder, which is then renamed, or removed if anything fails. Without
    `overwrite` an existing file is never touched, even one that appears while this function works.

    Args:
        path: the file; its folder must exist. With `overwrite` a symbolic link is followed.
        image: a `Photo`, or anything that `as_photo` takes. Floating-point samples become 8 bit.
        format: Pillow's name of a format ("PNG") or a suffix ("jpg"); by default the suffix of `path` decides.
        quality: 1 to 100 for JPEG, WebP, AVIF and HEIF, by default 95; others are written without loss and ignore it.
            JPEG, AVIF and HEIF keep full colour resolution (4:4:4) from 90 up, and halve it (4:2:0) below. WebP is
            without loss at 100, and by default where the source was such a WebP (``Photo.lossless``).
        lossless: every value is kept, without which a format is refused: WebP and HEIF are told so, others are it
            anyway or never. It takes the place of ``quality``.

    Returns:
        What the file could not hold, one sentence each.

    Raises:
        ImageError: an unknown or unfit format, too large for it, an existing file, a full disk, no permission, ...
        TypeError, ValueError: as `as_photo`; a quality out of range.
    """
    photo = as_photo(image)
    check_quality(quality)
    height, width = photo.pixels.shape[:2]
    format = check_output(path, size=(height, width), format=format, overwrite=overwrite)
    check_size(path, (height, width), format, photo.pixel_bytes)
    if lossless:
        check_lossless(path, format)
        check_held(path, photo, format)
    notes: list[str] = []
    with whole(path, format, overwrite) as stream:
        save(stream, photo, format, quality, notes, lossless)
    return notes


def save(
    stream: IO[bytes], photo: Photo, format: str, quality: int | None, notes: list[str], lossless: bool = False
) -> None:
    """Write one picture into a stream; what the format cannot hold goes to ``notes``."""
    if mode := deep.mode(photo, format):
        deep.save(stream, photo, format, metadata(photo, format, mode, notes))
        return
    picture = fit(photo, format, notes)
    options = {**metadata(photo, format, picture.mode, notes), **encoding(format, quality, photo.lossless, lossless)}
    if format == "JPEG2000":  # its encoder loops for ever when a write fails
        memory = io.BytesIO()
        picture.save(memory, format, **options)
        stream.write(memory.getbuffer())
    else:
        picture.save(stream, format, **options)


def check_held(path: str | os.PathLike[str], photo: Photo, format: str) -> None:
    """ImageError for a format (Pillow's name) that does not hold the picture's depth or its alpha."""
    why, alpha = "", photo.alpha
    opaque = 1 if photo.pixels.dtype.kind == "f" else np.iinfo(photo.pixels.dtype).max
    mode = "LA" if photo.pixels.shape[2] == 1 else "RGBA"
    if photo.pixels.dtype == np.uint16 and not (deep.mode(photo, format) or _is_deep_grey(photo, format)):
        why = "has 8 bits per channel here, not 16; use png or tif"
    elif alpha is not None and alpha.min() < opaque and not _holds_alpha(mode, format):
        why = "has no alpha; use png, tif or webp"
    if why:
        raise ImageError(f"{path}: not without loss in {format}, which {why}")


def _is_deep_grey(photo: Photo, format: str) -> bool:
    """16 bits that Pillow itself writes."""
    grey = photo.pixels.shape[2] == 1 and photo.alpha is None
    return photo.pixels.dtype == np.uint16 and grey and "I;16" in _MODES.get(format, _OPAQUE)


def _holds_alpha(mode: str, format: str) -> bool:
    return bool({mode, "RGBA"} & set(_MODES.get(format, _OPAQUE)))


def fit(photo: Photo, format: str, notes: list[str]) -> Image.Image:
    """The photo as a Pillow image of a mode that the format holds."""
    modes = _MODES.get(format, _OPAQUE)
    pixels, alpha = photo.pixels, photo.alpha
    deep = _is_deep_grey(photo, format)
    if not deep:
        if pixels.dtype == np.uint16:
            only = "16 only for grey without alpha here" if "I;16" in modes else "no more here"
            notes.append(f"16 bits per channel are written as 8: {format} holds {only}; png and tif keep them")
        pixels, alpha = convert_depth(pixels, np.uint8), convert_depth(alpha, np.uint8)
    mode = ("L" if pixels.shape[2] == 1 else "RGB") + ("A" if alpha is not None else "")
    if alpha is not None and not _holds_alpha(mode, format):
        if int(alpha.min()) < 255:
            notes.append(f"{format} has no alpha: transparent parts are laid on white")
            pixels = _on_white(pixels, alpha)
        alpha = None
    if format == "GIF":
        notes.append("GIF holds 256 colours: colours are reduced")
    picture = to_image(pixels, alpha)
    if deep or picture.mode in modes:
        return picture
    return picture.convert("RGBA" if alpha is not None else "RGB")  # grey in a format of colours only


def _on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint8 pixels [H, W, C] over white, rounded to nearest."""
    out = np.empty_like(pixels)
    for rows in strips(*alpha.shape):
        a = alpha[rows, :, None].astype(np.uint16)  # at most 255 * 255 + 127 < 2^16
        out[rows] = (pixels[rows] * a + 255 * (255 - a) + 127) // 255
    return out


def metadata(photo: Photo, format: str, mode: str, notes: list[str]) -> dict[str, Any]:
    """Pillow's save options for what goes along with the pixels."""
    held = set(_METADATA.get(format, ()))
    exif, icc, xmp, dpi, text = photo.exif, photo.icc, photo.xmp, photo.dpi, dict(photo.text)
    grey = mode in ("L", "LA", "I;16") and format != "WEBP"
    height, width = photo.pixels.shape[:2]
    dropped = []
    if icc and ("icc" not in held or (icc[16:20] == b"GRAY") != grey):
        dropped.append("ICC profile")
        icc = None
    if icc and len(icc) > {"JPEG": _JPEG_PROFILE, "MPO": _JPEG_PROFILE, "PNG": MAX_TEXT}.get(format, len(icc)):
        dropped.append(f"ICC profile of {len(icc)} bytes")
        icc = None
    if exif and ("exif" not in held or (format in ("JPEG", "MPO") and len(exif) > _MARKER)):
        dropped.append("EXIF")
        exif = None
    exif = exif and patched(exif, {WIDTH: width, HEIGHT: height})  # these tags describe the file that is written
    if xmp and ("xmp" not in held or (format in ("JPEG", "MPO") and len(xmp) > _MARKER - 29)):
        dropped.append("XMP")
        xmp = None
    if dpi and "dpi" not in held:
        if {round(value) for value in dpi} - {72, 96}:  # these two only say that nothing is known
            dropped.append("resolution (dpi)")
        dpi = None
    comment = text.pop("Comment", "").encode() if format in ("JPEG", "MPO") else b""
    if photo.colour and format != "PNG":
        notes.append(f"{format} cannot hold the colour description ({photo.colour}): colours will look different")
    if format == "PNG" and xmp and len(xmp) > MAX_TEXT:
        dropped.append(f"XMP of {len(xmp)} bytes")
        xmp = None
    if format == "PNG" and sum(map(len, text.values())) > MAX_TEXT:
        dropped.append("text fields of too many bytes")
        text = {}
    if (text and "text" not in held) or len(comment) > _MARKER:
        dropped.append("text fields")
        comment = comment[:_MARKER]
    if dropped:
        notes.append(f"{format} cannot hold this image's {', '.join(dropped)}: dropped")
    options: dict[str, Any] = {"exif": exif, "icc_profile": icc, "dpi": dpi, "xmp": xmp, "comment": comment}
    if format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        if photo.colour:
            photo.colour.add_to(chunks)
        for key, value in text.items():
            chunks.add_text(key, value)
        if options.pop("xmp") and xmp:
            chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        options["pnginfo"] = chunks
    elif format == "TIFF":
        options["exif"] = tags = descriptive_tags(exif)
        if options.pop("xmp"):
            tags[700] = xmp
    return {key: value for key, value in options.items() if value}


def encoding(format: str, quality: int | None, was_lossless: bool, lossless: bool = False) -> dict[str, Any]:
    """Pillow's save options for the encoder; ``was_lossless``: of the source."""
    if format == "WEBP" and (lossless or quality == 100 or (quality is None and was_lossless)):
        return {"lossless": True, "exact": True}  # exact: colours under transparent pixels too
    if format == "HEIF" and lossless:
        return {"quality": -1, "chroma": 444, "matrix_coefficients": 0}  # RGB as it is
    quality = 95 if quality is None else quality
    if format in ("JPEG", "MPO", "AVIF"):
        return {"quality": quality, "subsampling": "4:4:4" if quality >= 90 else "4:2:0"}
    if format == "HEIF":
        return {"quality": quality, "chroma": 444 if quality >= 90 else 420}
    if format == "WEBP":
        return {"quality": quality}
    # TIFF stays uncompressed: compressing, Pillow cannot write EXIF's nested directories and keeps the file in memory
    return {}


class _Stream(io.BufferedRandom):
    """A file that hides its descriptor: Pillow's encoders take a short write to a descriptor for a whole one."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


@contextlib.contextmanager
def whole(path: str | os.PathLike[str], format: str, overwrite: bool) -> Iterator[IO[bytes]]:
    """The stream to write into; the file appears when the block ends without error, and errors are ImageErrors."""
    try:
        with (
            atomic.replacing(path, overwrite=overwrite) as temporary,
            _Stream(io.FileIO(temporary, "w+")) as stream,
        ):
            yield stream
    except ImageError:
        raise
    except FileExistsError:
        raise exists(path) from None
    except OSError as error:
        raise ImageError(_why_not_written(path, error)) from error
    except MemoryError:
        raise
    except Exception as error:  # encoders raise nearly anything
        reason = str(error).split("\n")[0]
        raise ImageError(f"{path}: Pillow cannot write this image as {format} ({reason}); use PNG") from error


def _why_not_written(path: Any, error: OSError) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: the disk is full ({error.strerror}); free some space or write to another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: no permission to write in {folder} ({error.strerror}); write to another folder"
    return f"{path}: cannot be written ({error.strerror or error}); write to another folder or in another format"
