"""``liif-fast upscale``: what its arguments mean, and what it says of each file."""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import distributed
from ..head import library
from ..images import files as images
from ..upscaling import estimate, streams, watching
from ..upscaling.files import upscale_files, upscale_found
from ..upscaling.options import Options
from ..upscaling.results import Result
from . import common, reporting
from .arguments import SCALE
from .errors import UsageError
from .spellings import Size

Load = Callable[[], Any]  # gives the model and the dtype of its computation


def run(args: argparse.Namespace) -> int:
    """Upscale as the arguments say; returns the exit code."""
    if args.scale is None and not (args.size or args.fit or args.fill):
        args.scale = SCALE
        if not distributed.rank():
            reporting.say(f"note: x{SCALE:g}, as neither --scale nor --size, --fit or --fill is given")
    options = _options(args)
    common.device(args.device)
    if args.watch:
        return _watch(args, options)
    if args.dry_run and distributed.rank():
        return 0  # the first one tells of all files
    share = (0, 1) if args.dry_run else (distributed.rank(), distributed.world())

    def start(load: Load, **how: Any) -> Iterator[Result]:
        return upscale_files(load, args.inputs, args.output, options, recursive=args.recursive, share=share, **how)

    failed, planned = _done(args, start, functools.partial(_load, args))
    if args.dry_run:
        _tell_total(planned, args)
    return 1 if failed else 0


def _load(args: argparse.Namespace) -> Any:
    found = common.load(args)
    if found[0].device.type == "cpu":
        library.tell()  # before the first picture, and beside the bar
    return found


def _done(args: argparse.Namespace, start: Callable[..., Iterator[Result]], load: Load) -> tuple[bool, list[Result]]:
    """Says each result as it comes; whether any failed, and those that are only planned."""
    failed, skipped, planned = False, 0, []
    with reporting.Progress("file", alone=True) as bar:

        def say(text: str) -> None:
            with bar.aside():
                reporting.say(text)

        def load_aside() -> Any:
            with bar.aside():
                return load()

        for result in start(load_aside, progress=bar.to, say=say):
            failed |= result.error is not None
            skipped += result.status == "exists" and result.error is None
            if result.status == "planned":
                planned.append(result)
            with bar.aside():
                _report(result, args)
    if skipped:
        reporting.say(f"note: {skipped} skipped: their results are there")
    return failed, planned


def _watch(args: argparse.Namespace, options: Options) -> int:
    options = replace(options, skip_existing=not options.overwrite)
    folders, output = [Path(name) for name in args.inputs], None if args.output is None else Path(args.output)
    load = functools.cache(functools.partial(_load, args))
    load()  # what is wrong with it is said now
    failed, owners = False, dict[Path, Path]()
    reporting.say(f"watching {', '.join(args.inputs)}; Ctrl-C ends it")
    try:
        for found, others in watching.batches(folders, output, options, recursive=args.recursive, say=reporting.say):

            def start(load: Load, found: Any = found, others: Any = others, **how: Any) -> Iterator[Result]:
                return upscale_found(load, found, output, False, options, others=others, owners=owners, **how)

            failed |= _done(args, start, load)[0]
    except KeyboardInterrupt:
        reporting.say("stopped")
    return 1 if failed else 0


def _tell_total(planned: list[Result], args: argparse.Namespace) -> None:
    """What a dry run would make and how long that takes; only the latter needs the model."""
    tell = reporting.say if args.json else reporting.result
    read, made = (
        sum(r.pictures * math.prod(size) for r in planned if (size := getattr(r, name)))
        for name in ("in_size", "out_size")
    )
    megapixels = f"{made / 1e6:.1f}" if made > 1e6 else f"{made / 1e6:.2g}"
    tell(f"{len(planned)} file{'s' * (len(planned) != 1)} to do, {megapixels} megapixels")
    if planned:
        seconds = estimate.speed(*common.load(args)).seconds(read, made) / distributed.world()
        about = reporting.duration(max(1.0, seconds))
        tell(f"about {about}: an estimate by a small picture, without reading and writing the files")


