"""Files of tensors: read without ever running code from them, written completely or not at all."""

from __future__ import annotations

import pickle
import re
import threading
import warnings
from pathlib import Path
from typing import Any

import safetensors
import torch

from . import atomic

SCRATCH = atomic.PATTERN  # names of files that are being written


class NeedsCodeError(ValueError):
    """A pickle of more than tensors and plain values."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"it is a pickle that needs {name}, that is, code to be run, which liif_fast never does: have it saved as "
            "a state dict or as safetensors by the program that made it, or get it from a source that has one"
        )
        self.name = name


def read(path: Path) -> tuple[Any, dict[str, str] | None]:
    """What is in a file, on the CPU, and its metadata; None for a file that has none, one of ``torch.save``.

    The content decides which of the two kinds it is, the suffix does not matter.

    Raises:
        ValueError: neither kind, damaged, or a pickle that needs code. OSError: cannot be read.
    """
    if path.is_dir():
        raise ValueError("it is a folder; give the checkpoint file in it")
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise ValueError("it is empty; fetch it again")
    if head[8:9] == b"{":  # 8 bytes of length, then JSON
        return _read_safetensors(path)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _read_torch(path), None
    raise ValueError(f"it is neither safetensors nor a PyTorch file (it begins with {head[:8]!r}); fetch it again")


def write(path: Path, data: bytes) -> None:
    """Replace a file at once; an OSError leaves the old one as it was, and nothing else behind."""
    with atomic.replacing(path, sync=True) as scratch, open(scratch, "wb") as file:
        file.write(data)


def first_line(error: BaseException) -> str:
    """An error's message, short enough to stand in another one."""
    lines = [line.strip() for line in str(error.args[0] if error.args else error).splitlines() if line.strip()]
    return lines[0][:300].rstrip(".") if lines else type(error).__name__


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:
        raise _damaged(error) from error


class _Inert:
    """Stands in for what a training program logged: takes any argument, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# Checkpoints of whole training runs hold NumPy numbers and mmengine's log beside the weights, which torch does not load
# even as data. Nobody needs them here, so inert objects take their places, and nothing of the two is called.
_LOGGED = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.logging.log_buffer.LogBuffer",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
)
_SAFE_GLOBALS = threading.Lock()  # torch's list of them belongs to the whole process


def _read_torch(path: Path) -> Any:
    try:
        return _unpickle(path)
    except NeedsCodeError as error:
        if error.name not in _LOGGED:
            raise
    with _SAFE_GLOBALS, torch.serialization.safe_globals([(_Inert, name) for name in _LOGGED]):
        return _unpickle(path)


def _unpickle(path: Path) -> Any:
    try:
        # not the path: torch may take its suffix for the format
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they announce what then fails, in an error of ours
            return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        name = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        raise (NeedsCodeError(name[1]) if name else _damaged(error)) from error


def _damaged(error: Exception) -> ValueError:
    # torch's own advice, to load without weights_only, is the one thing not to do
    reason = first_line(error).partition("Weights only load failed")[0] or "it holds something other than tensors"
    return ValueError(f"it is damaged or no checkpoint ({reason}); fetch it again, or save a state dict")
