"""The work's parts: each so many frames, encoded on their own into a file, so that an ended run can go on.

They lie in a folder beside the output, ``OUT.parts``: ``000000.mkv`` with packets whose times are the frames' numbers,
in milliseconds; ``000000.json`` with the frames' own times; ``made_of.json``, which says what they were made of.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..base import atomic
from . import decoding
from .encoding import Encoding
from .kinds import Frame, VideoError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module, where there is one

SEGMENT = 120  # frames
_MADE_OF, _LOCK = "made_of.json", "lock"
_EARLY = 1 << 10  # packets; more than any codec's frames wait for their turn
_MILLISECOND = Fraction(1, 1000)


class Segments:
    """The folder of an output's parts; as a context manager it is this process's alone."""

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f"{output.name}.parts")
        self._lock: Any = None

    def __enter__(self) -> Segments:
        return self

    def __exit__(self, *_: object) -> None:
        """What has no whole part goes."""
        if self._lock is not None:
            if not self.done():
                self.remove()
            else:
                self._unlock()

    def begin(self, made_of: dict[str, Any], resume: bool) -> bool:
        """Make the folder, or go on with the one that is there; whether there was one to go on with.

        Raises:
            VideoError: another process is at it; there is something else of this name; or, with ``resume``, what is
                there was made of something else.
        """
        there = os.path.lexists(self.folder)
        if there and not self._ours():
            raise VideoError(f"{self.folder}: is wanted for the parts of the work; rename it, or choose another output")
        self.folder.mkdir(exist_ok=True)
        self._take()
        atomic.remove_stale(self.folder)
        if resume and (old := self._made_of()) is not None:
            if old != made_of:
                names = ", ".join(name for name in made_of if old.get(name) != made_of[name]) or "version"
                raise VideoError(
                    f"--resume: {self.folder} was made with another {names}; give what it was made with, or leave "
                    "--resume out to begin anew"
                )
            return True
        for name in os.listdir(self.folder):
            if name != _LOCK:
                os.unlink(self.folder / name)
        with atomic.replacing(self.folder / _MADE_OF) as scratch:
            Path(scratch).write_text(json.dumps(made_of), encoding="utf-8")
        return False

    def done(self) -> int:
        """How many parts are whole, from the first on."""
        return next(k for k in itertools.count() if not os.path.exists(self._path(k)))

    def times(self) -> list[tuple[int, int]]:
        """(pts, duration) of each frame in the whole parts."""
        return [(pts, duration) for k in range(self.done()) for pts, duration in self._read(k)["times"]]

    def reordered(self) -> int:
        """By how many packets at most a frame is encoded before its turn."""
        return max((self._read(k)["reordered"] for k in range(self.done())), default=0)

    def write(self, k: int, frames: Iterator[Frame], encoding: Encoding) -> None:
        """Encode the k-th part, of ``encoding``'s pictures; there whole or, if anything is raised, not at all."""
        times: list[tuple[int, int]] = []
        reordered = packets = 0
        path = self._path(k)
        with atomic.replacing(path, sync=True) as scratch:
            with writing(scratch, "matroska") as container:
                stream = encoding.add_to(container)
                for frame in itertools.chain(frames, [None]):
                    picture = None
                    if frame is not None:
                        picture = frame.pixels
                        picture.pts, picture.time_base = len(times), 1 / encoding.rate
                        times.append((frame.pts, frame.duration))
                    for packet in stream.encode(picture):
                        reordered = max(reordered, packets - packet.pts)
                        packet.dts = packets - _EARLY  # x265's own go back at times
                        packets += 1
                        packet.time_base = _MILLISECOND  # Matroska has no finer one
                        container.mux(packet)
            with atomic.replacing(path.with_suffix(".json")) as beside:
                Path(beside).write_text(json.dumps({"times": times, "reordered": reordered}), encoding="utf-8")

    @contextlib.contextmanager
    def opened(self, k: int) -> Iterator[Any]:
        """PyAV's container of the k-th part."""
        with decoding.opened(self._path(k)) as container:
            yield container

    def packets(self) -> Iterator[tuple[int, Any]]:
        """(number of its frame, packet) of all parts in turn, as they are decoded."""
        first = 0
        for k in range(self.done()):
            with self.opened(k) as container:
                count = 0
                for packet in container.demux(container.streams.video[0]):
                    if packet.size:
                        count += 1
                        yield first + round(packet.pts * packet.time_base / _MILLISECOND), packet
            first += count

    def remove(self) -> None:
        """The work is over, or nothing of it is kept."""
        self._unlock()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, k: int) -> Path:
        return self.folder / f"{k:06}.mkv"

    def _read(self, k: int) -> Any:
        return json.loads(self._path(k).with_suffix(".json").read_text(encoding="utf-8"))

    def _made_of(self) -> Any:
        try:
            return json.loads((self.folder / _MADE_OF).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # the process was killed before it was there
            return None

    def _ours(self) -> bool:
        if self.folder.is_symlink() or not self.folder.is_dir():
            return False
        names = os.listdir(self.folder)
        return not names or _LOCK in names

    def _take(self) -> None:
        self._lock = open(self.folder / _LOCK, "a", encoding="utf-8")  # noqa: SIM115  # as long as the work
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._unlock()
            raise VideoError(f"{self.folder}: another process is writing this output; wait for it") from None
        except OSError:  # this file system has no locks
            pass

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], container: str) -> Iterator[Any]:
    """PyAV's container to write into a file by. By a file of Python's, as FFmpeg's own may lose the error of a full
    disk that comes with the last bytes."""
    import av

    with open(path, "wb", buffering=io.DEFAULT_BUFFER_SIZE * 16) as file:
        out = av.open(file, "w", format=container, metadata_errors=decoding.UNDECODED)
        try:
            yield out
        except BaseException:
            with contextlib.suppress(Exception):  # the trailer of what goes anyway
                out.close()
            raise
        out.close()
