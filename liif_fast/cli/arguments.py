"""The arguments of all commands. Nothing here imports torch: ``--help``, ``--version`` and mistakes need none."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..base.version import VERSION
from ..quality.compare_files import FILES
from ..sizes import MAX_OUTPUT_PIXELS, MAX_PIXELS
from . import (
    eval_arguments,
    export_arguments,
    reporting,
    size_arguments,
    spellings,
    train_arguments,
    video_arguments,
    view_arguments,
)

SCALE = 4.0  # without --scale, --size, --fit and --fill
_DTYPE = (
    "of the computation (%(default)s: half precision on CUDA; float32 on a CPU, but bfloat16 for LIIF where it has "
    "matrix units (AMX); the encoder beside int8 is bfloat16 where the CPU is faster at it: said with the loss)"
)
_CORES = "Pictures are done one after the other, each on all cores (OMP_NUM_THREADS=N: on fewer): --jobs is not needed."
# options of other programs
_MEANT = {"--gpu": "--device gpu", "--cuda": "--device cuda", "--cpu": "--device cpu", "--half": "--dtype half",
          "--fp16": "--dtype fp16", "--bf16": "--dtype bf16", "--ratio": "--scale", "--outscale": "--scale",
          "--width": "--size WIDTHx", "--height": "--size xHEIGHT", "--input": "INPUT without an option"}  # fmt: skip
PLOT = "1.5,2,3,4,6,8,12"


class Parser(argparse.ArgumentParser):
    """Says what it says by `reporting`."""

    def _print_message(self, message: str, file: Any = None) -> None:
        lines = reporting.results if file is sys.stdout else reporting.plain_lines
        lines((message or "").removesuffix("\n"))

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (-\w/)?(?=--)([\w-]+): ", r"\2 ", message)
        reporting.say(f"error: {message}; {self.prog} --help shows what there is")
        self.exit(2)


class _Jobs(argparse.Action):
    """What other programs have: it is said why there is none."""

    def __call__(self, *_: Any) -> NoReturn:
        raise argparse.ArgumentError(None, "--jobs: is not needed, each picture is done on all cores; leave it out")


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, by default the process's own, in the forms that people write: ``liif-fast photo.jpg`` is
    ``liif-fast upscale photo.jpg``."""
    given, whole = spellings.joined(sys.argv[1:] if argv is None else argv), parser()
    known = commands(whole)
    if given[:1] == ["version"] and not os.path.lexists("version"):
        given = ["--version"]
    if given[:1] == ["help"]:
        given = [*given[1:2], "--help"]
    if not given:
        whole.error(f"image files or a command are wanted: liif-fast photo.jpg -s 2, or one of {', '.join(known)}")
    first = given[0]
    if first not in known and first not in ("-h", "--help", "-V", "--version"):
        if not (not first or first.startswith("-") or "." in first or os.path.lexists(first)):
            near = difflib.get_close_matches(first, known, 1, 0.7)
            advice = f"; {near[0]}?" if near else f": one of {', '.join(known)}, or image files"
            whole.error(f"{first}: no such command or file{advice}")
        given.insert(0, "upscale")
    args, unknown = whole.parse_known_args(given)
    files = getattr(args, "inputs", getattr(args, "files", None))
    if files is not None and not any(name.startswith("-") for name in unknown):
        files += unknown  # those behind an option, which argparse leaves over
    elif unknown:
        command = known[given[0]]
        options = [name for action in command._actions for name in action.option_strings]
        name = unknown[0].split("=")[0]
        near = [_MEANT[name]] if name in _MEANT else difflib.get_close_matches(name, options, 1, 0.7)
        what = "no such option" if unknown[0].startswith("-") else "is one argument too many"
        command.error(f"{unknown[0]}: {what}" + (f"; {near[0]}?" if near else ""))
    return args


