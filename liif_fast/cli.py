"""The command ``liif-fast``: upscale, eval, compare, train, tune, doctor.

Exit codes: 0 all, 1 some failed, 2 usage (a configuration too), 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from . import distributed

FIRST_SPEAKS = 30.0  # seconds that the other processes of torchrun leave to the first one for an error of all
_DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")


class UsageError(Exception):
    """Wrong arguments that only show after parsing: exit code 2."""


def main(argv: Sequence[str] | None = None) -> int:
    args = None
    signal.signal(signal.SIGTERM, _terminate)
    try:
        args = _parser().parse_args(argv)
        return args.run(args)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has gone, e.g. head
        sys.stderr.close()
        return 1
    except Exception as error:
        if isinstance(error, UsageError) and distributed.rank():
            # What all know the first one says. When any process ends torchrun ends the others, so we let it go first;
            # if it did not meet this error, say a file that is missing on one machine, then it is ours to say.
            time.sleep(FIRST_SPEAKS)
        if args is not None and args.debug:
            traceback.print_exc()
        _say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        return 2 if isinstance(error, UsageError) else 1


def _terminate(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)  # on the way out, temporary files are removed


def _say(text: str) -> None:
    who = f"liif-fast, process {distributed.rank()}" if distributed.rank() else "liif-fast"
    print(f"{who}: {text}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    from . import __version__
    from .cli_compare import add_arguments as compare_arguments
    from .train import add_arguments as train_arguments

    parser = argparse.ArgumentParser(prog="liif-fast", description="Upscale images to any size with LIIF.")
    parser.add_argument("--version", action="version", version=f"liif-fast {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    p = commands.add_parser("upscale", help="enlarge image files", description="Enlarge image files to any size.")
    p.set_defaults(run=_upscale)
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="image files or folders")
    p.add_argument("-o", "--output", required=True, metavar="OUT", help="a file for one input file, else a folder")
    size = p.add_mutually_exclusive_group(required=True)
    size.add_argument("-s", "--scale", type=float, help="factor for both sides, any number above 0")
    size.add_argument(
        "--size", metavar="WxH", help="size of the result; leave out one side (800x, x600) to keep the shape"
    )
    _model_arguments(p)
    p.add_argument("-r", "--recursive", action="store_true", help="folders with their sub-folders")
    p.add_argument(
        "--tile", default="auto", metavar="auto|0|N", help="tile side in input pixels; 0: none (%(default)s)"
    )
    p.add_argument("--format", help="png, jpg, webp, tif, ... (default: the output's suffix, or as the input)")
    p.add_argument("--quality", type=int, help="of JPEG and WebP, 1 to 100 (default 95)")
    p.add_argument("--suffix", default="", help="put behind the name of each file in a folder, e.g. _x4")
    p.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    p.add_argument("--max-pixels", type=int, default=2**28, help="refuse larger inputs (%(default)s)")

    p = commands.add_parser("eval", help="PSNR and SSIM of a model on a data set")
    p.set_defaults(run=_eval)
    p.add_argument("--data", metavar="DIR", help="folder with HR/ (and LR_bicubic/XS/), or of images")
    p.add_argument("-s", "--scale", type=float)
    p.add_argument("--config", metavar="FILE", help="a test configuration of the official repository, in place of both")
    _protocol_arguments(p)
    _model_arguments(p)

    p = commands.add_parser("compare", help="PSNR, SSIM and pictures of models and bicubic interpolation side by side")
    p.set_defaults(run=_compare)
    compare_arguments(p)
    _protocol_arguments(p)
    _running_arguments(p)

    p = commands.add_parser("train", help="train a model as a configuration file says, alone or under torchrun")
    p.set_defaults(run=_train)
    train_arguments(p)

    p = commands.add_parser(
        "tune", help="measure the fused kernel's configurations on a CUDA card and keep the fastest"
    )
    p.set_defaults(run=_tune)
    p.add_argument("--device", default="cuda", help="cuda, cuda:1, ... (%(default)s)")
    p.add_argument("--debug", action="store_true", help="show a traceback with an error")

    p = commands.add_parser("doctor", help="versions, devices, and which implementation runs")
    p.set_defaults(run=_doctor)
    p.add_argument("--json", action="store_true", help="machine-readable")
    p.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser


def _model_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("-m", "--model", default="edsr-baseline-liif", help="a name or a checkpoint file (%(default)s)")
    _running_arguments(p)


def _protocol_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--protocol", choices=("benchmark", "div2k", "y"), default="benchmark")
    p.add_argument(
        "--lr",
        choices=("auto", "files", "matlab", "pil"),
        default="auto",
        help="low-resolution images: LR_bicubic/XS files, or HR reduced; auto: files if there are any, else pil",
    )


def _running_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, ... (%(default)s)")
    p.add_argument("--dtype", choices=_DTYPES, default="auto", help="of the computation (%(default)s)")
    p.add_argument("--json", action="store_true", help="results as JSON on standard output")
    p.add_argument("--debug", action="store_true", help="show a traceback with an error")


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and distributed.world() > 1 and torch.cuda.is_available():
        name = f"cuda:{distributed.local_rank() % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no data")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]} (try --device auto)") from error
    return device


def _dtype(name: str, device: Any) -> Any:
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _load(args: argparse.Namespace, model: str | None = None) -> tuple[Any, Any]:
    """The model of a name or file, or --model's, on --device; and --dtype."""
    from . import checkpoints

    device = _device(args.device)
    try:
        loaded, notes = checkpoints.load_with_notes(model or args.model, device)
    except checkpoints.UnknownModelError as error:
        raise UsageError(str(error)) from error
    for note in notes:
        _say(f"note: {note}")
    return loaded, _dtype(args.dtype, device)


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


