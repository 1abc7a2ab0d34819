"""The finished parts and what else the source holds, in one file: sound, subtitles, chapters, titles, as they are."""

from __future__ import annotations

import contextlib
import heapq
import io
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from . import colour
from .decoding import UNDECODED, opened
from .encoding import Encoding, why_not
from .kinds import Facts, VideoError
from .options import VideoOptions
from .segments import Segments, writing

# what a file says of itself, which the new one says anew; a timecode would make a track of its own
_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "bps", "number_of_frames",
        "number_of_bytes", "timecode", "vendor_id"}  # fmt: skip
_KEPT = {"audio": "audio", "subtitle": "subtitles", "attachment": "subtitles"}  # by which option
_TRIED = 64  # packets, by which the container is known to hold their streams
_LIBAV = Fraction(1, 1_000_000)


class Job(NamedTuple):
    """What is written, out of what."""

    source: Path | None  # None: there is nothing but frames
    video: int  # number of the source's stream that is enlarged
    output: Path
    container: str
    encoding: Encoding
    facts: Facts
    options: VideoOptions


class _Part(NamedTuple):
    """Of the source's time, in seconds: from ``first`` on and before ``end``; all becomes earlier by ``shift``."""

    shift: Fraction
    first: Fraction | None
    end: Fraction | None


