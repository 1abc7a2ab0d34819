"""How to enlarge a video, and what follows from it: the size, the window and the shape of pixels of what is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from ..sizes import MAX_OUTPUT_PIXELS
from .kinds import Facts, VideoError

_SAME = 2  # pixels by which a size may miss the displayed shape and still be meant to have square pixels


@dataclass(frozen=True)
class VideoOptions:
    """How to enlarge: one of ``scale`` and ``size`` (width, height; one of them may be None).

    Sizes and windows are those of the picture as it is displayed, after the rotation that the file asks for.
    """

    scale: float | None = None
    size: tuple[int | None, int | None] | None = None
    window: tuple[float, float, float, float] | None = None  # (top, left, height, width), input pixels
    start: float | None = None  # seconds
    end: float | None = None
    codec: str = "libx264"  # FFmpeg's name of an encoder, or one of ``encoding.NAMES``
    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None  # None: what the codec is best played in
    tile: int | str = "auto"
    point: bool = False  # below scale 1: samples, no mean
    reuse: bool = True  # what is unchanged since the last frame is not computed again
    audio: bool = True
    subtitles: bool = True
    resume: bool = False
    overwrite: bool = False
    max_output_pixels: int = MAX_OUTPUT_PIXELS
    input_size: tuple[int, int] | None = None  # (width, height) of raw frames on standard input
    input_format: str | None = None
    input_rate: Fraction | None = None
    output_format: str = "y4m"  # of raw frames on standard output


class Plan(NamedTuple):
    """What is written. All is in terms of frames as they are stored."""

    size: tuple[int, int]  # (height, width)
    window: tuple[float, float, float, float] | None
    sample_aspect: Fraction
    notes: list[str]


def plan(facts: Facts, options: VideoOptions, steps: tuple[int, int] = (1, 1), whole: str | None = None) -> Plan:
    """What becomes of a video's frames.

    Args:
        steps: width and height must be multiples of these, which a pixel format with halved chroma wants.
        whole: a pixel format without that, which the same codec has.

    Raises:
        VideoError: a size that the pixel format cannot have, or that is over the limit.
    """
    turn = facts.rotation % 360
    if turn % 90:
        notes = [f"the file asks for a rotation by {turn} degrees: sizes and windows are of the picture as stored"]
        turn = 0
    else:
        notes = []
    across = turn in (90, 270)
    in_width, in_height = (facts.height, facts.width) if across else (facts.width, facts.height)
    sample = 1 / facts.sample_aspect if across else facts.sample_aspect
    step = steps[::-1] if across else steps
    window = options.window
    height, width = (Fraction(n) for n in (window or (0, 0, in_height, in_width))[2:])
    aspect = width * sample / height
    cure = f", or --pixel-format {whole} for odd ones" if whole else ""
    if options.size is None:
        scale = Fraction(options.scale or 1)
        exact = [_nearest(n * scale) for n in (width, height)]
        size = [_nearest(n * scale, s) for n, s in zip((width, height), step, strict=True)]
        if size != exact:
            rounded = " --pixel-format " + whole + " keeps that" if whole else " the pixel format has no odd sides"
            notes.append(f"{size[0]}x{size[1]} in place of {exact[0]}x{exact[1]}:{rounded}")
        shape = sample
    else:
        for given, s in zip(options.size, step, strict=True):
            if given is not None and given % s:
                near = "x".join("" if n is None else str(_nearest(n, t)) for n, t in _pairs(options, step))
                said = "x".join("" if n is None else str(n) for n in options.size)
                raise VideoError(
                    f"--size {said}: with chroma at half the size both sides are even: --size {near}{cure}"
                )
        w, h = options.size
        size = [
            _nearest((h or 0) * aspect, step[0]) if w is None else w,
            _nearest((w or 0) / aspect, step[1]) if h is None else h,
        ]
        shape = aspect * size[1] / size[0]
        if w is None or h is None or abs(size[1] * aspect - size[0]) <= _SAME:
            shape = Fraction(1)
    if size[0] * size[1] > options.max_output_pixels:
        raise VideoError(
            f"{facts.width}x{facts.height} -> {size[0]}x{size[1]}: a frame is over the limit of "
            f"{options.max_output_pixels} pixels; choose a smaller scale, or raise --max-output-pixels"
        )
    if window is not None:
        window = _stored(window, turn, facts)
    stored = (size[0], size[1]) if across else (size[1], size[0])
    return Plan(stored, window, _short(1 / shape if across else shape), notes)


def _nearest(side: Fraction | int, step: int = 1) -> int:
    """The nearest multiple above 0, of two the larger."""
    return step * max(1, math.floor(Fraction(side) / step + Fraction(1, 2)))


def _pairs(options: VideoOptions, step: tuple[int, int]) -> list[tuple[int | None, int]]:
    return list(zip(options.size or (), step, strict=True))


def _stored(window: tuple[float, float, float, float], turn: int, facts: Facts) -> tuple[float, float, float, float]:
    """The window in the frame that is displayed turned by so many degrees counterclockwise."""
    top, left, height, width = window
    if turn == 90:
        return left, facts.width - top - height, width, height
    if turn == 180:
        return facts.height - top - height, facts.width - left - width, height, width
    if turn == 270:
        return facts.height - left - width, top, width, height
    return window


def _short(aspect: Fraction) -> Fraction:
    """In the 16 bits that H.264 has for each of the two numbers."""
    if aspect > 1:
        return 1 / (1 / aspect).limit_denominator(65535)
    return aspect.limit_denominator(65535)
