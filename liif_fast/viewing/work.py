"""The queue between the page's requests and the one thread that draws: the most urgent first, of those the newest.

Nothing here knows what the work is. A thread without work sleeps on a condition: nothing is ever polled.
"""

from __future__ import annotations

import enum
import functools
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

WAITING = 128  # jobs of one urgency; behind that the oldest is dropped

Pause = Callable[[], None]


class Urgency(enum.IntEnum):
    """Which job is next. ``NOW``: without it the page cannot go on."""

    NOW = 0
    TILE = 1
    PSNR = 2
    SAVE = 3


class Cancelled(Exception):
    """Nobody wants the result any more: raised by ``pause`` within a job, which should end."""


class Dropped(Exception):
    """The job was never begun: too many newer ones came, or the work is over."""


class _Job:
    def __init__(self, do: Callable[[Pause], Any], urgency: Urgency, key: Hashable | None) -> None:
        self.do, self.urgency, self.key = do, urgency, key
        self.running = False
        self.waiters: list[Future[Any]] = []


class Work:
    """A thread that does one job after the other.

    Args:
        most: jobs of one urgency that may wait.
    """

    def __init__(self, most: int = WAITING) -> None:
        self._most = most
        self._changed = threading.Condition()  # its lock guards all that follows
        self._waiting: tuple[dict[_Job, None], ...] = tuple({} for _ in Urgency)  # the oldest first
        self._by_key: dict[Hashable, _Job] = {}  # of those that wait or run
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="liif_fast.viewing", daemon=True)
        self._thread.start()

    def put(
        self, do: Callable[[Pause], Any], urgency: Urgency = Urgency.NOW, key: Hashable | None = None
    ) -> Future[Any]:
        """A job for the thread: ``do(pause)``; from any thread.

        The future's ``cancel`` says that its owner does not want the result any more, also while the job runs; it is
        cancelled when none of its owners does.

        Args:
            do: should call ``pause`` between pieces of long work: that does what is more urgent, and raises
                ``Cancelled`` when the job is.
            key: jobs of equal keys are the same: one that waits or runs is shared.
        """
        future: Future[Any] = Future()
        dropped = None
        with self._changed:
            if self._closed:
                future.set_exception(Dropped("the command ends"))
                return future
            job = self._by_key.get(key) if key is not None else None
            if job is None:
                job = _Job(do, urgency, key)
                if key is not None:
                    self._by_key[key] = job
            waiting = self._waiting[job.urgency]
            if not job.running:
                waiting.pop(job, None)
                if len(waiting) >= self._most:
                    dropped = next(iter(waiting))
                    self._forget(dropped)
                waiting[job] = None  # as the newest
            job.waiters.append(future)
            self._changed.notify()
        future.add_done_callback(functools.partial(self._left, job))
        if dropped is not None:
            _tell(dropped.waiters, None, Dropped("dropped: newer requests came; ask again"))
        return future

    def close(self, timeout: float | None = None) -> bool:
        """End: what waits is dropped, what runs is cancelled. Whether the thread has ended within ``timeout`` seconds;
        where it is in a long call of a library it cannot."""
        with self._changed:
            self._closed = True
            dropped = [job for waiting in self._waiting for job in waiting]
            for job in dropped:
                self._forget(job)
            self._changed.notify()
        for job in dropped:
            _tell(job.waiters, None, Dropped("the command ends"))
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while (job := self._next(len(Urgency))) is None:
                    if self._closed:
                        return
                    self._changed.wait()
            self._do(job)
            del job  # with all that it holds, while there is nothing to do

    def _next(self, below: int) -> _Job | None:
        """Take the newest of the most urgent jobs that wait, of an urgency before ``below``."""
        for waiting in self._waiting[:below]:
            if waiting:
                job, _ = waiting.popitem()
                job.running = True
                return job
        return None

    def _do(self, job: _Job) -> None:
        result: Any = None
        failure: Exception | None = None
        try:
            result = job.do(functools.partial(self._pause, job))
        except BaseException as error:
            failure = error if isinstance(error, Exception) else None
            if failure is None or isinstance(error, StopIteration):  # would end whoever waits, too
                failure = RuntimeError(f"{type(error).__name__}: {error}")
        with self._changed:
            self._forget(job)
            waiters, job.waiters = job.waiters, []
        _tell(waiters, result, failure)

    def _pause(self, job: _Job) -> None:
        """Do what is more urgent than a running job, but no other long work; Cancelled if nobody wants the job."""
        while True:
            with self._changed:
                if self._closed or not job.waiters:
                    self._forget(job)  # who asks from now on begins it anew
                    raise Cancelled
                urgent = self._next(min(job.urgency, Urgency.PSNR))
            if urgent is None:
                return
            self._do(urgent)

    def _left(self, job: _Job, future: Future[Any]) -> None:
        if not future.cancelled():
            return
        with self._changed:
            if future in job.waiters:
                job.waiters.remove(future)
            if not job.waiters and not job.running:
                self._forget(job)

    def _forget(self, job: _Job) -> None:
        self._waiting[job.urgency].pop(job, None)
        if job.key is not None and self._by_key.get(job.key) is job:
            del self._by_key[job.key]


def _tell(waiters: list[Future[Any]], result: Any, failure: Exception | None) -> None:
    """Never with the lock in hand: this calls what others have hung on the futures."""
    for future in waiters:
        if future.set_running_or_notify_cancel():
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
