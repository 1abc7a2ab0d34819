"""Standard input, pipes and standard output in the place of files: what works on files gets a temporary one."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..images.files import ImageError

STDIN, STDOUT = Path("/dev/stdin"), Path("/dev/stdout")
_NAMES = {
    0: ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"),
    1: ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"),
}
WAIT = 3.0  # seconds for somebody to write to a pipe
_CHUNK = 1 << 20  # bytes


def input_path(name: str | os.PathLike[str]) -> Path:
    """``STDIN`` for "-" and all that means it; else the path."""
    return STDIN if os.fspath(name) in _NAMES[0] else Path(name)


def output_path(name: str | os.PathLike[str]) -> Path:
    """``STDOUT`` for "-" and all that means it; else the path."""
    return STDOUT if os.fspath(name) in _NAMES[1] else Path(name)


@contextlib.contextmanager
def source_file(source: Path, most: int) -> Iterator[Path]:
    """A file with what comes out of ``STDIN`` or a named pipe, within the block; any other source is its own.

    Raises:
        ImageError: nothing comes out of it, or more than ``most`` bytes.
    """
    if source != STDIN and not _is_pipe(source):
        yield source
        return
    with _temporary(source) as file:
        size = 0
        with open(file, "wb") as copy:
            for data in _standard_input() if source == STDIN else _pipe(source):
                if (size := size + len(data)) > most:
                    raise ImageError(f"{source}: more than {most >> 20} MB came; if that is right, raise --max-pixels")
                copy.write(data)
        if not size:
            raise ImageError(f"{source}: nothing came; write an image file to it, e.g. cat photo.png | liif-fast -")
        yield file


@contextlib.contextmanager
def target_file(target: Path) -> Iterator[Path]:
    """A file that goes to standard output when the block ends, if that is the target; any other target is its own.

    A reader that goes away has seen enough: no error.
    """
    if target != STDOUT:
        yield target
        return
    with _temporary(target) as file:
        yield file
        with contextlib.suppress(BrokenPipeError), open(file, "rb") as made:
            while data := memoryview(made.read(_CHUNK)):
                while data:  # not by sys.stdout: nothing may stay in its buffer for a reader that has gone
                    try:
                        data = data[os.write(sys.stdout.fileno(), data) :]
                    except BlockingIOError:  # it is full, and set not to wait
                        select.select([], [sys.stdout], [], 1.0)


@contextlib.contextmanager
def renamed(file: Path, name: Path) -> Iterator[None]:
    """Errors within name what the file stands for."""
    try:
        yield
    except ImageError as error:
        if file == name:
            raise
        raise ImageError(str(error).replace(str(file), str(name))) from error


@contextlib.contextmanager
def _temporary(name: Path) -> Iterator[Path]:
    """A name for a file, which goes with the block."""
    with tempfile.TemporaryDirectory(prefix="liif_fast-") as folder:
        file = Path(folder, f"picture{name.suffix}")
        try:
            with renamed(file, name):
                yield file
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ImageError(f"{name}: cannot be passed on ({reason}); use a file in its place") from error


def _is_pipe(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _standard_input() -> Iterator[bytes]:
    if sys.stdin is None:
        return
    while (data := sys.stdin.buffer.read(_CHUNK)) != b"":
        if data is None:  # nothing yet: who gave it has set it not to wait
            select.select([sys.stdin], [], [], 1.0)
        else:
            yield data


def _pipe(path: Path) -> Iterator[bytes]:
    """Opened without waiting for its other end, which may never come."""
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        end, came = time.monotonic() + WAIT, False
        while True:
            try:
                data = os.read(pipe, _CHUNK)
            except BlockingIOError:  # there is somebody who may write
                select.select([pipe], [], [], 1.0)
                continue
            if data:
                came = True
                yield data
            elif came or time.monotonic() > end:
                return
            else:
                time.sleep(0.05)
    finally:
        os.close(pipe)
