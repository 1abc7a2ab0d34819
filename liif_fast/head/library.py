"""The compiled library: kernels for the operators that ``ops`` defines. The package works without it."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import torch

from ..base import version

# What became of it, for ``liif-fast doctor``: "loaded", or why not.
status = "not tried yet"
_told = False
_REASONS = {
    "no_torch": "there was no torch when it was installed",
    "no_compiler": "there was no C++ compiler when it was installed",
    "compile_failed": "compiling failed when it was installed, as pip -v shows",
}


class NoKernelsWarning(UserWarning):
    """This installation has no compiled kernels: on a CPU plain PyTorch computes the same, more slowly. Once a process;
    not where that was asked for (``LIIF_FAST_EXTENSION=0``, ``LIIF_FAST_BUILD=none``) or cannot be helped (Windows)."""


def load() -> bool:
    """Load the library if there is one. None: ``liif-fast doctor`` and the first use (``tell``) say so; one that does
    not load: a warning.

    ``LIIF_FAST_EXTENSION=0`` leaves it out, to compare with plain PyTorch. Returns whether it is loaded.
    """
    global status
    if os.environ.get("LIIF_FAST_EXTENSION") == "0":
        status = "switched off by LIIF_FAST_EXTENSION=0"
        return False
    path = Path(__file__).parents[1] / "_C.abi3.so"
    if not path.exists():
        status = _missing()
        return False
    try:
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error.__cause__ or error).split())  # the linker's own words
        status = f"does not load: {reason}"
        warnings.warn(f"liif_fast: {path.name} does not load, plain PyTorch is used instead: {reason}", stacklevel=2)
        return False
    status = "loaded"
    return True


def _missing() -> str:
    how = version.build()
    if how == "pure_python_as_asked":
        return f"left out by LIIF_FAST_BUILD=none: {cure()}"
    reason = _REASONS.get(how.removeprefix("pure_python_"))
    return f"not built{f' ({reason})' if reason else ''}: {cure()}"


def cure() -> str:
    """How this installation gets compiled kernels."""
    if sys.platform == "win32":
        return "they are for Linux and macOS"
    return f"with a C++ compiler, {version.reinstall()} makes them"


def tell() -> None:
    """A ``NoKernelsWarning``, once, where a CPU computes without kernels that could be there."""
    global _told
    if _told or not status.startswith("not built") or sys.platform == "win32":
        return
    _told = True
    text = f"liif_fast: the compiled kernels are {status}; until then plain PyTorch computes the same, more slowly"
    warnings.warn(text, NoKernelsWarning, stacklevel=3)