def check(job: Job) -> list[str]:
    """See that the encoder can be opened and that the container can hold all streams; returns what is left out.

    Raises:
        VideoError: they cannot, and what to do.
    """
    import av

    sample = job.encoding.sample_aspect
    if sample != 1 and job.container in ("matroska", "webm") and not job.encoding.says_sample_aspect:
        raise VideoError(
            f"{job.output}: this codec's pixels of {sample.numerator}:{sample.denominator} cannot be told here; choose "
            ".mp4 or .mov, or one side of --size alone for square ones"
        )
    with _source(job) as source:
        out = av.open(io.BytesIO(), "w", format=job.container, metadata_errors=UNDECODED)
        video = job.encoding.add_to(out)
        try:
            video.codec_context.open(strict=False)
        except (av.FFmpegError, ValueError) as error:
            raise why_not(job.encoding, error) from error
        notes = [] if source is None else _left_out(source, job)
        others = {} if source is None else _add_others(out, source, job)
        try:
            out.start_encoding()
            if others:  # what some are refused for is found at their first packets, or at the end
                tried = _other_packets(source, others, _Part(Fraction(0), None, None))
                for _, packet in itertools.islice(tried, _TRIED):
                    out.mux_one(packet)
            out.close()
        except (av.FFmpegError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise VideoError(
                f"{job.output}: {job.container} cannot hold these streams together ({why}); choose .mkv"
            ) from error
    return notes


def write(job: Job, segments: Segments, file: str) -> list[str]:
    """Write all into ``file``; returns what is to be said of it.

    Raises:
        VideoError: the container cannot hold it after all. OSError: the disk is full, or the like.
    """
    import av

    times, unit = segments.times(), job.facts.time_base
    with _source(job) as source, writing(file, job.container) as out:
        with segments.opened(0) as first:
            video = out.add_stream_from_template(first.streams.video[0], opaque=True)
        context = video.codec_context
        video.time_base, context.framerate = unit, job.facts.rate
        if context.name == "hevc" and job.container in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # what Apple's players want
        context.sample_aspect_ratio = job.encoding.sample_aspect
        colour.tags(job.encoding.choice.colours, context)
        if job.facts.rotation:
            video.set_display_rotation(job.facts.rotation)
        part = _part(job, source, times)
        others: dict[int, Any] = {}
        if source is not None:
            out.metadata.update(_titles(source.metadata))
            shown = source.streams[job.video]
            video.metadata.update(_titles(shown.metadata))
            video.disposition = shown.disposition
            others = _add_others(out, source, job)
            out.set_chapters(_chapters(source, part))
        try:
            out.start_encoding()
            starts = [pts * unit - part.shift for pts, _ in times]
            ends = [start + duration * unit for start, (_, duration) in zip(starts, times, strict=True)]
            streams = [_video_packets(segments, video, starts, ends)]
            if source is not None and others:
                streams.append(_other_packets(source, others, part))
            for _, packet in heapq.merge(*streams, key=lambda found: found[0]):
                out.mux_one(packet)
        except av.FFmpegError as error:
            if error.errno in (0, None) or not isinstance(error, ValueError):
                raise
            raise VideoError(f"{job.output}: {job.container} cannot hold it ({error.strerror}); choose .mkv") from error
        tick = video.time_base
    late = _first_time(file) - starts[0]
    lost = max(abs(_ticks(start, tick) * tick - start) for start in starts)
    notes = []
    if lost:
        ms = float(1000 * lost)
        notes.append(
            f"{job.container} counts time by 1/{round(1 / tick)} s: frames are up to {ms:.2g} ms off; .mp4: none"
        )
    if late > 2 * tick:
        notes.append(
            f"{job.container} holds no time before 0, where its sound begins: all is {float(late):.3f} s later"
        )
    if part.shift and part.first is None:
        notes.append(f"its time begins at 0, the source's at {float(part.shift):.3f} s")
    return notes


def _first_time(file: str) -> Fraction:
    """Of the first frame, as the file has it."""
    with opened(Path(file)) as container:
        packet = next(container.demux(container.streams.video[0]))
        return packet.pts * packet.time_base


@contextlib.contextmanager
def _source(job: Job) -> Iterator[Any]:
    if job.source is None:
        yield None
        return
    with opened(job.source) as container:
        yield container


def _left_out(source: Any, job: Job) -> list[str]:
    notes = []
    for stream in source.streams:
        option = _KEPT.get(stream.type)
        name = f"stream {stream.index} ({stream.type}, {_codec(stream)})"
        if option is not None and not getattr(job.options, option):
            notes.append(f"{name} is left out: --no-{option}")
        elif stream.type == "data" and _codec(stream) == "bin_data" and source.chapters():
            pass  # MP4's chapters, once more
        elif option is None and stream.index != job.video:
            notes.append(f"{name} is left out: only one video, sound and subtitles are kept")
    return notes


def _codec(stream: Any) -> str:
    context = stream.codec_context
    return (context.name if context is not None else getattr(stream, "name", None)) or "unknown"


def _add_others(out: Any, source: Any, job: Job) -> dict[int, Any]:
    """The output's streams of the source's, by the source's index."""
    import av

    found = {}
    for stream in source.streams:
        option = _KEPT.get(stream.type)
        if option is None or not getattr(job.options, option):
            continue
        try:
            new = out.add_stream_from_template(stream, opaque=True)
        except (av.FFmpegError, ValueError) as error:
            other = ".mkv" if job.container != "matroska" else job.source.suffix if job.source else ".mp4"
            raise VideoError(
                f"{job.output}: {job.container} cannot hold the source's stream {stream.index} "
                f"({stream.type}, {_codec(stream)}); choose {other}, or leave it out by --no-{option}"
            ) from error
        new.metadata.update(_titles(stream.metadata))
        new.disposition = stream.disposition
        if stream.type != "attachment":
            found[stream.index] = new
    return found


def _titles(metadata: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in metadata.items() if k.lower() not in _OWN and not k.startswith("_STATISTICS")}


def _part(job: Job, source: Any, times: list[tuple[int, int]]) -> _Part:
    unit = job.facts.time_base
    end = None
    if job.options.end is not None:  # to the last frame's end, or further where the sound is longer
        begin = 0 if source is None else (source.start_time or 0) * _LIBAV
        end = max((times[-1][0] + times[-1][1]) * unit, begin + Fraction(job.options.end))
    if job.options.start is not None:
        first = times[0][0] * unit
        return _Part(first, first, end)
    # of broadcasts: their time begins anywhere
    if source is not None and source.format.name.startswith("mpeg"):
        starts = [s.start_time * s.time_base for s in source.streams if s.start_time is not None and s.time_base]
        return _Part(max(Fraction(0), min(starts, default=Fraction(0))), None, end)
    return _Part(Fraction(0), None, end)


def _chapters(source: Any, part: _Part) -> list[Any]:
    found = []
    for chapter in source.chapters():
        unit = chapter["time_base"] or _LIBAV
        start, end = chapter["start"], chapter["end"]
        if part.first is not None:
            start = max(start, _ticks(part.first, unit))
        if part.end is not None:
            end = min(end, _ticks(part.end, unit))
        if start < end:
            moved = _ticks(part.shift, unit)
            found.append({**chapter, "time_base": unit, "start": start - moved, "end": end - moved})
    return found


def _ticks(seconds: Fraction, unit: Fraction) -> int:
    return round(seconds / unit)


def _video_packets(
    segments: Segments, stream: Any, starts: list[Fraction], ends: list[Fraction]
) -> Iterator[tuple[Fraction, Any]]:
    """(time of decoding, packet): each with its own frame's time; decoded as early as the order asks, not earlier."""
    tick, ahead = stream.time_base, segments.reordered()
    pts = [_ticks(start, tick) for start in starts]
    # as far before the first frame as the last decoding is before the last one: so no length is lost in MP4
    lead = max(ahead, pts[-1] - pts[max(0, len(pts) - 1 - ahead)])
    extradata = None
    for k, (i, packet) in enumerate(segments.packets()):
        if (made := packet.stream.codec_context.extradata) != extradata:
            if extradata is not None:
                raise VideoError("the parts were encoded in different ways; run it again without --resume")
            extradata = made
        packet.stream = stream
        packet.time_base = tick
        packet.pts, packet.duration = pts[i], _ticks(ends[i], tick) - pts[i]
        packet.dts = pts[k - ahead] if k >= ahead else pts[0] - lead * (ahead - k) // ahead
        yield packet.dts * tick, packet


def _other_packets(source: Any, streams: dict[int, Any], part: _Part) -> Iterator[tuple[Fraction, Any]]:
    begins: dict[int, int] = {}
    # Matroska keeps no durations of packets, of which the last may be shorter than all others
    most = source.duration * _LIBAV if "matroska" in source.format.name and source.duration else None
    for packet in source.demux([source.streams[i] for i in streams]):
        stream = packet.stream
        if packet.pts is None and packet.dts is None:  # the last, which is empty
            continue
        unit = packet.time_base
        pts = packet.dts if packet.pts is None else packet.pts
        begin = min(0, begins.setdefault(stream.index, pts))
        if most is not None and packet.duration and 0 < (left := _ticks(most, unit) + begin - pts) < packet.duration:
            packet.duration = left
        if part.end is not None and pts * unit >= part.end:
            continue
        if part.first is not None and pts * unit < part.first:
            over = _ticks(part.first, unit) - pts
            if stream.type != "subtitle" or (packet.duration or 0) <= over:
                continue
            packet.duration -= over  # words that are still to be read
            packet.pts = packet.dts = pts + over
        moved = _ticks(part.shift, unit)
        for name in ("pts", "dts"):
            if (time := getattr(packet, name)) is not None:
                setattr(packet, name, time - moved)
        time = packet.pts if packet.dts is None else packet.dts
        packet.stream = streams[stream.index]
        yield time * unit, packet