def _report(result: Result, args: argparse.Namespace) -> None:
    if args.json:
        reporting.result(json.dumps(asdict(result)))
    for note in result.notes:
        reporting.say(f"note: {result.input}: {note}")
    if result.error is not None:
        if args.debug and result.exception is not None:
            reporting.trace(result.exception)
        named = " ".join(result.input.split()) in result.error
        reporting.say(f"error: {result.error}" if named else f"error: {result.input}: {result.error}")
    elif not args.json and result.status in ("done", "planned"):
        sizes: Any = result.in_size, result.out_size  # there where no error is
        (w, h), (ow, oh) = sizes
        if result.status == "planned":
            several = f", {result.pictures} times" if result.pictures > 1 else ""
            reporting.result(f"{result.input} -> {result.output}: {w}x{h} -> {ow}x{oh}{several}")
        else:
            tell = reporting.say if _to_stdout(args) else reporting.result
            tell(f"{result.output}: {w}x{h} -> {ow}x{oh} in {result.seconds:.1f} s")


def _options(args: argparse.Namespace) -> Options:
    if args.scale is not None and not (math.isfinite(args.scale) and args.scale > 0):
        raise UsageError(f"--scale {args.scale:g}: a number above 0 is wanted")
    for name in ("max_pixels", "max_output_pixels"):
        if (value := getattr(args, name)) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: a number above 0 is wanted")
    suffix = _suffix(args) if args.suffix is None else args.suffix
    if "/" in suffix or "\\" in suffix:
        raise UsageError(f"--suffix {suffix}: a part of a file's name is wanted, without / and \\")
    if args.skip_existing and (args.overwrite or args.in_place):
        raise UsageError("--skip-existing: not together with --overwrite or --in-place, which replace what is there")
    if args.quality is not None and not 1 <= args.quality <= 100:
        raise UsageError(f"--quality {args.quality}: 1 to 100 is wanted")
    if args.lossless and args.quality is not None:
        raise UsageError("--lossless: not together with --quality, which says how much may be lost")
    if args.format is not None:
        try:
            images.output_format(args.output or "", args.format)
        except images.ImageError as error:
            raise UsageError(f"--format: {error}") from error
    if args.watch:
        _check_watch(args, suffix)
    _check_streams(args)
    _check_target(args)
    return Options(
        scale=args.scale,
        size=args.size or args.fit or args.fill,
        shape="fit" if args.fit else "fill" if args.fill else "exact",
        window=args.window,
        point=args.point,
        tile=tile(args.tile),
        format=args.format,
        quality=args.quality,
        lossless=args.lossless,
        suffix=suffix,
        overwrite=args.overwrite,
        skip_existing=args.skip_existing,
        max_pixels=args.max_pixels,
        in_place=args.in_place,
        max_output_pixels=args.max_output_pixels,
        dry_run=args.dry_run,
    )


def _suffix(args: argparse.Namespace) -> str:
    """Of names without -o and --suffix: what the result is."""
    if args.output is not None or args.in_place:
        return ""
    part = "" if args.window is None else "_window"
    if args.scale is not None:
        return f"_x{args.scale:g}{part}"
    size: Size = args.size or args.fit or args.fill
    kind = "fit" if args.fit else "fill" if args.fill else ""
    return f"_{kind}{'x'.join('' if n is None else str(n) for n in size)}{part}"


