"""The arguments of all commands. Nothing here imports torch: ``--help``, ``--version`` and mistakes need none."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from ..base.version import VERSION
from ..quality.compare_files import FILES
from ..sizes import MAX_OUTPUT_PIXELS, MAX_PIXELS
from . import reporting

DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")
_DTYPE = (
    "of the computation (%(default)s: half precision on CUDA; float32 on a CPU, but bfloat16 for LIIF, as for the "
    "encoder beside int8, where the CPU has matrix units (AMX): said with the loss)"
)
PLOT = "1.5,2,3,4,6,8,12"


class Parser(argparse.ArgumentParser):
    """Says what it says by `reporting`."""

    def _print_message(self, message: str, file: Any = None) -> None:
        lines = reporting.results if file is sys.stdout else reporting.plain_lines
        lines((message or "").removesuffix("\n"))

    def error(self, message: str) -> NoReturn:
        # not print_usage, which takes standard output where standard error is closed
        reporting.plain_lines(self.format_usage().removesuffix("\n"))
        reporting.plain(f"{self.prog}: error: {message}")
        self.exit(2)


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; ``command`` in what it gives is the command's module in this package."""
    parser = Parser(prog="liif-fast", description="Upscale images to any size with LIIF.")
    parser.add_argument("--version", action="version", version=f"liif-fast {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    p = commands.add_parser("upscale", help="enlarge image files", description="Enlarge image files to any size.")
    p.set_defaults(command="upscale")
    _upscale(p)
    _model(p)

    p = commands.add_parser("eval", help="PSNR and SSIM of a model on a data set")
    p.set_defaults(command="evaluate")
    p.add_argument("--data", metavar="DIR", help="folder with HR/ (and LR_bicubic/XS/), or of images")
    p.add_argument("-s", "--scale", type=float)
    p.add_argument("--config", metavar="FILE", help="a test configuration of the official repository, in place of both")
    _protocol(p)
    _model(p)

    p = commands.add_parser("compare", help="PSNR, SSIM and pictures of models and bicubic interpolation side by side")
    p.set_defaults(command="compare")
    _compare(p)
    _protocol(p)
    _running(p)

    p = commands.add_parser("train", help="train a model as a configuration file says, alone or under torchrun")
    p.set_defaults(command="train")
    _train(p)

    p = commands.add_parser(
        "tune", help="measure the fused kernel's configurations on a CUDA card and keep the fastest"
    )
    p.set_defaults(command="tune")
    p.add_argument("--device", default="cuda", help="cuda, cuda:1, ... (%(default)s)")
    p.add_argument(
        "--width", type=int, action="append", metavar="N", help="of the hidden layers, several times, too (all)"
    )
    _debug(p)

    p = commands.add_parser("doctor", help="versions, devices, and which implementation runs")
    p.set_defaults(command="doctor")
    p.add_argument("--json", action="store_true", help="machine-readable")
    _debug(p)
    return parser


def _model(p: argparse.ArgumentParser) -> None:
    p.add_argument("-m", "--model", default="edsr-baseline-liif", help="a name or a checkpoint file (%(default)s)")
    _running(p)


def _protocol(p: argparse.ArgumentParser) -> None:
    p.add_argument("--protocol", choices=("benchmark", "div2k", "y"), default="benchmark")
    p.add_argument(
        "--lr",
        choices=("auto", "files", "matlab", "pil"),
        default="auto",
        help="low-resolution images: LR_bicubic/XS files, or HR reduced; auto: files if there are any, else pil",
    )


def _running(p: argparse.ArgumentParser) -> None:
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, ... (%(default)s)")
    p.add_argument("--dtype", choices=DTYPES, default="auto", help=_DTYPE)
    p.add_argument("--json", action="store_true", help="results as JSON on standard output")
    _debug(p)


def _debug(p: argparse.ArgumentParser) -> None:
    p.add_argument("--debug", action="store_true", help="show a traceback with an error")


def _upscale(p: argparse.ArgumentParser) -> None:
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
    p.add_argument("--max-pixels", type=int, default=MAX_PIXELS, help="refuse larger inputs (%(default)s)")
    p.add_argument(
        "--max-output-pixels", type=int, default=MAX_OUTPUT_PIXELS, help="refuse larger results (%(default)s)"
    )


def _compare(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--data", action="append", required=True, metavar="DIR", help="folder as of eval; may be given several times"
    )
    p.add_argument("-s", "--scale", action="append", required=True, type=float, help="several times, too")
    p.add_argument(
        "-m",
        "--model",
        action="append",
        required=True,
        metavar="[NAME=]MODEL",
        help="a name or a checkpoint file, and what to call it in the table; several times",
    )
    p.add_argument("-o", "--output", metavar="DIR", help=f"folder for {', '.join(FILES)} (default: only print)")
    p.add_argument("--overwrite", action="store_true", help="delete those of an earlier result in the folder")
    p.add_argument(
        "--scales-plot", nargs="?", const=PLOT, metavar="S,S,...", help=f"PSNR by scale, too (no value: {PLOT})"
    )
    p.add_argument("--crops", type=int, default=4, help="in crops.png for each folder and scale (%(default)s)")


def _train(p: argparse.ArgumentParser) -> None:
    p.add_argument("config", metavar="CONFIG", help="a YAML file in the form of the official repository's")
    p.add_argument("--save", metavar="DIR", help="folder of the run (default: save/_CONFIG, as the official one)")
    p.add_argument("--name", help="name of the folder inside save/, in place of _CONFIG")
    p.add_argument("--tag", help="put behind the folder's name")
    p.add_argument(
        "--resume", action="store_true", help="go on from the folder's newest whole checkpoint, if there is one"
    )
    p.add_argument("--overwrite", action="store_true", help="delete the run in the folder, and start anew")
    p.add_argument(
        "--minutes", type=float, metavar="M", help="save and stop after so long, with exit code 0; --resume goes on"
    )
    p.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would happen (1: data are missing)"
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (%(default)s)")
    _debug(p)
