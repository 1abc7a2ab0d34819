"""What a video is encoded by: codec, pixel format and options, chosen and checked before the work."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from . import colour
from .kinds import Colours, Facts, VideoError
from .options import VideoOptions

# other names of encoders
NAMES = {"h264": "libx264", "x264": "libx264", "avc": "libx264", "h265": "libx265", "x265": "libx265",
         "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9", "prores": "prores_ks"}  # fmt: skip
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_USUAL = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", "h264_nvenc", "hevc_nvenc")
_X26 = "ultrafast, superfast, veryfast, faster, fast, medium, slow, slower, veryslow, placebo"
_PRESETS = {"libx264": _X26, "libx265": _X26, "libsvtav1": "-1 (slowest) to 13"}
# What these libraries print on their own is not for the user.
_QUIET = {"libx265": {"x265-params": "log-level=none"}}


@dataclass(frozen=True)
class Choice:
    """How frames are encoded, whatever their size."""

    codec: str
    pixel_format: str
    options: dict[str, str]
    colours: Colours
    notes: list[str]
    steps: tuple[int, int]  # that width and height must be multiples of
    whole: str | None  # a pixel format of the codec with chroma at full size


@dataclass(frozen=True)
class Encoding:
    """All that the encoder of one segment is told; the same for each."""

    choice: Choice
    size: tuple[int, int]  # (height, width)
    sample_aspect: Fraction
    rate: Fraction

    @property
    def says_sample_aspect(self) -> bool:
        """Whether the codec itself tells the shape of pixels; PyAV tells it to MP4, but not to Matroska."""
        return self.choice.codec.startswith(("libx264", "libx265", "h264", "hevc"))

    def picture(self, rgb: np.ndarray) -> Any:
        """What the encoder takes of a frame [H, W, 3], an ``av.VideoFrame`` without a time."""
        return colour.from_rgb(rgb, self.choice.pixel_format, self.choice.colours)

    def add_to(self, container: Any) -> Any:
        """PyAV's stream of a container to write; the encoder is opened by the first frame or by the header."""
        stream = container.add_stream(self.choice.codec, rate=self.rate, options=dict(self.choice.options))
        stream.height, stream.width = self.size
        stream.pix_fmt = self.choice.pixel_format
        context = stream.codec_context
        context.time_base = 1 / self.rate
        context.sample_aspect_ratio = self.sample_aspect
        colour.tags(self.choice.colours, context)
        return stream


def container_of(output: Path) -> str:
    """FFmpeg's name of the container that a file's suffix says."""
    suffix = output.suffix.lower()
    if suffix in CONTAINERS:
        return CONTAINERS[suffix]
    if suffix == ".avi":
        raise VideoError(f"{output}: AVI keeps no times of frames; choose .mkv or .mp4")
    known = ", ".join(CONTAINERS)
    raise VideoError(f"{output}: a video's suffix is wanted, one of {known}; got {suffix or 'none'}")


def choose(facts: Facts, options: VideoOptions, container: str) -> Choice:
    """The codec, its options and the pixel format.

    Raises:
        VideoError: there is no such codec, or it has not what is asked of it.
    """
    import av

    os.environ.setdefault("SVT_LOG", "1")  # errors alone
    name = NAMES.get(options.codec.lower(), options.codec)
    there = sorted(set(_USUAL) & av.codecs_available)
    try:
        codec = av.Codec(name, "w")
    except ValueError:
        codec = None
    # those that take frames of any format do not encode
    if codec is None or codec.type != "video" or not codec.video_formats:
        raise VideoError(f"--codec {options.codec}: no such video encoder; {', '.join(there)}")
    name = codec.name
    parts = _held("matroska")  # the work's own
    held = _held(container) & parts
    if name not in held:
        others = ", ".join(each for each in there if each in held)
        cure = ", or -o with .mkv" if name in parts else ""
        raise VideoError(f"--codec {options.codec}: a file of the kind {container} cannot hold it; {others}{cure}")
    formats = [each.name for each in codec.video_formats]
    notes: list[str] = []
    if options.pixel_format is None:
        pixel_format = _pixel_format(name, formats, facts, notes)
    elif (pixel_format := options.pixel_format) not in formats:
        raise VideoError(f"--pixel-format {pixel_format}: {name} has {', '.join(formats)}")
    known = av.VideoFormat(pixel_format, 16, 16)
    steps = 16 // known.chroma_width(), 16 // known.chroma_height()
    whole = next((each for each in ("yuv444p", "yuv444p10le", "gbrp") if each in formats), None)
    if note := colour.output_note(facts.colours, pixel_format):
        notes.append(note)
    return Choice(name, pixel_format, _options(name, options), facts.colours, notes, steps, whole)


def _held(container: str) -> set[str]:
    import io

    import av

    with av.open(io.BytesIO(), "w", format=container) as empty:
        return empty.supported_codecs


def _options(codec: str, options: VideoOptions) -> dict[str, str]:
    import av

    has = {each.name for each in av.CodecContext.create(codec, "w").supported_options.private}
    found = dict(_QUIET.get(codec, {}))
    for name, value in (("crf", options.crf), ("preset", options.preset)):
        if value is None:
            continue
        if name not in has:
            raise VideoError(f"--{name} {value}: the codec {codec} has none; leave it out")
        found[name] = value if isinstance(value, str) else f"{value:g}"
    return found


def _pixel_format(codec: str, formats: list[str], facts: Facts, notes: list[str]) -> str:
    """What the codec is best played in; without loss, what keeps every value."""
    deep = facts.bits > 8
    if codec == "ffv1":
        # R'G'B' as it is computed, which Y'CbCr of the same depth would round
        depth = next((each for each in (9, 10, 12, 14) if facts.bits <= each), 16)
        found = f"gbrp{depth}le" if deep else "bgr0"
        notes.append(f"ffv1 keeps every value as RGB ({found}); --pixel-format yuv444p for Y'CbCr, rounded")
        return found
    if deep and codec != "libx264" and "yuv420p10le" in formats:
        return "yuv420p10le"
    found = next((each for each in ("yuv420p", "yuv422p10le") if each in formats), formats[0])
    if deep and found == "yuv420p":
        cure = next((each for each in ("yuv420p10le", "p010le", "yuv444p10le") if each in formats), None)
        kept = f"; --pixel-format {cure} keeps 10" if cure else ""
        notes.append(f"{facts.bits} bits become 8, which plays everywhere{kept}")
    return found


def why_not(encoding: Encoding, error: BaseException) -> VideoError:
    """Of an encoder that cannot be opened with what it is told."""
    choice = encoding.choice
    told = [f"{name} {choice.options[name]}" for name in ("preset", "crf") if name in choice.options]
    told += [f"pixel format {choice.pixel_format}", f"{encoding.size[1]}x{encoding.size[0]}"]
    presets = f"; presets: {_PRESETS[choice.codec]}" if choice.codec in _PRESETS and "preset" in choice.options else ""
    why = getattr(error, "strerror", None) or " ".join(str(error).split())
    return VideoError(
        f"--codec {choice.codec}: cannot be used with {', '.join(told)} ({why}); change one of them{presets}"
    )
