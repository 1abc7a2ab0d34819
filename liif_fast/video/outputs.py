"""Where a video goes: what can be wrong with it, before the work and when it is written."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ..base import atomic
from . import encoding
from .kinds import VideoError
from .segments import Segments

STREAM = "-"  # standard input or output


def check(source: str | Path, output: str | Path, overwrite: bool) -> None:
    """VideoError for what can be known of the output's name to fail."""
    if os.fspath(output) == STREAM:
        return
    path = Path(output)
    encoding.container_of(path)
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(Segments(path).folder)  # the longest name of all
    except OSError as error:
        raise VideoError(f"{path}: no file can have this name ({error.strerror}); choose another output") from error
    if path.is_dir():
        raise VideoError(f"{path}: is a folder; give the name of a file, e.g. {path / 'large.mp4'}")
    if (
        os.fspath(source) != STREAM
        and os.path.exists(source)
        and os.path.exists(path)
        and os.path.samefile(source, path)
    ):
        raise VideoError(f"{path}: is the input itself; choose another output")
    if os.path.lexists(path) and not overwrite:
        raise VideoError(f"{path} exists: give --overwrite or another output")
    if not path.parent.is_dir():
        raise VideoError(f"{path.parent}: no such folder; make it, or choose another output")
    try:
        atomic.probe(path.parent)
    except OSError as error:
        raise VideoError(
            f"{path.parent}: no file can be made in this folder ({error.strerror}); choose another output"
        ) from error


@contextlib.contextmanager
def errors_as_lines(output: str | Path) -> Iterator[None]:
    """Errors of the system and of FFmpeg as one line about the output."""
    import av

    try:
        yield
    except BrokenPipeError:
        raise
    except FileExistsError as error:
        raise VideoError(f"{output} exists by now: give --overwrite, or another output") from error
    except (OSError, av.FFmpegError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            why += "; make room, or choose another output"
        raise VideoError(f"{output}: cannot be written: {why}") from error
