"""SIGINT, SIGTERM, SIGHUP and the end of the time given as a wish: the step in hand is finished and saved first."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

from ..base import interruption


class Signals:
    """``with Signals() as signals``: ``signals.number`` is that of the first signal that came, or None.

    True once one has come or the deadline has passed. A second signal of the same kind acts as it would have without
    this.

    Args:
        deadline: of ``time.monotonic()``; None: no limit.
    """

    numbers = interruption.NUMBERS

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.number: int | None = None
        self._before: dict[int, interruption.Handler] = {}

    def __bool__(self) -> bool:
        return self.number is not None or (self.deadline is not None and time.monotonic() >= self.deadline)

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            handled = [n for n in self.numbers if signal.getsignal(n) is not signal.SIG_IGN]  # ignored: by nohup, say
            self._before = {n: signal.signal(n, self._came) for n in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _came(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        signal.signal(number, self._before[number])
