"""What the commands share: the device, the precision, the model. Whoever imports this waits for torch."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from .. import distributed, models
from ..weights import checkpoints
from . import reporting
from .errors import UsageError

__all__ = ["device", "dtype", "load", "models"]  # models: once imported, they are known by name


def device(name: str) -> torch.device:
    """The ``torch.device`` of --device; under torchrun, of ``cuda`` this process's own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and distributed.world() > 1 and torch.cuda.is_available():
        name = f"cuda:{distributed.local_rank() % torch.cuda.device_count()}"
    try:
        found = torch.device(name)
        if found.type == "meta":
            raise RuntimeError("it holds no data")
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]} (try --device auto)") from error
    return found


def dtype(name: str, device: torch.device) -> torch.dtype:
    """The ``torch.dtype`` of --dtype on this device."""
    if name != "auto":
        return getattr(torch, name)
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def load(args: argparse.Namespace, model: str | None = None) -> tuple[Any, torch.dtype]:
    """The model of a name or file, or --model's, on --device; and --dtype."""
    where = device(args.device)
    try:
        loaded, notes = checkpoints.load_with_notes(model or args.model, where)
    except checkpoints.UnknownModelError as error:
        raise UsageError(str(error)) from error
    for note in notes:
        reporting.say(f"note: {note}")
    return loaded, dtype(args.dtype, where)
