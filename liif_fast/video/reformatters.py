"""What of FFmpeg has threads of its own, is set up once for each kind of work, and outlives a fork."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any

_MOST = 16  # kinds of work that are kept
_IDLE: dict[Any, list[Any]] = {}  # those that no thread uses, by what they are set up for


@contextlib.contextmanager
def borrowed(key: Any, make: Callable[[], Any]) -> Iterator[Any]:
    """One for this kind of work, for which it is made once, and for one thread at a time."""
    if key not in _IDLE and len(_IDLE) >= _MOST:
        _IDLE.pop(next(iter(_IDLE)), None)
    idle = _IDLE.setdefault(key, [])
    try:
        found = idle.pop()
    except IndexError:
        found = make()
    yield found
    idle.append(found)


def _keep() -> None:
    """In a forked process they are never freed: that would wait for threads which are not there. So they are not kept
    by threads either, whose own things Python frees in such a process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_IDLE))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep)
