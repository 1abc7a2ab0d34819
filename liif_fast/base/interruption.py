"""Ctrl-C, SIGTERM and SIGHUP of the command ``liif-fast``, from its first moment to its last.

While modules are being imported nothing has been begun, so a signal ends the process at once: libraries and modules in
C may swallow the exceptions that Python's own handlers raise, and importing torch takes seconds. From then on a signal
raises KeyboardInterrupt or SystemExit, so that everybody tidies up, and is remembered for ``check``. A signal that was
ignored when the process began (nohup, a shell's background jobs) stays ignored.

This module is imported before all others and imports nothing that takes time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

_SCRIPTS = {"liif-fast", "liif-fast.exe", "liif-fast-script.py", "liif-fast-script.pyw"}
_MODULES = {"liif_fast", "liif_fast.cli", "liif_fast.train"}
NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_importing = False  # only ever in a process that is the command
_command = False
_came: int | None = None


def guard() -> bool:
    """Begin, if this process is the command and not somebody's program that uses the package; whether it is."""
    global _importing, _command
    if not _command and _is_command():
        _importing = _command = True
        _hold_standard_descriptors()
        _install()
    return _command


def imported() -> None:
    """All modules are there, the work begins."""
    global _importing
    _importing = False


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Signals raise within this block; afterwards they do what they did before it."""
    global _came
    _came = None
    before = _install()
    try:
        yield
    finally:
        if not _command:  # of the command only the end is left, see over()
            for number, handler in before.items():
                signal.signal(number, handler)


def over() -> None:
    """The work is done or given up, and Python's own end is all that is left: a Ctrl-C changes nothing any more."""
    if _command:
        for number in NUMBERS:
            if signal.getsignal(number) is _handle:
                # what else is set than these two Python sets back, on its way out, to being killed
                signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


def check() -> None:
    """Raise again for a signal whose exception was swallowed, as destructors and callbacks from C do."""
    if _came is not None:
        _raise(_came)


def _handle(number: int, frame: object) -> None:
    global _came
    if _importing:
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):
                os.write(2, b"liif-fast: interrupted\n")
        os._exit(128 + number)
    _came = number
    _raise(number)


def _raise(number: int) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _install() -> dict[int, Handler]:
    """Handle the signals; returns the handlers until now. Outside the main thread Python allows none."""
    before: dict[int, Handler] = {}
    for number in NUMBERS:
        handler = signal.getsignal(number)
        if handler is not signal.SIG_IGN:
            with contextlib.suppress(ValueError):
                signal.signal(number, _handle)
                before[number] = handler
    return before


def _is_command() -> bool:
    argv, given = getattr(sys, "argv", [""]), getattr(sys, "orig_argv", [])
    if argv[:1] == ["-m"] and len(given) > len(argv):  # python -m: the module stands before its arguments
        module = given[-len(argv)]
        return (module.partition("m")[2] if module.startswith("-") else module) in _MODULES
    return bool(argv) and os.path.basename(argv[0]) in _SCRIPTS


def _hold_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed (``2>&-``) the next file would get that number, and what libraries say, too."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest that is free
