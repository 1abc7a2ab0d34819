"""Opening a file and decoding one picture of it: Pillow's switches, its warnings, and its errors in one line each."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from . import libtiff, recognised
from .bounded_file import BoundedFile
from .modes import SampleError
from .photo import ImageError
from .png import MAX_TEXT

_lock = threading.Lock()
_MOST_WARNINGS = 4
RAISE = "if you trust the file, raise the limit with max_pixels (--max-pixels)"


@contextlib.contextmanager
def opened(name: str) -> Iterator[BoundedFile]:
    """The file to read from; ImageError for what is no file, OSError for what cannot be opened."""
    kind = os.stat(name)
    if stat.S_ISDIR(kind.st_mode):
        raise ImageError(f"{name}: is a folder; name a file in it")
    if not stat.S_ISREG(kind.st_mode):  # opening a pipe waits for its other end, some devices never end
        raise ImageError(f"{name}: is not a regular file but a pipe or device; save the image in a file first")
    with BoundedFile(name) as stream:
        if kind.st_size == 0:
            raise ImageError(f"{name}: the file is empty; get a complete copy")
        yield stream


@contextlib.contextmanager
def errors(name: str, max_pixels: int) -> Iterator[None]:
    """Whatever goes wrong while a file is read becomes an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except SampleError as error:
        raise ImageError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file; check the name") from None
    except PermissionError:
        raise ImageError(f"{name}: no permission to read it; check the file's permissions") from None
    except UnidentifiedImageError:
        what = "not an image of a known format, or its header is damaged"
        raise ImageError(f"{name}: {what}; {recognised.converting(name)}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: more than {max_pixels} pixels; {RAISE}") from None
    except MemoryError:
        raise ImageError(f"{name}: not enough memory to decode it; close other programs or reduce the image") from None
    except Exception as error:  # decoders meet damaged data with nearly any exception
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not a decoder's
            raise ImageError(f"{name}: cannot be read ({error.strerror}); check the name and the disk") from error
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{name}: cannot be decoded ({reason}); get a complete copy or convert it to PNG") from error


@contextlib.contextmanager
def decoding(max_pixels: int) -> Iterator[Any]:
    """Pillow's module-wide switches set for one decode and put back; yields a function that lists its warnings."""
    with _lock, libtiff.lines() as lines, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        limit, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        text, all_text = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
        # Raised only, so that other threads lose no image they could open; our own limit is checked in _decode.
        Image.MAX_IMAGE_PIXELS = None if limit is None else max(limit, max_pixels)
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        # Of PNG's compressed texts and profiles: 1 MB by default, less than printers' profiles and editors' XMP have.
        PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = max(text, MAX_TEXT), max(all_text, 4 * MAX_TEXT)
        try:
            yield lambda: _said(caught) + libtiff.as_notes(lines)
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, truncated
            PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = text, all_text


def _said(caught: list[warnings.WarningMessage]) -> list[str]:
    """Pillow's warnings as notes, each once and not thousands of them."""
    ignored = (Image.DecompressionBombWarning, DeprecationWarning)
    said = {" ".join(str(w.message).split())[:300]: None for w in caught if not issubclass(w.category, ignored)}
    notes = [f"Pillow: {text}" for text in list(said)[:_MOST_WARNINGS]]
    return notes + [f"Pillow: {len(said) - len(notes)} more warnings"] * (len(said) > len(notes))
