"""A file's frames in turn: found by their times, decoded, and never fewer than the file says without an error."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from .kinds import VideoError, pyav

_BACK = (0, 1, 4, 16, 64)  # seconds before a frame at which its keyframe is looked for
# whose times are kept with each packet, so that a frame has the same one however it is reached
_EXACT = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "mpeg"}
_SKIPS = "matroska,webm"  # what cannot be read is left out, and only logged
_REORDERED = 64  # packets within which times may be out of order
# a packet of these is a frame that is shown
_ONE_EACH = {"h264", "hevc", "av1", "vp9", "mpeg2video", "mjpeg", "prores", "ffv1", "dnxhd", "rawvideo", "huffyuv"}
UNDECODED = "surrogateescape"  # of titles that are not UTF-8: they are written as they were
REPAIR = "decode it with ffmpeg -i IN -c:v ffv1 -c:a copy OUT.mkv, which conceals damage, or end before it (--end)"


class _Damaged(Exception):
    """What was found, at the frame where it was."""


class _NotSought(Exception):
    """No keyframe is found exactly."""


def opened(path: Path) -> Any:
    """PyAV's container of a file; its FFmpeg errors pass up."""
    # "file:" as names may look like addresses; playlists may name files alone
    how = {"protocol_whitelist": "file,crypto,data"}
    return pyav().open(f"file:{path}", metadata_errors=UNDECODED, container_options=how)


def pictures(path: Path, index: int, begin: int | None = None, late: bool = False) -> Iterator[Any]:
    """Decoded frames (``av.VideoFrame``) of a stream in the order they are shown.

    Args:
        late: leave out what is shown before the first keyframe, as it refers to frames that were cut away.
        begin: the time (pts) from which on they are wanted: where seeking is exact, those before are left out.

    Raises:
        VideoError: at damage, and where the file ends early, after the frames before.
    """
    if begin is not None:
        found = _decoded(path, index, begin)
        try:
            first = next(found, None)
        except (_NotSought, _Damaged):
            pass
        else:
            if first is not None:
                yield first
                yield from _told(path, found, 1)
            return
    yield from _told(path, _decoded(path, index, late=late), 0)


def begins_late(path: Path, index: int) -> bool:
    """Whether the first frames refer to ones that are not there: the file was cut out of another without decoding."""
    for late in (False, True):
        found = _decoded(path, index, late=late)
        try:
            next(found, None)
            return late
        except _Damaged:
            continue
        finally:
            found.close()
    return False


def time_of(path: Path, index: int, begin: int, count: int) -> int | None:
    """The pts of the frame that is shown ``count`` frames after the first one from ``begin`` on, without decoding.

    The first frame that is decoded at all must not be after ``begin``.

    One after the last where there are fewer. None where packets do not tell: times are missing, or packets are not
    frames one by one.
    """
    with opened(path) as container:
        stream = container.streams[index]
        if stream.codec_context.codec.canonical_name not in _ONE_EACH or container.format.name not in _EXACT:
            return None
        times: list[int] = []
        for packet in container.demux(stream):
            if packet.size and (packet.pts is None or packet.is_corrupt):
                return None
            if packet.size and not packet.is_discard and packet.pts >= begin:
                times.append(packet.pts)
            if len(times) > count + _REORDERED:
                break
    times.sort()
    if not times or any(a == b for a, b in pairwise(times)):
        return None
    return times[count] if count < len(times) else times[-1] + 1


def left_out(path: Path) -> list[tuple[float, float]]:
    """Between which times, in seconds, there are parts that FFmpeg cannot read and leaves out without an error.

    By its log while nothing is decoded: decoders log from threads of theirs, which Python's lock would stop for good.
    """
    found, last = [], 0.0
    with opened(path) as container:
        if container.format.name != _SKIPS:
            return []
        logging = pyav().logging
        level, skip = logging.get_level(), logging.get_skip_repeated()
        logging.set_level(logging.ERROR)
        logging.set_skip_repeated(False)  # of the same words in another file, too
        try:
            with logging.Capture(local=False) as said:
                for packet in container.demux():
                    now = last if packet.pts is None else float(packet.pts * packet.time_base)
                    if any(name == _SKIPS for _, name, _ in said):
                        if packet.size and not packet.is_corrupt:  # else it ends here, which is seen by decoding
                            found.append((last, max(last, now)))
                        said.clear()
                    last = now
        finally:
            logging.set_level(level)
            logging.set_skip_repeated(skip)
    return found


def _told(path: Path, frames: Iterator[Any], good: int) -> Iterator[Any]:
    """What is damaged, in words for people."""
    last = None
    try:
        for frame in frames:
            good, last = good + 1, frame.time
            yield frame
    except _Damaged as error:
        until = "" if last is None else f", up to {last:.3f} s"
        raise VideoError(f"{path}: {error} after {good} good frame{'s' * (good != 1)}{until}; {REPAIR}") from None