def _upscale_options(args: argparse.Namespace, dtype: Any) -> Any:
    import math

    from . import images
    from .upscale import Options

    if args.scale is not None and not (math.isfinite(args.scale) and args.scale > 0):
        raise UsageError(f"--scale {args.scale:g}: a number above 0 is wanted")
    if args.max_pixels < 1:
        raise UsageError(f"--max-pixels {args.max_pixels}: a number above 0 is wanted")
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
    )


def _check_target(args: argparse.Namespace) -> None:
    """-o must fit the inputs and --format."""
    from pathlib import Path

    from . import images

    output = Path(args.output)
    try:
        named = images.output_format(output) if output.suffix and not output.is_dir() else None
    except images.ImageError:
        named = None
    single = len(args.inputs) == 1 and not Path(args.inputs[0]).is_dir()
    if named and not single:
        raise UsageError(f"-o {output}: several inputs need a folder, this is the name of one file")
    if named and args.format and images.output_format(output, args.format) != named:
        raise UsageError(f"-o {output}: its suffix says {named}, --format {args.format}: give one of them")


def _upscale(args: argparse.Namespace) -> int:
    import tqdm

    from .upscale import upscale_files

    _upscale_options(args, None)  # usage errors before the model is loaded
    model, dtype = _load(args)
    options = _upscale_options(args, dtype)
    failed = 0
    with tqdm.tqdm(
        total=1.0, unit="file", disable=_unwatched(), bar_format="{l_bar}{bar}| {elapsed}<{remaining}"
    ) as bar:

        def progress(files: int, share: float) -> None:
            bar.total = files
            bar.update(share)

        for result in upscale_files(
            model,
            args.inputs,
            args.output,
            options,
            recursive=args.recursive,
            progress=progress,
            share=(distributed.rank(), distributed.world()),
        ):
            failed += result.error is not None
            with bar.external_write_mode(file=sys.stderr):
                _report(result, args)
    return 1 if failed else 0


def _report(result: Any, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(asdict(result)), flush=True)
    for note in result.notes:
        _say(f"note: {result.input}: {note}")
    if result.error is not None:
        if args.debug and result.exception is not None:
            traceback.print_exception(result.exception)
        _say(f"error: {result.error}" if result.input in result.error else f"error: {result.input}: {result.error}")
    elif not args.json:
        (w, h), (ow, oh) = result.in_size, result.out_size
        print(f"{result.output}: {w}x{h} -> {ow}x{oh} in {result.seconds:.1f} s", flush=True)


def _unwatched() -> bool:
    """No progress bar: nobody is there to see it, or another process draws one."""
    return not sys.stderr.isatty() or distributed.rank() > 0


def _eval(args: argparse.Namespace) -> int:
    from . import cli_eval

    return cli_eval.run(args)


def _compare(args: argparse.Namespace) -> int:
    from . import cli_compare

    return cli_compare.run(args)


def _train(args: argparse.Namespace) -> int:
    from . import train
    from .training import ConfigError

    try:
        return train.run(args, _device(args.device))
    except ConfigError as error:
        raise UsageError(str(error)) from error


def _tune(args: argparse.Namespace) -> int:
    import torch

    from . import triton

    if not args.device.startswith("cuda"):
        raise UsageError(f"--device {args.device}: a CUDA device is wanted, e.g. cuda or cuda:1")
    ok, why = triton.available(torch.device(args.device))
    if not ok:
        raise RuntimeError(f"there is nothing to tune: {why}")
    from .triton import tune

    tune.command(_device(args.device), lambda line: print(line, flush=True))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from . import doctor

    facts = doctor.facts()
    print(json.dumps(facts, indent=2) if args.json else doctor.text(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
