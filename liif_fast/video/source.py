"""Opens videos: what is known of one (``Facts``), and its frames as R'G'B'. Files through PyAV, pipes by ``raw``."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from . import raw
from .container import FileSource
from .kinds import Facts, Frame, VideoError


class Source(Protocol):
    """An open video; a context manager.

    Attributes:
        facts: what is known of it; more may come to ``facts.notes`` while frames are read.
        container: PyAV's input container, for copying what is beside the video; None for raw frames. Frames are read
            through another one: it stays where its reader leaves it.
        stream: the video's stream in ``container``.
        other_streams: all others in ``container``.
        origin: the time of the file's beginning, in seconds: what ``start`` and ``end`` of ``frames`` count from.
    """

    facts: Facts
    container: Any
    stream: Any
    other_streams: list[Any]
    origin: Fraction

    def __enter__(self) -> Source: ...
    def __exit__(self, *_: object) -> None: ...
    def frames(self, start: float | None = None, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """Those whose time is in [start, end) seconds, less the first ``skip`` of them.

        Raises:
            VideoError: at damage, at the end of a file that is cut off, or where size, format or colours change.
        """


def open_source(
    path: Path | str,
    *,
    input_size: tuple[int, int] | None = None,
    input_format: str | None = None,
    input_rate: Fraction | float | None = None,
) -> Source:
    """Open a video.

    Args:
        path: a file, a pipe, or "-" for standard input; pipes give y4m, or raw frames.
        input_size: (width, height) of raw frames.
        input_format: their pixel format, by FFmpeg's name; rgb24 if none is given.
        input_rate: their frames a second; 25 if none is given.

    Raises:
        VideoError: if it cannot be read, or not without wrong pictures; the line says what to do.
    """
    name = "standard input" if str(path) == "-" else str(path)
    given = {"--input-format": input_format, "--input-rate": input_rate}
    if input_size is None and (lone := [key for key, value in given.items() if value is not None]):
        raise VideoError(f"{lone[0]} is for raw frames: give --input-size WIDTHxHEIGHT too")
    rate = 25 if input_rate is None else input_rate
    if not (math.isfinite(rate) and rate > 0):
        raise VideoError(f"--input-rate {rate:g}: a number above 0 is wanted")
    try:
        if str(path) != "-" and not os.path.exists(path):
            raise VideoError(f"{name}: no such file")
        if os.path.isdir(path):
            raise VideoError(f"{name}: is a folder: give a video file")
        pipe = str(path) == "-" or not os.path.isfile(path)
        stream: Any = sys.stdin.buffer if str(path) == "-" else open(path, "rb")  # noqa: SIM115
        if input_size is not None:
            return raw.RawSource(stream, name, input_size, input_format or "rgb24", Fraction(rate))
        if (begin := stream.read(len(raw.Y4M))) == raw.Y4M:
            return raw.y4m_source(stream, name)
    except OSError as error:
        raise VideoError(f"{name}: {error.strerror or error}") from None
    if pipe:
        raise VideoError(
            f"{name}: {'is empty' if not begin else 'no y4m'}: a compressed video must be given as a file, or through "
            "ffmpeg -i IN -f yuv4mpegpipe - ; raw frames need --input-size WIDTHxHEIGHT"
        )
    stream.close()
    return FileSource(Path(path))
