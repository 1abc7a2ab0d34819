"""A video file through PyAV: what is known of it before its first frame is enlarged, and its frames at their times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from . import colour, decoding
from .kinds import DEINTERLACE, Colours, Facts, Frame, VideoError, pyav

_PICTURE = "is a picture, not a video: liif-fast upscale enlarges it"
_NO_VIDEO = "not a video that FFmpeg reads, or damaged where it tells what it holds (an mp4 without its moov)"
_PQ, _HLG = 16, 18  # transfers
# whose decoders tell where chroma lies, or where it lies in the middle if they do not
_CHROMA_TOLD = {"h264", "hevc", "vvc", "mpeg1video", "mjpeg", "h263", "flv1", "theora"}


# of frames, by FFmpeg's names
_LOST = {
    "A53_CC": "closed captions inside the pictures",
    "STEREO3D": "that it is stereoscopic",
    "SPHERICAL": "that it is spherical",
    "S12M_TIMECODE": "time codes of frames",
}


class FileSource:
    """A file that PyAV reads: a ``source.Source``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        av = pyav()
        if not path.stat().st_size:
            raise VideoError(f"{path}: is empty")
        try:
            self.container = decoding.opened(path)
        except av.FFmpegError as error:
            reason = _NO_VIDEO if isinstance(error, av.InvalidDataError) else error.strerror
            raise VideoError(f"{path}: {reason}") from None
        try:
            self.stream = _chosen(path, self.container)
            self.other_streams = [s for s in self.container.streams if s.index != self.stream.index]
            self.origin = Fraction(self.container.start_time or 0, 1_000_000)
            self._late = decoding.begins_late(path, self.stream.index)
            reading = decoding.pictures(path, self.stream.index, late=self._late)
            first = next(reading, None)
            reading.close()  # type: ignore[attr-defined]
            if first is None:
                raise VideoError(f"{path}: its video has no frames")
            self._first, self._look = first.pts, _look(first)
            self.facts = self._facts(first)
            # after the facts: it makes use of the frame
            halved = first.format.chroma_width(64) < 64 and not first.format.is_rgb
            codec = self.stream.codec_context.codec.canonical_name
            told = codec in _CHROMA_TOLD or first.format.name.startswith("yuvj")
            self._left = halved and not told and not colour.tells_chroma_place(first)
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def frames(self, start: float | None = None, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """As of ``source.Source``."""
        for before, after in decoding.left_out(self.path):
            if (end is None or before < end + self.origin) and (start is None or after >= start + self.origin):
                raise VideoError(
                    f"{self.path}: is damaged between {before - float(self.origin):.3f} and "
                    f"{after - float(self.origin):.3f} s: a part cannot be read; {decoding.REPAIR}"
                )
        begin, stop = self._pts(start), self._pts(end)
        if skip and self._first is not None:
            shown = self._first if begin is None else max(begin, self._first)
            later = decoding.time_of(self.path, self.stream.index, shown, skip)
            begin, skip = (begin, skip) if later is None else (later, 0)
        for frame, pts, duration in self._timed(begin, stop):
            if begin is not None and pts < begin:
                continue
            if skip:
                skip -= 1
                continue
            if self._left:
                frame = colour.place_chroma(frame, "left")
            yield Frame(colour.to_rgb(frame, self.facts.colours, self.facts.bits), pts, duration)

    def _pts(self, seconds: float | None) -> int | None:
        """The first that is not before a time."""
        if seconds is None:
            return None
        exact = Fraction(round(seconds * 1_000_000), 1_000_000) + self.origin
        return math.ceil(exact / self.facts.time_base)

    def _timed(self, begin: int | None, stop: int | None) -> Iterator[tuple[Any, int, int]]:
        """Frames with their pts and durations: a frame is seen until the next one."""
        step = max(1, round(1 / (self.facts.rate * self.facts.time_base)))
        held: tuple[Any, int, int] | None = None
        reading = decoding.pictures(self.path, self.stream.index, begin, self._late)
        try:
            for frame in reading:
                pts = self._time(frame, held, step)
                if held is not None:
                    yield held[0], held[1], pts - held[1]
                    step = pts - held[1]
                held = None
                if stop is not None and pts >= stop:
                    return
                self._check(frame, pts)
                held = frame, pts, frame.duration or step
        except VideoError:
            if held is not None:
                yield held
            raise
        finally:
            reading.close()  # type: ignore[attr-defined]
        if held is not None:
            yield held

    def _time(self, frame: Any, before: tuple[Any, int, int] | None, step: int) -> int:
        if frame.pts is None:
            self._note("times of frames are missing: they are derived from the frame rate")
            return before[1] + step if before else int(self.stream.start_time or 0)
        if before is None or frame.pts > before[1]:
            return int(frame.pts)
        if (before[1] - frame.pts) * self.facts.time_base >= 1:
            raise VideoError(
                f"{self.path}: its times go back, from {float(before[1] * self.facts.time_base):.3f} s to "
                f"{frame.time:.3f} s: give it new ones: ffmpeg -i IN -vf setpts=N/FR/TB -c:v ffv1 OUT.mkv"
            )
        self._note("times of frames do not rise everywhere: such a frame is put just after the one before")
        return before[1] + 1

    def _check(self, frame: Any, pts: int) -> None:
        at = f"at {float(pts * self.facts.time_base - self.origin):.3f} s"
        if frame.interlaced_frame:
            raise VideoError(f"{self.path}: {at} it {DEINTERLACE}")
        if (now := _look(frame)) != self._look:
            raise VideoError(
                f"{self.path}: {at} its frames change from {_shown(self._look)} to {_shown(now)}: "
                "make them alike: ffmpeg -i IN -c:v ffv1 -c:a copy OUT.mkv"
            )

    def _note(self, text: str) -> None:
        if text not in self.facts.notes:
            self.facts.notes.append(text)

    def _facts(self, first: Any) -> Facts:
        path, stream = self.path, self.stream
        if stream.codec_context.field_order > 1 or first.interlaced_frame:
            raise VideoError(f"{path}: {DEINTERLACE}")
        told = Colours(first.colorspace, first.color_primaries, first.color_trc, first.color_range == 2)
        kinds, rotation = _side_data(path, first)
        if "DOVI" in kinds and told.matrix == colour.UNSPECIFIED:
            raise VideoError(
                f"{path}: Dolby Vision without a picture of its own for other players (profile 5): convert it: "
                "ffmpeg -i IN -vf libplacebo=colorspace=bt709:color_primaries=bt709:color_trc=bt709 OUT"
            )
        try:
            holds = colour.kind(first.format.name)
            size = first.width, first.height
            colours, notes = colour.resolved(told, first.format.name, size, first.color_range != 0)
        except VideoError as error:
            raise VideoError(f"{path}: {error}") from None
        if len(self.container.streams.video) > 1:
            others = [s for s in self.container.streams.video if s.index != stream.index and not _is_cover(s)]
            notes += [f"it has {1 + len(others)} videos: number {stream.index} is enlarged"] * bool(others)
        if self._late:
            notes.append("its first frames refer to ones that were cut away: they are left out")
        if lost := [words for kind, words in _LOST.items() if kind in kinds]:
            notes.append(f"not written: {', '.join(lost)}")
        if holds.alpha:
            notes.append("its transparency, if it has any, is dropped")
        if colours.transfer in (_PQ, _HLG):
            name = "PQ" if colours.transfer == _PQ else "HLG"
            notes.append(
                f"HDR ({name}): its values are enlarged as they are and its tags kept; HDR10's and Dolby Vision's "
                "metadata are not written"
            )
        rate = Fraction(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)
        return Facts(
            width=first.width,
            height=first.height,
            time_base=Fraction(stream.time_base),
            rate=rate,
            frames=_count(self.container, stream, rate),
            pixel_format=first.format.name,
            bits=holds.bits,
            colours=colours,
            sample_aspect=Fraction(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1),
            rotation=rotation,
            notes=notes,
        )


def _chosen(path: Path, container: Any) -> Any:
    """The video stream that players show; VideoError without one."""
    name = container.format.name
    if name == "tty":  # any text
        raise VideoError(f"{path}: {_NO_VIDEO}")
    if name == "image2" or name.endswith("_pipe"):
        raise VideoError(f"{path}: {_PICTURE}")
    videos = [s for s in container.streams.video if not _is_cover(s)]
    if not videos:
        held = sorted({s.type for s in container.streams})
        raise VideoError(f"{path}: holds no video stream, only {' and '.join(held) or 'nothing'}: give a video")
    best = container.streams.best("video")
    stream = best if best is not None and best.index in [s.index for s in videos] else videos[0]
    if stream.codec_context is None:
        raise VideoError(
            f"{path}: its video's codec is unknown or encrypted, or the file is damaged where it tells it (an mp4's "
            "moov): give a whole file, in a codec that FFmpeg decodes"
        )
    return stream


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _count(container: Any, stream: Any, rate: Fraction) -> int | None:
    """How many frames: as the container says, else by its duration."""
    if stream.frames:
        return len(stream.index_entries) or stream.frames if "mp4" in container.format.name else stream.frames
    tag = decoding.seconds(stream.metadata["DURATION"]) if "DURATION" in stream.metadata else None
    if tag is None and stream.duration:
        tag = stream.duration * stream.time_base
    if tag is None and container.duration:
        tag = Fraction(container.duration, 1_000_000)
    return None if tag is None else max(1, round(tag * rate))


def _look(frame: Any) -> tuple[int, int, str, int, int]:
    """What must be the same of all frames."""
    return frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range


def _shown(look: tuple[int, int, str, int, int]) -> str:
    return f"{look[0]}x{look[1]} {look[2]} (matrix {look[3]}, range {look[4]})"


def _side_data(path: Path, frame: Any) -> tuple[str, int]:
    """What else comes with a frame, by name, and its rotation; VideoError for a mirrored one."""
    try:
        found = list(frame.side_data)
    except ValueError:  # of a kind that PyAV does not know
        return "", frame.rotation
    for data in found:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(data, "<i4")[:5].astype(float)
            if a * d - b * c < 0:
                raise VideoError(
                    f"{path}: is shown mirrored, which is not kept: ffmpeg -i IN -c:v ffv1 OUT.mkv does it"
                )
    return " ".join(data.type.name for data in found), frame.rotation
