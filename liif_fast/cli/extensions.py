"""``--import``: modules of the user's, which register models. Nothing here imports torch; they may."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

from ..base import interruption
from .errors import UsageError


def load(name: str) -> None:
    """Import a module, also from the current folder, or a .py file with what lies beside it.

    Raises:
        UsageError: there is none, or it fails.
    """
    file = name if name.endswith(".py") else None
    folder = os.path.abspath(os.path.dirname(name) if file else ".")
    if folder not in sys.path:
        sys.path.append(folder)  # last: nothing there takes the place of an installed module
    try:
        if file is None:
            importlib.import_module(name)
        else:
            _run(file)
    except (Exception, SystemExit) as error:  # whatever the user's code raises; a script may end itself
        interruption.check()  # or it is a signal's
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageError(f"--import {name}: a module or .py file is wanted that can be imported, got {why}") from error


def _run(file: str) -> None:
    stem = os.path.basename(file).removesuffix(".py")
    spec = importlib.util.spec_from_file_location(stem, os.path.abspath(file))
    if spec is None or spec.loader is None or not os.path.isfile(file):
        raise FileNotFoundError(f"no such file: {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module  # so that what it defines can be sent to other processes
    spec.loader.exec_module(module)
