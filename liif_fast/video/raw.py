"""Frames without a container, as pipes carry them: y4m (YUV4MPEG2) and raw pixels."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from . import colour
from .kinds import DEINTERLACE, Colours, Facts, Frame, VideoError, pyav

Y4M = b"YUV4MPEG2"
_FINE = 100_000  # the most frames a second, and the largest denominator of their number
_LONGEST = 4096  # bytes of a header
# by pixel format, what y4m calls it; of eight bits and halved both ways, where the chroma lies is in the name
_Y4M = {"gray": "mono", "yuv422p": "422", "yuv444p": "444", "yuv411p": "411", "yuv420p": "420mpeg2"}
_Y4M |= {f"yuv{n}p{bits}le": f"{n}p{bits}" for n in (420, 422, 444) for bits in (9, 10, 12, 14, 16)}
_Y4M |= {f"gray{bits}le": f"mono{bits}" for bits in (9, 10, 12, 14, 16)}
_READ = {name: pixel_format for pixel_format, name in _Y4M.items()}
_READ |= dict.fromkeys(("420", "420jpeg", "420paldv"), "yuv420p")
_PLACES = {"420": "center", "420jpeg": "center", "420paldv": "topleft"}  # others: left
_PACKED = {"rgb24": 3, "bgr24": 3, "rgba": 4, "bgra": 4, "rgb48le": 6}  # bytes of a pixel
FORMATS = (*_PACKED, *_Y4M, "gbrp", "gbrp10le", "gbrp12le", "gbrp16le")


class RawSource:
    """Frames of a stream, read in turn: a ``source.Source``.

    Args:
        stream: at the first frame.
        name: of the stream, for messages.
        size: (width, height).
        header: what comes before each frame, if anything.
        place: where halved chroma lies.
    """

    container = stream = None
    origin = Fraction(0)

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        size: tuple[int, int],
        pixel_format: str,
        rate: Fraction,
        *,
        colours: Colours | None = None,
        sample_aspect: Fraction = Fraction(1),
        header: bytes = b"",
        place: str = "left",
    ) -> None:
        if pixel_format not in FORMATS:
            raise VideoError(f"--input-format {pixel_format}: not read as raw frames; there are {', '.join(FORMATS)}")
        rate = Fraction(rate).limit_denominator(_FINE)  # 29.97 means 2997/100
        if not 0 < rate <= _FINE:
            raise VideoError(f"{name}: frames a second: a number from {1 / _FINE:g} to {_FINE} is wanted")
        try:
            frame = pyav().VideoFrame(*size, pixel_format)
        except (ValueError, OverflowError):
            frame = None
        if frame is None or min(size) < 1:
            raise VideoError(f"{name}: {size[0]}x{size[1]}: no size that a frame can have")
        self._file, self._name, self._header, self._place, self._used = stream, name, header, place, False
        self._begin = stream.tell() if stream.seekable() else None
        self.other_streams: list[Any] = []
        holds = colour.kind(pixel_format)
        resolved, notes = colour.resolved(colours or Colours(), pixel_format, size, colours is not None)
        if holds.alpha:
            notes.append("its transparency, if it has any, is dropped")
        self.facts = Facts(
            *size,
            time_base=1 / rate,
            rate=rate,
            frames=self._count(frame),
            pixel_format=pixel_format,
            bits=holds.bits,
            colours=resolved,
            sample_aspect=sample_aspect,
            notes=notes,
        )

    def __enter__(self) -> RawSource:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not getattr(sys.stdin, "buffer", None):
            self._file.close()

    def frames(self, start: float | None = None, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """As of ``source.Source``; of a pipe only once."""
        if self._begin is not None:
            self._file.seek(self._begin)
        elif self._used:
            raise VideoError(f"{self._name}: a pipe can be read only once: give a file")
        self._used = True
        rate, left = self.facts.rate, skip
        frame = pyav().VideoFrame(self.facts.width, self.facts.height, self.facts.pixel_format)
        for index in range(2**62):
            time = index / rate
            if end is not None and time >= _exact(end):
                return
            data = self._next(frame, index)
            if data is None:
                if not index:
                    raise VideoError(f"{self._name}: holds no frames")
                return
            if start is not None and time < _exact(start):
                continue
            if left:
                left -= 1
                continue
            frame = pyav().VideoFrame(self.facts.width, self.facts.height, self.facts.pixel_format)
            _fill(frame, data)
            if colour.kind(self.facts.pixel_format).name == "yuv" and self._place != "center":
                frame = colour.place_chroma(frame, self._place)
            yield Frame(colour.to_rgb(frame, self.facts.colours, self.facts.bits), index, 1)

    def _count(self, frame: Any) -> int | None:
        """How many there are in a file, if none has words in its header."""
        if self._begin is None:
            return None
        each = sum(rows * width for rows, width in _layout(frame)) + (len(self._header) + 1 if self._header else 0)
        return (self._file.seek(0, 2) - self._begin) // each

    def _next(self, frame: Any, index: int) -> bytes | None:
        """A frame's bytes; None at the end, VideoError within a frame."""
        good = f"{index} good frame{'s' * (index != 1)}"
        cut = f"{self._name}: ends within a frame, after {good}"
        if self._header:
            line = self._file.readline(_LONGEST)
            if not line:
                return None
            if not line.startswith(self._header) and self._header.startswith(line):
                raise VideoError(f"{cut}: was what writes it cut off?")
            if not line.startswith(self._header) or not line.endswith(b"\n"):
                raise VideoError(f"{self._name}: damaged after {good}: no frame begins there")
            if (found := re.search(rb" I(.)", line)) and found[1] not in b"p":
                raise VideoError(f"{self._name}: {DEINTERLACE}")
        wanted = sum(rows * width for rows, width in _layout(frame))
        data = self._file.read(wanted)
        if not data and not self._header:
            return None
        if len(data) < wanted:
            raise VideoError(
                f"{cut} ({len(data)} of {wanted} bytes): was it cut off, or is its size or format another?"
            )
        return data


