"""``liif-fast completion SHELL``: the script by which a shell completes the command's arguments."""

from __future__ import annotations

import argparse

from . import arguments, reporting
from .errors import UsageError

# what these stand for in usage
_FILES = ("INPUT", "IN", "PHOTO", "OUT", "FILE", "DIR", "CONFIG", "MODULE", "[NAME=]MODEL")


def run(args: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    try:
        import shtab
    except ImportError as error:
        raise UsageError("completion: shtab writes these scripts: pip install shtab") from error
    parser = arguments.parser()
    for command in [parser, *arguments.commands(parser).values()]:
        for action in command._actions:
            if action.metavar in _FILES or action.dest == "model":
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks
    reporting.results(shtab.complete(parser, args.shell).rstrip("\n"))
    return 0
