"""Frames in, larger frames out, while others are read and used: ``LIIF.stream``."""

from __future__ import annotations

import atexit
import collections
import contextlib
import functools
import queue
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from ..base.shown import shown
from ..images.kinds import Picture
from ..sizes import Target, output_size
from . import callers, heap
from .moving import Moving
from .results import handed

if TYPE_CHECKING:
    from .liif import LIIF

_AHEAD = 8  # frames that are read ahead, by which the size of tiles is chosen
_READY = 2  # results that wait
_POLL = 0.1  # seconds until a thread that waits sees that it is to stop
_WATCH = 1.0  # seconds until it is seen that there are no threads
_PATIENCE = 2.0  # seconds that a stream which is closed waits for what makes the frames


class Stream(Iterator[Picture]):
    """The frames of ``LIIF.stream``, enlarged, in their order.

    Frames are read in one thread, computed in another (on CUDA as a recorded graph, with copies beside it) and returned
    in the caller's, so what comes before and after them costs no time of its own. Some frames are read ahead: what
    makes them cannot wait for results. An error of the frames, or of computing one, is raised where its result would be
    returned. The threads have the caller's autocast, gradient and inference mode, and CUDA stream, as they are when the
    stream is made. The model's weights are not to be changed while it runs: what is reused is of the old ones.

    Attributes:
        frames, frames_reused: how many frames have been begun, and how many of them were as the one before.
        tiles, tiles_reused: likewise of their tiles; those of frames that were as the one before are among them.
    """

    def __init__(
        self,
        model: LIIF,
        frames: Iterable[Picture],
        target: Target,
        tile: int | str = "auto",
        dtype: torch.dtype | None = None,
        reuse: bool = True,
        refresh: int | None = None,
    ) -> None:
        shape = list(frames.shape) if isinstance(frames, Tensor | np.ndarray) else None
        if (shape is not None and len(shape) < 4) or not isinstance(frames, Iterable):
            got = type(frames).__name__ if shape is None else f"one image {shape}"
            raise TypeError(f"frames: an iterable of images is wanted, got {got}; for one image use upscale")
        if refresh is not None and (isinstance(refresh, bool) or not isinstance(refresh, int) or refresh < 1):
            raise ValueError(f"refresh: a number of frames from 1, or None, is wanted, got {shown(refresh)}")
        output_size((1, 1), target.scale, target.size)
        target.result_size((1, 1))
        self._moving = Moving(model, target, tile, dtype, reuse)
        self._work = _Work(self._moving, iter(frames), _AHEAD if reuse else 1, refresh, callers.state(model.device))
        _works.add(self._work)
        self._stop: weakref.finalize[..., Any] = weakref.finalize(
            self, self._work.stop
        )  # threads hold the work, not the stream
        self._work.start()

    @property
    def frames(self) -> int:
        return self._moving.frames

    @property
    def frames_reused(self) -> int:
        return self._moving.frames_reused

    @property
    def tiles(self) -> int:
        return self._moving.tiles

    @property
    def tiles_reused(self) -> int:
        return self._moving.tiles_reused

    def __next__(self) -> Picture:
        if not self._stop.alive:
            raise StopIteration
        found = self._work.result()
        if isinstance(found, _End):
            self.close()
            if found.error is not None:
                raise found.error
            raise StopIteration
        try:
            return cast(Picture, found())
        except BaseException:
            self.close()
            raise

    def close(self, patience: float | None = _PATIENCE) -> None:
        """Stop reading and computing, and drop what is computed; at the end of the frames that is done already.

        Args:
            patience: seconds to wait for the frame that is being read; one that comes later is not looked at. None:
                until it has come.
        """
        self._stop.detach()
        self._work.stop(patience)

    def __enter__(self) -> Stream[Picture]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _End:
    """In place of a frame: there are no more, or there is an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Stopped(Exception):  # no error
    """Nobody wants the results any more."""


class _Work:
    """The threads of a stream and what goes between them."""

    def __init__(
        self, moving: Moving, frames: Iterator[Any], ahead: int, refresh: int | None, state: callers.State
    ) -> None:
        self.moving, self.ahead, self.refresh, self.state = moving, ahead, refresh, state
        self.coverage = moving.another()
        self.inbox: queue.Queue[Any] = queue.Queue(ahead)
        self.outbox: queue.Queue[Any] = queue.Queue(_READY)
        self.stopping = threading.Event()
        parts: Any = (self._read, frames), (self._compute,)  # the frames are the thread's: they end with it
        self.threads = [threading.Thread(target=self._run, args=part, daemon=True) for part in parts]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self, patience: float | None = _PATIENCE) -> None:
        self.stopping.set()
        reading, computing = self.threads
        for thread, seconds in ((computing, None), (reading, patience)):
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(seconds)
        for box in (self.inbox, self.outbox):
            with contextlib.suppress(queue.Empty):
                while True:
                    box.get_nowait()
        for moving in (self.moving, self.coverage):
            moving.forget()
        with contextlib.suppress(queue.Full):
            self.outbox.put_nowait(_End())  # for another thread that waits

    def result(self) -> Any:
        while True:
            with contextlib.suppress(queue.Empty):
                return self.outbox.get(timeout=_WATCH)
            if not any(thread.is_alive() for thread in self.threads) and self.outbox.empty():
                raise RuntimeError("stream: a forked process has none of its threads; make a stream in each process")

    def _run(self, part: Callable[..., None], *given: Any) -> None:
        with contextlib.suppress(_Stopped), self.state():
            part(*given)

    def _read(self, frames: Iterator[Any]) -> None:
        from ..images import pictures  # brings Pillow

        try:
            for frame in frames:
                found = pictures.opened(frame)
                # a copy: its memory may be the next frame's
                item = (pictures.copied(frame), None) if found is None else (found[0].detach().clone(), found[1])
                self._put(self.inbox, item)
        except _Stopped:
            raise
        except BaseException as error:
            self._put(self.inbox, _End(error))
        else:
            self._put(self.inbox, _End())

    def _compute(self) -> None:
        moving, on_cuda = self.moving, self.moving.device.type == "cuda"
        ahead: collections.deque[Any] = collections.deque()
        done = 0
        try:
            with contextlib.ExitStack() as held:
                if on_cuda:
                    held.enter_context(torch.cuda.device(moving.device))
                elif moving.device.type == "cpu":
                    held.enter_context(heap.kept())
                down = torch.cuda.Stream(moving.device) if on_cuda else None
                while True:
                    new = done == 0 if self.refresh is None else done % self.refresh == 0
                    wanted = self.ahead if new else 1
                    if self.refresh is not None:
                        wanted = min(wanted, self.refresh)  # what is chosen depends on nothing else
                    while len(ahead) < wanted and not (ahead and isinstance(ahead[-1], _End)):
                        ahead.append(self._get())
                    item = ahead[0]
                    if isinstance(item, _End):
                        self._put(self.outbox, item)
                        return
                    if new:
                        self._begin(list(ahead)[:wanted])
                    frame, back = ahead.popleft()
                    if back is None:
                        self._put(self.outbox, self._with_alpha(frame))
                    else:
                        again = functools.partial(moving.again, frame)
                        self._put(self.outbox, handed(moving.next(frame), frame.device, again, down, back))
                    done += 1
        except _Stopped:
            raise
        except BaseException as error:
            self._put(self.outbox, _End(error))

    def _begin(self, ahead: list[Any]) -> None:
        self.coverage.begin([])
        self.moving.begin([x[0] for x in ahead if not isinstance(x, _End) and x[1] is not None])

    def _with_alpha(self, frame: Any) -> Callable[[], Any]:
        """Of a frame with alpha, whose coverage is enlarged as an image of its own."""
        from ..images import pictures

        turns = iter((self.moving, self.coverage))

        def enlarge(pixels: Tensor, alpha: Tensor | None = None, share: float = 1.0) -> Tensor:
            moving = next(turns)
            again = functools.partial(moving.again, pixels, alpha)
            return handed(moving.next(pixels.clone(), alpha), pixels.device, again, None)()

        done = pictures.apply(frame, enlarge, self.moving.target.window)
        return lambda: done

    def _put(self, to: queue.Queue[Any], item: Any) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(queue.Full):
                return to.put(item, timeout=_POLL)
        raise _Stopped

    def _get(self) -> Any:
        while not self.stopping.is_set():
            with contextlib.suppress(queue.Empty):
                return self.inbox.get(timeout=_POLL)
        raise _Stopped


_works: weakref.WeakSet[_Work] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Threads that compute while Python ends would crash it."""
    for work in list(_works):
        work.stop()