def commands(whole: argparse.ArgumentParser) -> dict[str, Parser]:
    return next(action.choices for action in whole._actions if isinstance(action, argparse._SubParsersAction))


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; ``command`` in what it gives is the command's module in this package."""
    parser = Parser(prog="liif-fast", description="Upscale images to any size with LIIF.")
    parser.add_argument("-V", "--version", action="version", version=f"liif-fast {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    p = commands.add_parser(
        "upscale", help="enlarge image files", description="Enlarge image files to any size.", epilog=_CORES
    )
    p.set_defaults(command="upscale")
    _upscale(p)
    _model(p)

    p = commands.add_parser(
        "video", help="enlarge a video file", description="Enlarge a video.", epilog=video_arguments.NOTES
    )
    p.set_defaults(command="video")
    video_arguments.add(p)
    _model(p)

    p = commands.add_parser("view", help="a page on which photos are looked at at any scale, methods beside each other")
    p.set_defaults(command="view")
    view_arguments.add(p)
    _import(p)
    _debug(p)

    p = commands.add_parser("eval", help="PSNR and SSIM of a model on a data set")
    p.set_defaults(command="evaluate")
    p.add_argument("--data", metavar="DIR", help="folder with HR/ (and LR_bicubic/XS/), or of images")
    p.add_argument("-s", "--scale", type=spellings.scale)
    p.add_argument("--config", metavar="FILE", help="a test configuration of the official repository, in place of both")
    eval_arguments.add(p)
    _protocol(p)
    _model(p)

    p = commands.add_parser("compare", help="PSNR, SSIM and pictures of models and bicubic interpolation side by side")
    p.set_defaults(command="compare")
    _compare(p)
    _protocol(p)
    _running(p)

    p = commands.add_parser("train", help="train a model as a configuration file says, alone or under torchrun")
    p.set_defaults(command="train")
    train_arguments.add(p)
    _import(p)
    _debug(p)

    p = commands.add_parser(
        "tune", help="measure the fused kernel's configurations on a CUDA card and keep the fastest"
    )
    p.set_defaults(command="tune")
    p.add_argument("--device", default="cuda", help="cuda, cuda:1, ... (%(default)s)")
    p.add_argument(
        "--width", type=int, action="append", metavar="N", help="of the hidden layers, several times, too (all)"
    )
    _debug(p)

    p = commands.add_parser("export", help="a LIIF as an ONNX file, or a package of AOTInductor, for other programs")
    p.set_defaults(command="export")
    export_arguments.add(p)
    _import(p)
    _debug(p)

    p = commands.add_parser("models", help="weights and architectures that are known by name, sizes, licences")
    p.set_defaults(command="list_models")
    p.add_argument("--json", action="store_true", help="machine-readable")
    _import(p)
    _debug(p)

    p = commands.add_parser("info", help="what a checkpoint or a picture holds, and what upscaling it would lose")
    p.set_defaults(command="info")
    p.add_argument("files", nargs="+", metavar="FILE", help="checkpoints (or names of weights) and pictures")
    p.add_argument("--json", action="store_true", help="a JSON object for each")
    _import(p)
    _debug(p)

    p = commands.add_parser("completion", help="the script that completes arguments in a shell")
    p.set_defaults(command="completion")
    p.add_argument("shell", choices=("bash", "zsh", "fish"), help='e.g. eval "$(liif-fast completion bash)"')
    _debug(p)

    p = commands.add_parser("doctor", help="versions, devices, and which implementation runs")
    p.set_defaults(command="doctor")
    p.add_argument("--json", action="store_true", help="machine-readable")
    _debug(p)
    return parser


def _model(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model", default="edsr-baseline-liif", help="a name, a checkpoint file or hf://user/name (%(default)s)"
    )
    _running(p)


def _protocol(p: argparse.ArgumentParser) -> None:
    p.add_argument("--protocol", choices=("benchmark", "div2k", "y"), default="benchmark")
    p.add_argument(
        "--lr",
        choices=("auto", "files", "matlab", "pil"),
        default="auto",
        help="low-resolution images: LR_bicubic/XS files, or HR reduced; auto: files if there are any, else pil",
    )
    p.add_argument(
        "--niqe", action="store_true", help="beside PSNR and SSIM: how natural results look (less is better)"
    )


def _running(p: argparse.ArgumentParser) -> None:
    p.add_argument("--device", default="auto", help="auto, cpu, gpu, cuda, cuda:1, mps, ... (%(default)s)")
    p.add_argument("--dtype", type=spellings.dtype, choices=spellings.DTYPES, default="auto", help=_DTYPE)
    p.add_argument("--json", action="store_true", help="results as JSON on standard output")
    _import(p)
    _debug(p)


