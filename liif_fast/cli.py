"""The command ``liif-fast``: upscale, eval, compare, train, tune, doctor.

Exit codes: 0 all, 1 some failed (or results could not be written on standard output), 2 usage (a configuration too),
130 interrupted, 143 and 129 ended by SIGTERM and SIGHUP.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from . import distributed, interruption, reporting

FIRST_SPEAKS = 30.0  # seconds that the other processes of torchrun leave to the first one for an error of all
_DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")


class UsageError(Exception):
    """Wrong arguments that only show after parsing: exit code 2."""


class _Parser(argparse.ArgumentParser):
    """Says what it says by `reporting`."""

    def _print_message(self, message: str, file: Any = None) -> None:
        lines = reporting.results if file is sys.stdout else reporting.plain_lines
        lines((message or "").removesuffix("\n"))

    def error(self, message: str) -> NoReturn:
        # not print_usage, which takes standard output where standard error is closed
        reporting.plain_lines(self.format_usage().removesuffix("\n"))
        reporting.plain(f"{self.prog}: error: {message}")
        self.exit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``liif-fast`` with these arguments, by default the process's own; returns the exit code.

    Raises:
        SystemExit: wrong arguments, ``--help``, ``--version``; SIGTERM and SIGHUP (128 + their numbers).
    """
    code = 130
    with interruption.handled(), reporting.warnings_as_notes():
        try:
            code = reporting.finish(_main(argv))
        except KeyboardInterrupt:  # a second one, while the first was being said
            pass
        except SystemExit as stop:
            stop.code = reporting.finish(stop.code if isinstance(stop.code, int) else 0 if not stop.code else 1)
            raise
        finally:
            interruption.over()
        return code


def _main(argv: Sequence[str] | None) -> int:
    args = None
    try:
        args = _parser().parse_args(argv)
        for module in args.modules:  # all of them, before there is anything that a signal must not leave behind
            importlib.import_module(module, __package__)
        interruption.imported()
        return args.run(args)
    except KeyboardInterrupt:
        reporting.say("interrupted")
        return 130
    except Exception as error:
        if isinstance(error, UsageError) and distributed.rank():
            # What all know the first one says. When any process ends torchrun ends the others, so we let it go first;
            # if it did not meet this error, say a file that is missing on one machine, then it is ours to say.
            time.sleep(FIRST_SPEAKS)
        if args is not None and args.debug:
            reporting.trace(error)
        text = " ".join(str(error).split())
        if not isinstance(error, UsageError) and _out_of_memory(error):
            text = f"out of memory ({text[:200] or type(error).__name__}): close other programs, or use smaller data"
        reporting.say(f"error: {text or type(error).__name__}")
        return 2 if isinstance(error, UsageError) else 1


def _out_of_memory(error: Exception) -> bool:
    from .out_of_memory import out_of_memory  # imports torch, which is there by now if anything needs much memory

    return out_of_memory(error)


def _parser() -> argparse.ArgumentParser:
    from . import __version__
    from .cli_compare import add_arguments as compare_arguments
    from .cli_upscale import add_arguments as upscale_arguments
    from .train import add_arguments as train_arguments

    parser = _Parser(prog="liif-fast", description="Upscale images to any size with LIIF.")
    parser.add_argument("--version", action="version", version=f"liif-fast {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    p = commands.add_parser("upscale", help="enlarge image files", description="Enlarge image files to any size.")
    p.set_defaults(run=_upscale, modules=[".cli_upscale"])
    upscale_arguments(p)
    _model_arguments(p)

    p = commands.add_parser("eval", help="PSNR and SSIM of a model on a data set")
    p.set_defaults(run=_eval, modules=[".cli_eval"])
    p.add_argument("--data", metavar="DIR", help="folder with HR/ (and LR_bicubic/XS/), or of images")
    p.add_argument("-s", "--scale", type=float)
    p.add_argument("--config", metavar="FILE", help="a test configuration of the official repository, in place of both")
    _protocol_arguments(p)
    _model_arguments(p)

    p = commands.add_parser("compare", help="PSNR, SSIM and pictures of models and bicubic interpolation side by side")
    p.set_defaults(run=_compare, modules=[])
    compare_arguments(p)
    _protocol_arguments(p)
    _running_arguments(p)

    p = commands.add_parser("train", help="train a model as a configuration file says, alone or under torchrun")
    p.set_defaults(run=_train, modules=[])
    train_arguments(p)

    p = commands.add_parser(
        "tune", help="measure the fused kernel's configurations on a CUDA card and keep the fastest"
    )
    p.set_defaults(run=_tune, modules=[".triton"])
    p.add_argument("--device", default="cuda", help="cuda, cuda:1, ... (%(default)s)")
    p.add_argument("--debug", action="store_true", help="show a traceback with an error")

    p = commands.add_parser("doctor", help="versions, devices, and which implementation runs")
    p.set_defaults(run=_doctor, modules=[".doctor"])
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
        reporting.say(f"note: {note}")
    return loaded, _dtype(args.dtype, device)


def _upscale(args: argparse.Namespace) -> int:
    from . import cli_upscale

    return cli_upscale.run(args)


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

    tune.command(_device(args.device), reporting.result)
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from . import doctor

    facts = doctor.facts()
    reporting.results(json.dumps(facts, indent=2) if args.json else doctor.text(facts))
    return 0


if __name__ == "__main__":
    from liif_fast.cli import main as command  # this module would be there twice, with two kinds of UsageError

    sys.exit(command())