def y4m_source(stream: BinaryIO, name: str) -> RawSource:
    """Of a stream whose ``Y4M`` has been read."""
    line = stream.readline(_LONGEST)
    told = {chr(word[0]): word[1:].decode("latin-1") for word in line.split() if word[:1] != b"X"}
    try:
        size = int(told["W"]), int(told["H"])
        rate, aspect = _ratio(told.get("F", "25:1")), _ratio(told.get("A", "1:1"))
    except (KeyError, ValueError):
        raise VideoError(f"{name}: y4m without a size, or with a wrong number in its first line") from None
    if told.get("I", "p") not in "p?":
        raise VideoError(f"{name}: {DEINTERLACE}")
    kind = told.get("C", "420")
    if kind not in _READ:
        raise VideoError(f"{name}: y4m of C{kind} is not read; there are {', '.join('C' + each for each in _READ)}")
    found = re.search(rb"XCOLORRANGE=(FULL|LIMITED)", line)
    colours = Colours(full_range=found[1] == b"FULL") if found else None
    how: dict[str, Any] = {"colours": colours, "sample_aspect": aspect or Fraction(1), "header": b"FRAME"}
    return RawSource(stream, name, size, _READ[kind], rate or Fraction(25), place=_PLACES.get(kind, "left"), **how)


class RawWriter:
    """Writes frames to a stream, one after the other.

    Args:
        stream: is flushed at the end, not closed. Its errors pass up, BrokenPipeError too.
        format: "y4m", or a pixel format of ``FORMATS``.
        rate: frames a second; raw pixels do not tell it, nor the rest.
        colours: of the source, resolved.
        pixel_format: of y4m.

    Raises:
        VideoError: for a format that is not written.
    """

    def __init__(
        self,
        stream: BinaryIO,
        format: str,
        width: int,
        height: int,
        rate: Fraction,
        sample_aspect: Fraction,
        colours: Colours,
        pixel_format: str = "yuv420p",
    ) -> None:
        self._file, self._colours, self._head = stream, colours, b""
        self.pixel_format = pixel_format if format == "y4m" else format
        known = tuple(_Y4M) if format == "y4m" else FORMATS
        if self.pixel_format not in known:
            raise VideoError(f"{self.pixel_format}: not written as {format}; there are {', '.join(known)}")
        if format == "y4m":
            made = colour.output_colours(colours, pixel_format)
            words = [f"W{width}", f"H{height}", f"F{rate.numerator}:{rate.denominator}", "Ip"]
            words += [f"A{sample_aspect.numerator}:{sample_aspect.denominator}", f"C{_Y4M[pixel_format]}"]
            words += [f"XCOLORRANGE={'FULL' if made.full_range else 'LIMITED'}"]
            stream.write(Y4M + b" " + " ".join(words).encode() + b"\n")
            self._head = b"FRAME\n"

    def write(self, rgb: np.ndarray) -> None:
        """A frame: R'G'B' [H, W, 3], uint8 or uint16, full range."""
        frame = colour.from_rgb(rgb, self.pixel_format, self._colours)
        self._file.write(self._head)
        for plane, (rows, width) in zip(frame.planes, _layout(frame), strict=True):
            self._file.write(
                np.frombuffer(plane, np.uint8)[: rows * plane.line_size].reshape(rows, -1)[:, :width].tobytes()
            )

    def close(self) -> None:
        """All that was written has left for the stream."""
        self._file.flush()


def _layout(frame: Any) -> list[tuple[int, int]]:
    """(rows, bytes of a row) of each plane, without padding."""
    each = _PACKED.get(frame.format.name) or (1 if frame.format.components[0].bits == 8 else 2)
    return [(plane.height, plane.width * each) for plane in frame.planes]


def _fill(frame: Any, data: bytes) -> None:
    at = 0
    for plane, (rows, width) in zip(frame.planes, _layout(frame), strict=True):
        _rows(plane, rows)[:, :width] = np.frombuffer(data, np.uint8, rows * width, at).reshape(rows, width)
        at += rows * width


def _rows(plane: Any, rows: int) -> np.ndarray:
    """A plane's bytes, with its padding."""
    return np.frombuffer(plane, np.uint8)[: rows * plane.line_size].reshape(rows, -1)


def _ratio(text: str) -> Fraction | None:
    """Of "25:1"; None for 0:0, which is unknown."""
    over, under = (int(part) for part in text.split(":"))
    return Fraction(over, under) if over > 0 and under > 0 else None


def _exact(seconds: float) -> Fraction:
    return Fraction(round(seconds * 1_000_000), 1_000_000)
