"""What the parts of this room hand to each other: frames, their colours and times, what is known of a video."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

DEINTERLACE = "is interlaced: deinterlace it first: ffmpeg -i IN -vf bwdif -c:v ffv1 -c:a copy OUT.mkv"


class VideoError(ValueError):
    """A video that cannot be read, enlarged or written, in one line that says what to do."""


def pyav() -> Any:
    """The package ``av``, which reads and writes videos; VideoError without it."""
    try:
        import av
    except ImportError as error:
        raise VideoError(f"videos need PyAV ({error}): pip install 'liif-fast[video]', or pip install av") from None
    return av


class Colours(NamedTuple):
    """What a video's numbers mean: code points of ISO/IEC 23091-2 (H.273), 2 is unspecified."""

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False


class Frame(NamedTuple):
    """A picture at its time.

    Attributes:
        pixels: [H, W, 3], uint8 or uint16 (the whole range of 16 bits): R'G'B', full range; on the way to an encoder
            ``Encoding.picture`` of that.
    """

    pixels: Any
    pts: int  # in units of the video's time_base
    duration: int  # likewise; above 0


@dataclass(frozen=True)
class Facts:
    """What is known of a video before its first frame is enlarged."""

    width: int  # as stored, before any rotation
    height: int
    time_base: Fraction  # seconds
    rate: Fraction  # frames a second, on average or as the container guesses
    frames: int | None  # how many, if the container says so or it can be estimated
    pixel_format: str  # FFmpeg's name
    bits: int  # of a component
    colours: Colours
    sample_aspect: Fraction = Fraction(1)  # width of a pixel over its height
    rotation: int = 0  # degrees, as PyAV's ``VideoFrame.rotation``: what players turn the picture by
    notes: list[str] = field(default_factory=list)  # what is assumed, and what will be lost
