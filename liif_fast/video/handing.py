"""Frames from the thread that computes them to the one that writes them."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

from .kinds import Frame

_AHEAD = 4  # frames that wait for the writer at most


def in_thread(frames: Iterator[Frame], write: Callable[[Iterator[Frame]], None]) -> None:
    """Has a thread write what comes here; the errors of both end both, and are raised here."""
    handed: queue.Queue[Frame | None] = queue.Queue(_AHEAD)
    failed: list[BaseException] = []
    stop = threading.Event()

    def taken() -> Iterator[Frame]:
        while True:
            frame = handed.get()
            if stop.is_set():
                raise _Stopped
            if frame is None:
                return
            yield frame

    def work() -> None:
        try:
            write(taken())
        except BaseException as error:
            failed.append(error)

    def hand(frame: Frame | None) -> None:
        while thread.is_alive():
            with contextlib.suppress(queue.Full):
                handed.put(frame, timeout=0.1)
                return

    thread = threading.Thread(target=work, name="liif-fast encoder", daemon=True)
    thread.start()
    try:
        for frame in frames:
            hand(frame)
            if failed:
                break
        hand(None)
        while thread.is_alive():  # not join alone, which no signal would end
            thread.join(0.1)
    except BaseException:
        stop.set()
        with contextlib.suppress(queue.Full):
            handed.put_nowait(None)
        thread.join()
        raise
    if failed:
        raise failed[0]


class _Stopped(Exception):
    """The other thread has ended."""
