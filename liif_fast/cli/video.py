"""``liif-fast video``: what its arguments mean, and what it says."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
from dataclasses import asdict, fields
from typing import Any

from ..images import finding
from ..video.enlarge import VideoResult, enlarge_video
from ..video.options import VideoOptions
from ..video.outputs import STREAM
from . import common, reporting
from .errors import UsageError
from .upscale import tile


def run(args: argparse.Namespace) -> int:
    """Enlarge a video as the arguments say; returns the exit code."""
    source, options = _source(args), _options(args)
    if importlib.util.find_spec("av") is None:
        raise UsageError("videos need PyAV: pip install 'av>=18,<19'")
    common.device(args.device)
    with reporting.Progress("frame") as bar:

        def say(text: str) -> None:
            with bar.aside():
                reporting.say(text)

        def load() -> Any:
            with bar.aside():
                return common.load(args)

        result = enlarge_video(load, source, args.output, options, progress=bar.to, say=say)
    _report(result, args)
    return 0


def _report(result: VideoResult, args: argparse.Namespace) -> None:
    if args.json:
        reporting.result(json.dumps({**asdict(result), "frames_per_second": result.rate}))
    for note in result.notes:
        reporting.say(f"note: {result.input}: {note}")
    if args.json:
        return
    (w, h), (ow, oh) = result.in_size, result.out_size
    computed = result.frames - result.resumed
    text = f"{result.output}: {w}x{h} -> {ow}x{oh}, {result.frames} frames"
    if result.resumed:
        text += f", {result.resumed} of them from before"
    text += f" at {result.rate:.1f} a second in {reporting.duration(result.seconds)}"
    kept = []
    if result.frames_reused:
        kept.append(f"{result.frames_reused:,} of {computed:,} frames")
    if result.tiles_reused:
        kept.append(f"{result.tiles_reused:,} of {result.tiles:,} tiles")
    if kept:
        text += f"; {' and '.join(kept)} unchanged, not computed again"
    (reporting.say if args.output == STREAM else reporting.result)(text)


def _source(args: argparse.Namespace) -> str:
    """The one input; UsageError where there is none, or it is no video for certain."""
    inputs = [*args.inputs, *([] if args.input is None else [args.input])]
    if len(inputs) == 2 and args.output is None and os.path.isfile(inputs[0]) and not os.path.lexists(inputs[1]):
        raise UsageError(f"{inputs[1]}: no such file; if this is to be the result, -o {inputs[1]}")
    if len(inputs) != 1:
        raise UsageError(f"IN: one video is wanted, got {len(inputs)}: liif-fast video clip.mp4 -o large.mp4 -s 2")
    source = inputs[0]
    if not source or args.output == "":
        raise UsageError("IN and -o: names of files are wanted, got an empty one")
    if args.output is None:
        raise UsageError("-o OUT: a file for the result is wanted, e.g. -o large.mp4")
    if args.input_format == "y4m":  # is seen by itself
        args.input_format = None
    if source == STREAM:
        if args.resume:
            raise UsageError("--resume: what came on standard input does not come again; leave it out")
        if sys.stdin is None or sys.stdin.isatty():
            what = "closed" if sys.stdin is None else "a terminal"
            raise UsageError(f"-i -: standard input is {what}; write frames to it: ffmpeg ... | liif-fast")
        return source
    for name in ("input_size", "input_format", "input_rate"):
        if getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')}: is for raw frames on standard input: -i -")
    if os.path.isdir(source):
        raise UsageError(f"{source}: is a folder; give one video: liif-fast video clip.mp4 -o large.mp4 -s 2")
    if not os.path.lexists(source):
        raise UsageError(f"{source}: no such file")
    if os.path.splitext(source)[1].lower() in finding.suffixes():
        raise UsageError(f"{source}: is a picture: liif-fast upscale {source}")
    return source


def _options(args: argparse.Namespace) -> VideoOptions:
    if args.scale is None and args.size is None:
        raise UsageError("--scale or --size is wanted, e.g. --scale 2 or --size 1080p")
    if args.scale is not None and not (math.isfinite(args.scale) and args.scale > 0):
        raise UsageError(f"--scale {args.scale:g}: a number above 0 is wanted")
    if args.max_output_pixels < 1:
        raise UsageError(f"--max-output-pixels {args.max_output_pixels}: a number above 0 is wanted")
    if args.end is not None and args.end <= (args.start or 0):
        raise UsageError(f"--end {args.end:g}: a time behind --start {args.start or 0:g} is wanted")
    if args.crf is not None and not (math.isfinite(args.crf) and args.crf >= 0):
        raise UsageError(f"--crf {args.crf:g}: a number from 0 on is wanted, e.g. 18")
    if args.output == STREAM:
        _check_stdout(args)
    given = {each.name: getattr(args, each.name) for each in fields(VideoOptions)}
    return VideoOptions(**{**given, "tile": tile(args.tile)})


def _check_stdout(args: argparse.Namespace) -> None:
    if args.json:
        raise UsageError("--json: standard output takes the frames; give them a file by -o")
    if args.resume:
        raise UsageError("--resume: what went to standard output is gone; leave it out")
    if sys.stdout is None or sys.stdout.isatty():
        what = "closed" if sys.stdout is None else "a terminal"
        raise UsageError(f"-o -: standard output is {what}; give -o FILE, or | a program behind the command")