def _import(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module or .py file that registers models of your own (liif_fast.register); several times, too",
    )


def _debug(p: argparse.ArgumentParser) -> None:
    p.add_argument("--debug", action="store_true", help="show a traceback with an error")


def _upscale(p: argparse.ArgumentParser) -> None:
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="image files or folders; - alone: standard input")
    where = (
        "a file for one input file, else a folder; -: standard output, results are told on standard error then "
        "(default: beside each input, as photo_x4.jpg; for standard input standard output)"
    )
    p.add_argument("-o", "--output", metavar="OUT", help=where)
    size = p.add_mutually_exclusive_group()
    size.add_argument(
        "-s", "--scale", type=spellings.scale, help=f"factor for both sides: 2, 2.5, x3, 150%% (default {SCALE:g})"
    )
    size.add_argument(
        "--size",
        type=spellings.size,
        metavar="WxH",
        help="exactly this; one side (800x, x600, 1080p, 4k for 3840x) keeps the shape",
    )
    size.add_argument(
        "--fit",
        type=spellings.both_sides,
        metavar="WxH",
        help="the largest inside (1080p: 1920x1080), shape kept",
    )
    size.add_argument(
        "--fill", type=spellings.both_sides, metavar="WxH", help="exactly this, shape kept: what stands out is cut off"
    )
    size_arguments.part(p)
    p.add_argument("-r", "--recursive", action="store_true", help="folders with their sub-folders")
    p.add_argument(
        "--tile", default="auto", metavar="auto|0|N", help="tile side in input pixels; 0: none (%(default)s)"
    )
    p.add_argument("--format", help="png, jpg, webp, tif, ... (default: the output's suffix, or as the input)")
    p.add_argument(
        "--quality", type=int, help="of JPEG, WebP, AVIF, HEIC, 1 to 100 (default 95); 100: WebP without loss"
    )
    p.add_argument("--lossless", action="store_true", help="keep every value: WebP and HEIC; JPEG, AVIF, GIF: refused")
    p.add_argument("--suffix", help="put behind the name of each file in a folder, e.g. _x4 (without -o: by the size)")
    p.add_argument("--overwrite", action="store_true", help="replace outputs that exist, but never an input")
    p.add_argument("--skip-existing", action="store_true", help="outputs that exist are done: resumes an earlier run")
    p.add_argument("--dry-run", action="store_true", help="only list what would be done, and about how long it takes")
    p.add_argument(
        "--watch",
        action="store_true",
        help="do the images in the folders INPUT, and those that appear there, until Ctrl-C (exit code 0, or 1 if any "
        "failed); outputs that exist are done; beside the images, names that end in --suffix are results",
    )
    p.add_argument("-j", "--jobs", action=_Jobs, nargs="?", help=argparse.SUPPRESS)
    p.add_argument("--in-place", action="store_true", help="replace an input by its own result")
    p.add_argument("--max-pixels", type=int, default=MAX_PIXELS, help="refuse larger inputs (%(default)s)")
    p.add_argument(
        "--max-output-pixels", type=int, default=MAX_OUTPUT_PIXELS, help="refuse larger results (%(default)s)"
    )


def _compare(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--data", action="append", required=True, metavar="DIR", help="folder as of eval; may be given several times"
    )
    p.add_argument("-s", "--scale", action="append", required=True, type=spellings.scale, help="several times, too")
    p.add_argument(
        "-m",
        "--model",
        action="append",
        required=True,
        metavar="[NAME=]MODEL",
        help="a name, a checkpoint file or hf://user/name, and what to call it in the table; several times",
    )
    p.add_argument("-o", "--output", metavar="DIR", help=f"folder for {', '.join(FILES)} (default: only print)")
    p.add_argument("--overwrite", action="store_true", help="delete those of an earlier result in the folder")
    p.add_argument(
        "--scales-plot", nargs="?", const=PLOT, metavar="S,S,...", help=f"PSNR by scale, too (no value: {PLOT})"
    )
    p.add_argument("--crops", type=int, default=4, help="in crops.png for each folder and scale (%(default)s)")
