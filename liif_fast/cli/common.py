"""What the commands share: the device, the precision, the model. Whoever imports this waits for torch."""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch

from .. import distributed, models
from ..head import precision
from ..models.liif import LIIF
from ..models.quantized import QuantizedLIIF
from ..weights import checkpoints
from . import reporting
from .errors import UsageError

# models: once imported, they are known by name
__all__ = ["cpu_dtype", "device", "dtype", "load", "models"]
_LOSS = "on Set5 and Set14 at most {} dB below float32 (x2 to x4, EDSR-baseline-LIIF)"


def device(name: str) -> torch.device:
    """The ``torch.device`` of --device; under torchrun, of ``cuda`` this process's own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif name == "gpu":
        gpu = torch.accelerator.current_accelerator(check_available=True)
        if gpu is None:
            raise UsageError("--device gpu: torch finds none; --device cpu, and liif-fast doctor says what there is")
        name = gpu.type
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


def dtype(name: str, device: torch.device, model: Any) -> torch.dtype:
    """The ``torch.dtype`` of --dtype for a model on this device."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    # what other networks lose in bfloat16 has not been measured
    return cpu_dtype()[0] if device.type == "cpu" and type(model) in _MEASURED else torch.float32


_MEASURED = (LIIF, QuantizedLIIF)  # whose loss in bfloat16 is known


def cpu_dtype() -> tuple[torch.dtype, str]:
    """What a LIIF on this CPU is computed in by --dtype auto; and why."""
    if torch.bfloat16 in precision.MATRIX_UNITS_CPU:
        return torch.bfloat16, f"this processor multiplies it by matrix units (AMX); {_LOSS.format(0.007)}"
    forced = os.environ.get("LIIF_FAST_MATMUL") == "float32"
    why = "LIIF_FAST_MATMUL=float32" if forced else "this processor has no matrix units (AMX) for bfloat16"
    return torch.float32, why


def _note(name: str, device: torch.device, model: Any) -> str | None:
    """What to say where --dtype gives another result on this processor than on most."""
    if device.type != "cpu" or not (type(model) in _MEASURED or name == "int8"):
        return None
    quantized = isinstance(model, QuantizedLIIF) and name in ("auto", "int8")
    if quantized or name == "int8":
        if precision.int8_encoder_dtype("cpu") == torch.float32:
            return None
        cure = "--dtype float32" if quantized else "LIIF_FAST_MATMUL=float32"
        why = f"this processor multiplies it faster; with int8 {_LOSS.format(0.013)}"
        return f"int8 beside an encoder in bfloat16: {why}; {cure} for one in float32"
    found, why = cpu_dtype()
    exact = found == torch.float32 or name != "auto"
    return None if exact else f"bfloat16: {why}; --dtype float32 for the exact result"


def load(args: argparse.Namespace, model: str | None = None, auto: str = "auto") -> tuple[Any, torch.dtype]:
    """The model of a name or file, or --model's, on --device; and --dtype.

    auto: what --dtype auto means for models that have it.
    """
    where = device(args.device)
    try:
        loaded, notes = checkpoints.load_with_notes(model or args.model, where)
    except checkpoints.UnknownModelError as error:
        raise UsageError(str(error)) from error
    name = args.dtype
    why = loaded.why_not_int8() if isinstance(loaded, LIIF) else None
    if name == "int8" and why:
        raise UsageError(f"--dtype int8: {model or args.model}: {why}")
    if name == "auto" and isinstance(loaded, LIIF) and not (auto == "int8" and why):
        name = auto
    if (found := _note(name, where, loaded)) is not None:
        notes = (*notes, f"{model or args.model}: {found}")
    for note in notes:
        reporting.say(f"note: {note}")
    return loaded, dtype(name, where, loaded)
