"""``liif-fast upscale``: what its arguments mean, and what it says of each file."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import distributed
from ..images import files as images
from ..upscaling.files import Options, Result, upscale_files
from . import common, reporting
from .errors import UsageError


def run(args: argparse.Namespace) -> int:
    """Upscale as the arguments say; returns the exit code."""
    _options(args, None)  # usage errors before the model is loaded
    model, dtype = common.load(args)
    options = _options(args, dtype)
    failed = 0
    with reporting.Progress("file", alone=True) as bar:

        def say(text: str) -> None:
            with bar.aside():
                reporting.say(text)

        for result in upscale_files(
            model,
            args.inputs,
            args.output,
            options,
            recursive=args.recursive,
            progress=bar.to,
            share=(distributed.rank(), distributed.world()),
            say=say,
        ):
            failed += result.error is not None
            with bar.aside():
                _report(result, args)
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
    elif not args.json:
        sizes: Any = result.in_size, result.out_size  # there where no error is
        (w, h), (ow, oh) = sizes
        reporting.result(f"{result.output}: {w}x{h} -> {ow}x{oh} in {result.seconds:.1f} s")


def _options(args: argparse.Namespace, dtype: Any) -> Options:
    if args.scale is not None and not (math.isfinite(args.scale) and args.scale > 0):
        raise UsageError(f"--scale {args.scale:g}: a number above 0 is wanted")
    for name in ("max_pixels", "max_output_pixels"):
        if (value := getattr(args, name)) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: a number above 0 is wanted")
    if "/" in args.suffix or "\\" in args.suffix:
        raise UsageError(f"--suffix {args.suffix}: a part of a file's name is wanted, without / and \\")
    if args.quality is not None and not 1 <= args.quality <= 100:
        raise UsageError(f"--quality {args.quality}: 1 to 100 is wanted")
    if args.format is not None:
        try:
            images.output_format(args.output, args.format)
        except images.ImageError as error:
            raise UsageError(f"--format: {error}") from error
    _check_target(args)
    size = _size(args.size) if args.size is not None else None
    return Options(
        scale=args.scale,
        size=size,
        tile=_tile(args.tile),
        dtype=dtype,
        format=args.format,
        quality=args.quality,
        suffix=args.suffix,
        overwrite=args.overwrite,
        max_pixels=args.max_pixels,
        in_place=args.in_place,
        max_output_pixels=args.max_output_pixels,
    )


def _check_target(args: argparse.Namespace) -> None:
    """-o must fit the inputs and --format."""
    if not args.output or not all(args.inputs):  # an empty variable in a script; Path("") is the current folder
        raise UsageError("INPUT and -o: names of files or folders are wanted, got an empty one; . is this folder")
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


def _size(text: str) -> tuple[int | None, int | None]:
    parts = text.lower().split("x")
    if (
        len(parts) != 2
        or not any(parts)
        or not all(p == "" or (p.isdecimal() and 0 < int(p[:9]) == int(p[:10])) for p in parts)
    ):
        raise UsageError(f"--size {text}: WIDTHxHEIGHT in pixels is wanted, e.g. 1920x1080, 1920x or x1080")
    width, height = (int(p) if p else None for p in parts)
    return width, height


def _tile(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise UsageError(f"--tile {text}: auto, 0 or a number of pixels is wanted")
    return text if text == "auto" else int(text)
