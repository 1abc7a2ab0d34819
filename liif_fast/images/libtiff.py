"""What libtiff, inside of Pillow, prints on standard error: errors after which it goes on, with pixels that are wrong.

Pillow silences its warnings, not its errors, and raises none where the decoder goes on (CCITT fax, JPEG in TIFF).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Iterator
from typing import Any

from PIL import Image

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)  # module, format, va_list
_LONGEST = 300  # bytes of a line
_MOST = 1000  # lines; a damaged file may have one for each row
_lock = threading.Lock()
_listening = 0  # threads inside of `lines`
_before: Any = None  # the handler to put back


class _Own(threading.local):
    """Of a thread: the list of the innermost block of `lines` that it is in. libtiff calls back in the thread that
    decodes."""

    said: list[str] | None = None


_own = _Own()


@functools.cache
def _functions() -> tuple[Any, Any] | None:
    """libtiff's TIFFSetErrorHandler and a handler; None where Pillow hides its libtiff (Windows)."""
    try:
        # a symbol is looked for in the libraries that the module needs, too
        core = Image.core.__file__  # type: ignore[attr-defined]  # not in its stubs
        setter, printer = ctypes.CDLL(core).TIFFSetErrorHandler, ctypes.CDLL(None).vsnprintf
    except (AttributeError, OSError, TypeError):
        return None
    setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    printer.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]

    def heard(module: bytes | None, form: bytes, arguments: int) -> None:
        text = ctypes.create_string_buffer(_LONGEST)
        printer(text, _LONGEST, form, arguments)
        line = (module or b"").replace(b"tempfile.tif", b"") + b": " + text.value  # Pillow's name for all files
        shown = line.decode("latin-1").removeprefix(": ")
        if _own.said is None:  # a thread that does not listen
            print(f"{shown}.", file=sys.stderr)
        elif len(_own.said) < _MOST:
            _own.said.append(shown)

    return setter, _Handler(heard)  # kept for ever: another thread's decoder may be calling it


@contextlib.contextmanager
def lines() -> Iterator[list[str]]:
    """A list that gets what libtiff says in this thread while the block runs, instead of standard error."""
    global _listening, _before
    said: list[str] = []
    functions = _functions()
    if functions is None:
        yield said
        return
    setter, handler = functions
    outer, _own.said = _own.said, said
    with _lock:
        if not _listening:
            _before = setter(ctypes.cast(handler, ctypes.c_void_p))
        _listening += 1
    try:
        yield said
    finally:
        _own.said = outer
        with _lock:
            _listening -= 1
            if not _listening:
                setter(_before)


def as_notes(said: list[str]) -> list[str]:
    """One note of such lines, none without any."""
    if not said:
        return []
    more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
    return [f"libtiff: {said[0]}{more}: the picture may be damaged"]
