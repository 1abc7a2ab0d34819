"""Files of tensors: read without ever running code from them, written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors

from ..base import atomic
from . import checks as weight_checks
from . import torch_files
from .state_dicts import CheckpointError

_HEADER = 1 << 25  # bytes, at most, of the header of safetensors: a tensor takes about 120


def read(path: Path) -> tuple[Any, dict[str, str] | None]:
    """What is in a file, on the CPU, and its metadata; None for a file that has none, one of ``torch.save``.

    The content decides which of the two kinds it is, the suffix does not matter. Checksums that it has are verified.

    Raises:
        ValueError: neither kind, damaged, no regular file, or a pickle that needs code. OSError: cannot be read.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a folder; give the checkpoint file in it")
    if not stat.S_ISREG(mode):  # a pipe or device may never end
        raise ValueError("it is no regular file but a pipe or a device; copy the checkpoint into a file")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError("it is empty; fetch it again")
    if head[8:9] == b"{":  # 8 bytes of length, then JSON
        return _read_safetensors(path)
    if head.startswith((torch_files.ZIP, torch_files.PICKLE)):
        return torch_files.read(path), None
    if head[257:262] == b"ustar":
        raise ValueError("it is a tar archive, as PyTorch before 0.1.10 wrote; unpack it, or save it with a newer one")
    raise ValueError(f"it is neither safetensors nor a PyTorch file (it begins with {head[:8]!r}); fetch it again")


def write(path: Path, data: bytes) -> None:
    """Replace a file at once; an OSError leaves the old one as it was, and nothing else behind."""
    with atomic.replacing(path, sync=True) as scratch, open(scratch, "wb") as file:
        file.write(data)


def first_line(error: BaseException) -> str:
    """An error's message, short enough to stand in another one."""
    lines = [line.strip() for line in str(error.args[0] if error.args else error).splitlines() if line.strip()]
    return lines[0][:300].rstrip(".") if lines else type(error).__name__


@contextlib.contextmanager
def said_of(name: str | os.PathLike[str]) -> Iterator[None]:
    """What is wrong, as a CheckpointError of one line that begins with a name."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{name}: {first_line(error)}") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _HEADER):
        why = "is cut short" if length <= _HEADER else "is damaged"
        raise ValueError(f"it {why}: it has {size} bytes, and its header claims {length}; fetch it again")
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if weight_checks.HASH in metadata:
            with path.open("rb") as file:
                same = weight_checks.file_hash(file) == metadata[weight_checks.HASH]
            if not same:
                raise ValueError("its contents are not those that were saved: the hash in it is another")
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"it is cut short, damaged or no checkpoint ({first_line(error)}); fetch it again") from error
    return tensors, metadata
