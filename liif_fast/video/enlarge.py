"""A video in, a larger one out: read, computed and encoded side by side, by parts that a later run goes on with."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base import atomic
from ..base.version import VERSION
from ..models import heap
from . import encoding, muxing, outputs, raw
from .handing import in_thread
from .kinds import Facts, Frame, VideoError
from .options import Plan, VideoOptions, plan
from .outputs import STREAM
from .segments import SEGMENT, Segments
from .source import open_source

# On these the parts depend. Tiles change no more than int8's rounding: where memory was short a smaller one goes on.
_DECIDE = ("scale", "size", "window", "start", "end", "codec", "crf", "preset", "pixel_format", "point")


@dataclass
class VideoResult:
    """What has been written."""

    input: str
    output: str
    in_size: tuple[int, int]  # width, height, as displayed
    out_size: tuple[int, int]
    frames: int = 0  # of the whole output
    resumed: int = 0  # of these, frames of an earlier run
    frames_reused: int = 0  # not computed again, being unchanged
    tiles: int = 0
    tiles_reused: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Frames a second of this run."""
        return (self.frames - self.resumed) / max(self.seconds, 1e-9)


def enlarge_video(
    load: Callable[[], tuple[Any, torch.dtype]],
    source: str | Path,
    output: str | Path,
    options: VideoOptions,
    *,
    progress: Callable[[float, float, str], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> VideoResult:
    """Enlarge a video file, or raw frames from standard input, to a file, or to raw frames on standard output.

    Args:
        load: gives the model and the dtype of its computation; called once all that can be known before is in order.
        source: a file; "-": standard input.
        output: a file, whose suffix says the container; "-": standard output.
        progress: called with the frames that are done, how many there are (0: not known), and the source's name.
        say: called with one line of what is kept when the work ends early.

    Raises:
        VideoError: it cannot be done, and what to do. Nothing half-written is left but whole parts of the work, beside
            the output, which ``options.resume`` goes on with.
    """
    begun = time.perf_counter()
    with outputs.errors_as_lines(output):
        outputs.check(source, output, options.overwrite)
        given = {name: getattr(options, name) for name in ("input_size", "input_format", "input_rate")}
        with open_source(source, **given) as opened:
            run = _Run(load, opened, Path(source), options, progress or (lambda *_: None), say or (lambda _: None))
            result = run.to_stream() if os.fspath(output) == STREAM else run.to_file(Path(output))
    result.seconds = time.perf_counter() - begun
    result.input, result.output = str(source), str(output)
    result.notes = list(dict.fromkeys(result.notes))
    return result


class _Run:
    """What the ways of writing share."""

    def __init__(
        self,
        load: Callable[[], tuple[Any, torch.dtype]],
        opened: Any,
        source: Path,
        options: VideoOptions,
        progress: Callable[[float, float, str], None],
        say: Callable[[str], None],
    ) -> None:
        self.load, self.opened, self.source, self.options = load, opened, source, options
        self.progress, self.say = progress, say
        self.facts: Facts = opened.facts
        self.again = source.is_file()  # what comes through a pipe does not come again

    def to_file(self, output: Path) -> VideoResult:
        container = encoding.container_of(output)
        choice = encoding.choose(self.facts, self.options, container)
        made = plan(self.facts, self.options, choice.steps, choice.whole)
        how = encoding.Encoding(choice, made.size, made.sample_aspect, self.facts.rate)
        source, video = (None, 0) if self.opened.container is None else (self.source, self.opened.stream.index)
        job = muxing.Job(source, video, output, container, how, self.facts, self.options)
        result = self._result(made, [*choice.notes, *muxing.check(job)])
        model, dtype = self.load()
        with Segments(output) as segments:
            try:
                resumed = segments.begin(self._made_of(model, dtype), self.options.resume)
                if self.options.resume and not resumed:
                    result.notes.append("there was nothing to go on with: it is begun anew")
                self._encode(model, dtype, made, how, segments, result)
                if not result.frames:
                    raise VideoError(f"{self.source}: no frames in this part of it: see --start and --end")
                with atomic.replacing(output, overwrite=self.options.overwrite, sync=True) as scratch:
                    result.notes += muxing.write(job, segments, scratch)
            except BaseException:
                self._tell_kept(segments)
                raise
            segments.remove()
        return result

    def to_stream(self) -> VideoResult:
        made, facts, how = plan(self.facts, self.options), self.facts, self.options
        notes = ["raw frames have no times: they come at an even rate, without sound"]
        if facts.rotation % 360:
            notes.append(
                f"raw frames are not turned: they come as stored, to be shown turned by {facts.rotation} degrees"
            )
        y4m = how.output_format == "y4m"
        written = (how.pixel_format or "yuv420p") if y4m else how.output_format
        if facts.bits > 8 and not written.endswith("le"):
            cure = "--pixel-format yuv420p10le" if y4m else "--output-format rgb48le"
            notes.append(f"raw frames in {written} have 8 bits, the video has {facts.bits}: {cure} keeps them")
        result = self._result(made, notes)
        model, dtype = self.load()

        def write(frames: Iterator[Frame]) -> None:
            with open(sys.stdout.fileno(), "wb", closefd=False) as stream:
                writer = raw.RawWriter(
                    stream, how.output_format, *made.size[::-1], facts.rate, made.sample_aspect, facts.colours,
                    how.pixel_format or "yuv420p",
                )  # fmt: skip
                for frame in frames:
                    writer.write(frame.pixels)
                writer.close()

        self._stream(model, dtype, made, result, write, lambda pixels: pixels)
        return result

    def _result(self, made: Plan, notes: list[str]) -> VideoResult:
        sizes = (self.facts.width, self.facts.height), made.size[::-1]
        shown = [size[::-1] if self.facts.rotation % 180 == 90 else size for size in sizes]
        return VideoResult("", "", shown[0], shown[1], notes=[*self.facts.notes, *made.notes, *notes])

    def _encode(
        self,
        model: Any,
        dtype: torch.dtype,
        made: Plan,
        how: encoding.Encoding,
        segments: Segments,
        result: VideoResult,
    ) -> None:
        """The parts that are still to be made."""
        there = segments.done()
        result.frames = result.resumed = len(segments.times())
        if result.frames % SEGMENT:
            return  # the last part is there, too

        def write(frames: Iterator[Frame]) -> None:
            for k in itertools.count(there):
                if (first := next(frames, None)) is None:
                    return
                segments.write(k, itertools.chain([first], itertools.islice(frames, SEGMENT - 1)), how)
                gc.collect()  # PyAV's streams and containers hold each other, and an encoder tens of frames
                heap.trim()

        self._stream(model, dtype, made, result, write, how.picture)

    def _stream(
        self,
        model: Any,
        dtype: torch.dtype,
        made: Plan,
        result: VideoResult,
        write: Callable[[Iterator[Frame]], None],
        picture: Callable[[np.ndarray], Any],
    ) -> None:
        """Enlarges the frames from the ``result.frames``-th on, and has a thread write what ``picture`` makes of them:
        that takes as long as a quick encoder, and has this thread, which else would wait."""
        options, times = self.options, deque[tuple[int, int]]()
        total, name = self._total(), str(self.source)

        def pixels() -> Iterator[Any]:
            for frame in self.opened.frames(options.start, options.end, skip=result.resumed):
                times.append((frame.pts, frame.duration))
                yield frame.pixels

        large = model.stream(
            pixels(), size=made.size, window=made.window, point=options.point, tile=options.tile, dtype=dtype,
            reuse=options.reuse, refresh=SEGMENT,
        )  # fmt: skip

        def enlarged() -> Iterator[Frame]:
            for pixels in large:
                result.frames += 1
                self.progress(result.frames, max(total, result.frames) if total else 0, name)
                yield Frame(picture(pixels), *times.popleft())

        self.progress(result.frames, total, name)
        try:
            in_thread(enlarged(), write)
        finally:
            large.close(patience=None)  # the source is closed next
        result.frames_reused, result.tiles, result.tiles_reused = large.frames_reused, large.tiles, large.tiles_reused

    def _total(self) -> int:
        """How many frames there will be, about; 0 if that is not known."""
        facts, options = self.facts, self.options
        if options.start is None and options.end is None:
            return facts.frames or 0
        end = options.end if facts.frames is None else min(options.end or math.inf, float(facts.frames / facts.rate))
        return 0 if end is None else max(1, math.ceil((end - (options.start or 0)) * facts.rate))

    def _made_of(self, model: Any, dtype: torch.dtype) -> dict[str, Any]:
        there = os.stat(self.source) if self.again else None
        made_of = {
            "version": VERSION,
            "source": there and [os.path.realpath(self.source), there.st_size, there.st_mtime_ns],
            "model": _hash(model),
            "dtype": str(dtype).removeprefix("torch."),
            "device": next((p.device.type for p in model.parameters()), "cpu"),
            **{name: getattr(self.options, name) for name in _DECIDE},
        }
        return json.loads(json.dumps(made_of))

    def _tell_kept(self, segments: Segments) -> None:
        if not self.again:
            segments.remove()
        elif done := len(segments.times()):
            self.say(f"{done} frames are kept in {segments.folder}: the same command with --resume goes on from there")


def _hash(model: Any) -> str:
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        if isinstance(value, torch.Tensor):
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
