"""What the command says: results on standard output, all else on standard error. Nothing of it stops the work.

What cannot be encoded there is written with backslashes, control characters too, so that a file's name is always a part
of one line. Results that could not be written (a full disk, a reader that has gone, a closed descriptor) make the exit
code 1, see ``finish``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

from .. import distributed
from ..base import interruption

FIRST_LINE, LAST_PERIOD = 10.0, 60.0  # seconds: between lines about progress, at first and later
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_lost: str | None = None  # why results could not be written


def result(text: str) -> None:
    """A line on standard output, at once."""
    _result([text])


@contextlib.contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Inside, warnings for users are notes of one line, without the place in the code."""
    with warnings.catch_warnings():
        default = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, UserWarning):
                say(f"note: {message}")
            else:
                default(message, category, *place, **more)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def log_as_lines() -> Iterator[None]:
    """Inside, what the package logs from INFO on is said: on standard output what training tells of a run, which is its
    result; the rest on standard error."""
    logger, handler = logging.getLogger("liif_fast"), _Lines()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            say(f"note: {text}")
        elif record.name.startswith("liif_fast.training."):
            result(text)
        else:
            plain(f"liif_fast: {text}")


def results(text: str) -> None:
    """Lines on standard output: a table, say."""
    _result(text.split("\n"))


def _result(lines: list[str]) -> None:
    global _lost
    why = _write(sys.stdout, lines)
    _lost = _lost or why


def say(text: str) -> None:
    """A line on standard error, with the command's name."""
    who = f"liif-fast, process {distributed.rank()}" if distributed.rank() else "liif-fast"
    plain(f"{who}: {text}")


def plain(text: str) -> None:
    """A line on standard error."""
    _write(sys.stderr, [text])


def plain_lines(text: str) -> None:
    """Lines on standard error."""
    _write(sys.stderr, text.split("\n"))


def trace(error: BaseException) -> None:
    """The traceback of an error, on standard error."""
    plain_lines("".join(traceback.format_exception(error)).rstrip())


def finish(code: int) -> int:
    """The exit code of a command that would end with ``code``: 1 in place of 0 if results could not be written."""
    global _lost
    why, _lost = _lost or _flushed(sys.stdout), None
    if why is not None:
        say(f"error: standard output: {why}: not all results could be written there")
    for stream in (sys.stdout, sys.stderr):
        if _flushed(stream) is not None:
            _give_up(stream)
    return code or (1 if why is not None else 0)


def watched() -> bool:
    """Whether somebody sees standard error, so that a progress bar is of use; only the first process draws one."""
    try:
        return sys.stderr.isatty() and distributed.rank() == 0
    except (AttributeError, ValueError, OSError):  # closed
        return False


class Progress:
    """How far the work is: a bar where somebody watches, else a line now and then if it takes long.

    Use as a context manager.

    Args:
        unit: what is counted; of frames it is said how many a second.
        alone: it moves also while nobody calls ``to``, by a thread.
    """

    def __init__(self, unit: str, alone: bool = False) -> None:
        self.unit, self.done, self.total, self.what = unit, 0.0, 0.0, ""
        self.bar = _bar(unit) if watched() else None
        self._begun = time.monotonic()
        self._period, self._next = FIRST_LINE, self._begun + FIRST_LINE
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._lines = self.bar is None and distributed.rank() == 0
        moves = alone and distributed.rank() == 0
        self._thread = threading.Thread(target=self._beat, daemon=True) if moves else None

    def __enter__(self) -> Progress:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        if self.bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self.bar.close()

    def to(self, done: float, total: float, what: str = "") -> None:
        """``done`` of ``total`` units are done, and ``what`` is in hand. A signal that got lost is raised here."""
        interruption.check()
        self.done, self.total, self.what = done, total, what
        if self.bar is not None:
            with contextlib.suppress(OSError, ValueError):  # the terminal has gone
                self.bar.total = total
                self.bar.set_description_str(_CONTROL.sub("?", os.path.basename(what))[:40], refresh=False)
                self.bar.update(done - self.bar.n)
        self._line()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Lines that are written meanwhile stand above the bar."""
        with contextlib.ExitStack() as stack:
            if self.bar is not None:
                with contextlib.suppress(OSError, ValueError):
                    stack.enter_context(self.bar.external_write_mode(file=sys.stderr))
            yield

    def _beat(self) -> None:
        while not self._end.wait(min(1.0, FIRST_LINE)):
            if self.bar is not None:
                with contextlib.suppress(OSError, ValueError):
                    self.bar.refresh()
            self._line()

    def _line(self) -> None:
        with self._lock:
            now = time.monotonic()
            if not self._lines or now < self._next or not self.total or self.done >= self.total:
                return
            self._period = min(LAST_PERIOD, 2 * self._period)
            self._next = now + self._period
        spent, share = now - self._begun, self.done / self.total
        speed = f", {self.done / spent:.2g} a second" if self.unit == "frame" and spent > 0 else ""
        left = f", about {duration(spent * (1 - share) / share)} left" if share > 0 else ""
        what = f"{self.what}: " if self.what else ""
        units = f"{self.total:g} {self.unit}{'s'[: self.total != 1]}"
        say(f"{what}{100 * share:.1f} % of {units} in {duration(spent)}{speed}{left}")


def _bar(unit: str) -> Any:
    import tqdm

    speed = ", {rate_fmt}" if unit == "frame" else ""
    return tqdm.tqdm(total=0.0, unit=f" {unit}", bar_format="{l_bar}{bar}| {elapsed}<{remaining}" + speed)


def duration(seconds: float) -> str:
    """``"45 s"``, ``"3 min 20 s"``, ``"2 h 5 min"``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds, -1), 60)
    if minutes < 60:
        return f"{minutes:.0f} min" + (f" {rest:.0f} s" if rest else "")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def _write(stream: Any, lines: list[str]) -> str | None:
    """Why the lines could not be written; None if they were."""
    if stream is None:
        return "it is closed"
    text = "".join(_CONTROL.sub(lambda c: ascii(c[0])[1:-1], line) + "\n" for line in lines)
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except (OSError, ValueError) as error:
        return _why(error)
    return None


def _flushed(stream: Any) -> str | None:
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError) as error:
        return _why(error)
    return None


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _give_up(stream: Any) -> None:
    """What is still in a stream's buffer goes nowhere: Python would try again on its way out, and complain."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