def _decoded(path: Path, index: int, begin: int | None = None, late: bool = False) -> Generator[Any]:
    """All, or those from ``begin`` on, found by seeking."""
    errors = pyav().FFmpegError
    packets, end = 0, Fraction(-1)
    with opened(path) as container:
        stream = container.streams[index]
        if begin is not None and not _sought(container, stream, begin):
            raise _NotSought
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"err_detect": "explode"}  # else wrong parts are guessed, without a word
        total = _total(container, stream)
        try:
            # without a length of its own the video is as long as the file, whose other streams may be longer
            read = container.demux(stream) if total else container.demux()
            # followers of a keyframe that are shown before it refer to frames before it
            for packet in read if begin is None and not late else _late(read, stream):
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream.index != index:  # not packet.stream_index: the last one, which is empty, has none
                    continue
                packets += packet.size > 0
                if packet.is_corrupt:
                    raise _Damaged("it is cut off or damaged")
                for frame in packet.decode():
                    early = begin is not None and frame.pts is not None and frame.pts < begin
                    if frame.is_corrupt and not early:
                        raise _Damaged("a damaged frame")
                    if not early:
                        yield frame
        except errors as error:
            raise _Damaged(f"it is damaged, or encrypted ({error.strerror})") from None
        counted = packets if begin is None and not late else None
        short = _short(path, container, stream, counted, end, total)
        if packets and short:
            raise _Damaged(short)


def _late(packets: Iterator[Any], stream: Any) -> Iterator[Any]:
    """Less those of a stream that are not shown after its first keyframe."""
    first: int | None = None
    for packet in packets:
        if packet.stream.index == stream.index and packet.size:
            if first is None and packet.is_keyframe:
                first = packet.pts or 0
            if first is None or (packet.pts is not None and packet.pts < first):
                continue
        yield packet


def _sought(container: Any, stream: Any, begin: int) -> bool:
    """Move to a keyframe shown at ``begin`` or before; False, at an unknown place, if none is found."""
    first = stream.start_time
    if container.format.name not in _EXACT:
        return False
    for back in _BACK:
        target = begin - int(back / stream.time_base)
        if first is not None and target <= first:
            return False
        try:
            container.seek(target, stream=stream)
            packet = next((p for p in container.demux(stream) if p.size), None)
            if packet is not None and packet.is_keyframe and packet.pts is not None and packet.pts <= begin:
                container.seek(target, stream=stream)
                return True
        except pyav().FFmpegError:
            return False
    return False


def _total(container: Any, stream: Any) -> Fraction | None:
    """When the stream ends, in seconds, if the container says it of the stream."""
    if container.format.name == "avi":  # in frames, also those that are left out; a duration is of what is there
        return stream.frames * stream.time_base or None
    if stream.duration:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    return seconds(stream.metadata["DURATION"]) if "DURATION" in stream.metadata else None


def _short(
    path: Path, container: Any, stream: Any, packets: int | None, end: Fraction, total: Fraction | None
) -> str | None:
    """What is missing at the end, by what the container says of the whole."""
    name = container.format.name
    if packets is not None and "mp4" in name and packets < len(stream.index_entries):
        return f"it ends early ({packets} of {len(stream.index_entries)} frames)"
    step = 1 / Fraction(stream.average_rate or 25)
    allowed = step + Fraction(1, 2)
    if missing_bytes(path):
        allowed = step * Fraction(3, 4)
        if total is None:
            return "it is cut off"
    if total is None and container.duration:
        total = Fraction((container.start_time or 0) + container.duration, 1_000_000)
    if total is not None and end + allowed < total:
        return f"it ends early ({float(end):.3f} of {float(total):.3f} s)"
    return None


def seconds(text: str) -> Fraction | None:
    """Of Matroska's text, such as 00:00:02.400000000."""
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    except ValueError:
        return None


def missing_bytes(path: Path) -> int:
    """How many a Matroska or RIFF (AVI) file lacks of what its beginning says; 0 where it does not say."""
    with path.open("rb") as file:
        head = file.read(512)
    there = path.stat().st_size
    if head[:4] == b"RIFF":
        return max(0, 8 + int.from_bytes(head[4:8], "little") - there)
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return 0

    def number(at: int) -> tuple[int | None, int]:
        """An element's size and where it ends; None: unknown."""
        length = 9 - head[at].bit_length()
        value = int.from_bytes(head[at : at + length], "big") & (1 << 7 * length) - 1
        return (None if value == (1 << 7 * length) - 1 else value), at + length

    try:
        size, at = number(4)
        at += size or 0
        if head[at : at + 4] != b"\x18\x53\x80\x67":  # the segment
            return 0
        size, at = number(at + 4)
    except IndexError:
        return 0
    return 0 if size is None else max(0, at + size - there)
