"""A model that enlarges frames by their nearest pixels: what ``LIIF.stream`` gives, at once; and what files hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch

from liif_fast.video.enlarge import VideoResult, enlarge_video
from liif_fast.video.options import VideoOptions


class Stream:
    """As what ``LIIF.stream`` returns."""

    def __init__(self, frames: Iterable[np.ndarray], size: tuple[int, int], before: Callable[[int], None]) -> None:
        self._frames, self._size, self._before = iter(frames), size, before
        self.frames = self.frames_reused = self.tiles = self.tiles_reused = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        last = None
        for frame in self._frames:
            self._before(self.frames)
            self.frames += 1
            self.frames_reused += last is not None and np.array_equal(last, frame)
            last = frame
            rows, columns = (np.arange(n) * m // n for n, m in zip(self._size, frame.shape, strict=False))
            yield frame[rows][:, columns]

    def close(self, patience: float | None = None) -> None:
        self._frames = iter(())


class Nearest(torch.nn.Linear):
    """``asked``: the arguments of each stream; ``before(n)`` is called before the n-th frame of one."""

    def __init__(self, before: Callable[[int], None] = lambda n: None) -> None:
        super().__init__(1, 1)
        torch.nn.init.ones_(self.weight)
        torch.nn.init.ones_(self.bias)
        self.before, self.asked = before, []

    def stream(self, frames: Iterable[np.ndarray], *, size: tuple[int, int], **how: Any) -> Stream:
        self.asked.append(how)
        return Stream(frames, size, self.before)


def enlarge(source: Path | str, output: Path | str, model: Nearest | None = None, **how: Any) -> VideoResult:
    """``enlarge_video`` with this model; what it says is kept in the notes."""
    said: list[str] = []
    say = how.pop("say", said.append)
    progress = how.pop("progress", None)
    options = VideoOptions(**({} if "size" in how else {"scale": 2.0}) | how)
    loaded = Nearest() if model is None else model
    return enlarge_video(lambda: (loaded, torch.float32), source, output, options, progress=progress, say=say)


class Held(NamedTuple):
    """What a file holds of one kind."""

    times: list[float]  # seconds, sorted
    durations: list[float]
    packets: list[bytes]


def held(path: Path, kind: str = "video") -> Held:
    with av.open(str(path)) as container:
        found = [p for p in container.demux(getattr(container.streams, kind)[0]) if p.size]
        found = [(float(p.pts * p.time_base), float((p.duration or 0) * p.time_base), bytes(p)) for p in found]
    times = sorted(found, key=lambda each: each[0])
    return Held([t for t, _, _ in times], [d for _, d, _ in times], [data for _, _, data in found])


def pictures(path: Path) -> list[np.ndarray]:
    """The frames as they are decoded, rgb24."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
