"""``liif-fast upscale``: its arguments, and what it says of each file."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import cli, distributed, images, reporting
from .upscale import MAX_OUTPUT_PIXELS, Options, Result, upscale_files


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The command's arguments, but for those of the model."""
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="image files or folders")
    p.add_argument("-o", "--output", required=True, metavar="OUT", help="a file for one input file, else a folder")
    size = p.add_mutually_exclusive_group(required=True)
    size.add_argument("-s", "--scale", type=float, help="factor for both sides, any number above 0")
    size.add_argument(
        "--size", metavar="WxH", help="size of the result; leave out one side (800x, x600) to keep the shape"
    )
    p.add_argument("-r", "--recursive", action="store_true", help="folders with their sub-folders")
    p.add_argument(
        "--tile", default="auto", metavar="auto|0|N", help="tile side in input pixels; 0: none (%(default)s)"
    )
    p.add_argument("--format", help="png, jpg, webp, tif, ... (default: the output's suffix, or as the input)")
    p.add_argument("--quality", type=int, help="of JPEG, WebP and AVIF, 1 to 100 (default 95); 100: WebP without loss")
    p.add_argument("--suffix", default="", help="put behind the name of each file in a folder, e.g. _x4")
    p.add_argument("--overwrite", action="store_true", help="replace outputs that exist, but never an input")
    p.add_argument("--in-place", action="store_true", help="replace an input by its own result")
    p.add_argument("--max-pixels", type=int, default=images.MAX_PIXELS, help="refuse larger inputs (%(default)s)")
    p.add_argument(
        "--max-output-pixels", type=int, default=MAX_OUTPUT_PIXELS, help="refuse larger results (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Upscale as the arguments say; returns the exit code."""
    _options(args, None)  # usage errors before the model is loaded
    model, dtype = cli._load(args)
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
        (w, h), (ow, oh) = result.in_size, result.out_size
        reporting.result(f"{result.output}: {w}x{h} -> {ow}x{oh} in {result.seconds:.1f} s")


def _options(args: argparse.Namespace, dtype: Any) -> Options:
    if args.scale is not None and not (math.isfinite(args.scale) and args.scale > 0):
        raise cli.UsageError(f"--scale {args.scale:g}: a number above 0 is wanted")
    for name in ("max_pixels", "max_output_pixels"):
        if (value := getattr(args, name)) < 1:
            raise cli.UsageError(f"--{name.replace('_', '-')} {value}: a number above 0 is wanted")
    if "/" in args.suffix or "\\" in args.suffix:
        raise cli.UsageError(f"--suffix {args.suffix}: a part of a file's name is wanted, without / and \\")
    if args.quality is not None and not 1 <= args.quality <= 100:
        raise cli.UsageError(f"--quality {args.quality}: 1 to 100 is wanted")
    if args.format is not None:
        try:
            images.output_format(args.output, args.format)
        except images.ImageError as error:
            raise cli.UsageError(f"--format: {error}") from error
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
        raise cli.UsageError("INPUT and -o: names of files or folders are wanted, got an empty one; . is this folder")
    output = Path(args.output)
    try:
        named = images.output_format(output) if output.suffix and not os.path.isdir(output) else None
    except images.ImageError:
        named = None
    single = len(args.inputs) == 1 and not os.path.isdir(args.inputs[0])
    if named and not single:
        raise cli.UsageError(f"-o {output}: several inputs need a folder, this is the name of one file")
    if named and args.format and images.output_format(output, args.format) != named:
        raise cli.UsageError(f"-o {output}: its suffix says {named}, --format {args.format}: give one of them")


def _size(text: str) -> tuple[int | None, int | None]:
    parts = text.lower().split("x")
    if (
        len(parts) != 2
        or not any(parts)
        or not all(p == "" or (p.isdecimal() and 0 < int(p[:9]) == int(p[:10])) for p in parts)
    ):
        raise cli.UsageError(f"--size {text}: WIDTHxHEIGHT in pixels is wanted, e.g. 1920x1080, 1920x or x1080")
    width, height = (int(p) if p else None for p in parts)
    return width, height


def _tile(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise cli.UsageError(f"--tile {text}: auto, 0 or a number of pixels is wanted")
    return text if text == "auto" else int(text)