def _check_target(args: argparse.Namespace) -> None:
    """-o must fit the inputs and --format."""
    if args.output == "" or not all(args.inputs):  # an empty variable in a script; Path("") is the current folder
        raise UsageError("INPUT and -o: names of files or folders are wanted, got an empty one; . is this folder")
    for name in (*args.inputs, args.output or ""):
        if re.match(r"(https?|ftp|s3|gs)://", name, re.IGNORECASE):
            raise UsageError(f"{name}: this is a web address, files are wanted; download it first")
    if args.output is None:
        _check_pair(args.inputs)
        return
    output = Path(args.output)
    try:
        named = images.output_format(output) if output.suffix and not os.path.isdir(output) else None
    except images.ImageError:
        named = None
    single = len(args.inputs) == 1 and not os.path.isdir(args.inputs[0])
    if named and not single:
        raise UsageError(f"-o {output}: several inputs need a folder, this is the name of one file")
    if named and args.format and images.output_format(output, args.format) != named:
        raise UsageError(f"-o {output}: its suffix says {named}, --format {args.format}: give one of them")


def _check_pair(inputs: list[str]) -> None:
    """``in.png out.png``, as other programs want it."""
    if len(inputs) != 2 or not os.path.isfile(inputs[0]) or os.path.lexists(inputs[1]):
        return
    try:
        images.output_format(inputs[1])
    except images.ImageError:
        return
    raise UsageError(f"{inputs[1]}: no such file; if this is to be the result, -o {inputs[1]}")


def _to_stdout(args: argparse.Namespace) -> bool:
    """Whether the picture goes there."""
    if args.output is None:
        return streams.STDIN in map(streams.input_path, args.inputs)
    return streams.output_path(args.output) == streams.STDOUT


def _check_streams(args: argparse.Namespace) -> None:
    """Standard input and output hold one picture each, and people do not read it."""
    single = len(args.inputs) == 1 and not os.path.isdir(args.inputs[0])
    to_stdout, from_stdin = _to_stdout(args), streams.STDIN in map(streams.input_path, args.inputs)
    if not (to_stdout or from_stdin):
        return
    if from_stdin and not single:
        raise UsageError(f"INPUT -: standard input goes alone, got {len(args.inputs)} inputs; run them one by one")
    if not single:
        raise UsageError("-o -: standard output takes one picture, several inputs need a folder")
    if args.in_place:
        raise UsageError("--in-place: standard input and output cannot be replaced; leave it out")
    if from_stdin and not to_stdout and (os.path.isdir(args.output) or not Path(args.output).suffix):
        raise UsageError(f"-o {args.output}: standard input has no name, so a file's is wanted, e.g. photo.png")
    if from_stdin and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("INPUT -: standard input is a terminal; give it a file: liif-fast - < photo.png > large.png")
    if to_stdout and not args.dry_run:
        if args.json:
            raise UsageError("--json: standard output takes the picture; give it a file by -o")
        if sys.stdout is None or sys.stdout.isatty():
            what = "closed" if sys.stdout is None else "a terminal"
            raise UsageError(f"-o -: standard output is {what}; give -o FILE, or > FILE behind the command")


def _check_watch(args: argparse.Namespace, suffix: str) -> None:
    for flag, why in (
        ("in_place", "results would be enlarged again and again"),
        ("dry_run", "it ends at once; leave one of them out"),
    ):
        if getattr(args, flag):
            raise UsageError(f"--watch: not together with --{flag.replace('_', '-')}: {why}")
    if wrong := [name for name in args.inputs if not os.path.isdir(name)]:
        raise UsageError(f"--watch {wrong[0]}: is no folder; give folders, which are there already")
    if not suffix and any(args.output is None or _same_folder(args.output, name) for name in args.inputs):
        raise UsageError("--watch: results beside the images are told by --suffix; give one, or another folder by -o")
    if _to_stdout(args):
        raise UsageError("--watch: results go into a folder or beside the images, not to standard output")
    if distributed.world() > 1:
        raise UsageError("--watch: not under torchrun; start it as one process")


def _same_folder(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def tile(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise UsageError(f"--tile {text}: auto, 0 or a number of pixels is wanted")
    return text if text == "auto" else int(text)
