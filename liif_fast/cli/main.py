"""The command ``liif-fast``: upscale, video, view, eval, compare, train, tune, export, models, info, completion and
doctor.

Exit codes: 0 all, 1 some failed (or results could not be written on standard output), 2 usage (a configuration too),
130 interrupted (not ``upscale --watch`` and ``view``, which are ended so), 143 and 129 ended by SIGTERM and SIGHUP.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence

from .. import distributed
from ..base import interruption
from . import arguments, extensions, reporting
from .errors import UsageError

FIRST_SPEAKS = 30.0  # seconds that the other processes of torchrun leave to the first one for an error of all


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``liif-fast`` with these arguments, by default the process's own; returns the exit code.

    Raises:
        SystemExit: wrong arguments, ``--help``, ``--version``; SIGTERM and SIGHUP (128 + their numbers).
    """
    code = 130
    with interruption.handled(), reporting.warnings_as_notes(), reporting.log_as_lines():
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
        args = arguments.parsed(argv)
        # the command with all that it needs, before there is anything that a signal must not leave behind
        command = importlib.import_module(f".{args.command}", __package__)
        interruption.imported()
        for name in getattr(args, "imports", ()):
            extensions.load(name)
        return command.run(args)
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
    if "torch" not in sys.modules:  # or it is what could not be imported
        return False
    from ..base.out_of_memory import out_of_memory

    return out_of_memory(error)
