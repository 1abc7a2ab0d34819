"""``liif-fast upscale``: what its arguments mean, and what it says of each file."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import distributed
from ..head import library
from ..images import files as images
from ..upscaling.files import Options, Result, upscale_files
from . import common, reporting
from .arguments import SCALE
from .errors import UsageError
from .spellings import Size

# pip keeps a wheel without kernels otherwise, and would install torch again
_REBUILD = (
    "with a C++ compiler, pip install --no-cache-dir --force-reinstall --no-deps --no-build-isolation . makes them"
)


def run(args: argparse.Namespace) -> int:
    """Upscale as the arguments say; returns the exit code."""
    if args.scale is None and not (args.size or args.fit or args.fill):
        args.scale = SCALE
        if not distributed.rank():
            reporting.say(f"note: x{SCALE:g}, as neither --scale nor --size, --fit or --fill is given")
    options = _options(args)
    common.device(args.device)
    failed = skipped = 0
    with reporting.Progress("file", alone=True) as bar:

        def say(text: str) -> None:
            with bar.aside():
                reporting.say(text)

        def load() -> Any:
            with bar.aside():
                found = common.load(args)
                if library.status.startswith("not built") and found[0].device.type == "cpu":
                    reporting.say(f"note: plain PyTorch computes, more slowly than compiled kernels would: {_REBUILD}")
                return found

        for result in upscale_files(
            load,
            args.inputs,
            args.output,
            options,
            recursive=args.recursive,
            progress=bar.to,
            share=(distributed.rank(), distributed.world()),
            say=say,
        ):
            failed += result.error is not None
            skipped += result.status == "exists" and result.error is None
            with bar.aside():
                _report(result, args)
    if skipped:
        reporting.say(f"note: {skipped} skipped: their results are there")
    return 1 if failed else 0


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
    elif not args.json and result.status == "done":
        sizes: Any = result.in_size, result.out_size  # there where no error is
        (w, h), (ow, oh) = sizes
        reporting.result(f"{result.output}: {w}x{h} -> {ow}x{oh} in {result.seconds:.1f} s")


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
    _check_target(args)
    return Options(
        scale=args.scale,
        size=args.size or args.fit or args.fill,
        shape="fit" if args.fit else "fill" if args.fill else "exact",
        tile=_tile(args.tile),
        format=args.format,
        quality=args.quality,
        lossless=args.lossless,
        suffix=suffix,
        overwrite=args.overwrite,
        skip_existing=args.skip_existing,
        max_pixels=args.max_pixels,
        in_place=args.in_place,
        max_output_pixels=args.max_output_pixels,
    )


def _suffix(args: argparse.Namespace) -> str:
    """Of names without -o and --suffix: what the result is."""
    if args.output is not None or args.in_place:
        return ""
    if args.scale is not None:
        return f"_x{args.scale:g}"
    size: Size = args.size or args.fit or args.fill
    kind = "fit" if args.fit else "fill" if args.fill else ""
    return f"_{kind}{'x'.join('' if n is None else str(n) for n in size)}"


def _check_target(args: argparse.Namespace) -> None:
    """-o must fit the inputs and --format."""
    if args.output == "" or not all(args.inputs):  # an empty variable in a script; Path("") is the current folder
        raise UsageError("INPUT and -o: names of files or folders are wanted, got an empty one; . is this folder")
    for name in (*args.inputs, args.output or ""):
        if re.match(r"(https?|ftp|s3|gs)://", name, re.IGNORECASE):
            raise UsageError(f"{name}: this is a web address, files are wanted; download it first")
    if args.output is None:
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


def _tile(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise UsageError(f"--tile {text}: auto, 0 or a number of pixels is wanted")
    return text if text == "auto" else int(text)
