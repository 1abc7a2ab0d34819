"""The compiled library: kernels for the operators that ``ops`` defines. The package works without it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch

# What became of it, for ``liif-fast doctor``: "loaded", or why not.
status = "not tried yet"


def load() -> bool:
    """Load the library if there is one. None: silent, ``liif-fast doctor`` tells; one that does not load: a warning.

    ``LIIF_FAST_EXTENSION=0`` leaves it out, to compare with plain PyTorch. Returns whether it is loaded.
    """
    global status
    if os.environ.get("LIIF_FAST_EXTENSION") == "0":
        status = "switched off by LIIF_FAST_EXTENSION=0"
        return False
    path = Path(__file__).parents[1] / "_C.abi3.so"
    if not path.exists():
        status = "not built: install with torch and a C++ compiler at hand, pip install --no-build-isolation ."
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
