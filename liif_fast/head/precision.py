"""In which precision what is computed: geometry always in a wide one, products in the one that is fastest here."""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


def geometry_dtype(dtype: torch.dtype) -> torch.dtype:
    """Coordinates, cells and area weights are float32 whatever the features are; float64 with float64 features."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def as_geometry(hidden: Tensor, coord: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """coord and cell as ``geometry_dtype`` says for these hidden features."""
    dtype = geometry_dtype(hidden.dtype)
    return coord.to(dtype), None if cell is None else cell.to(dtype)


class _Unit(NamedTuple):
    """A part of a processor that multiplies a half precision faster than float32."""

    words: frozenset[str]  # of /proc/cpuinfo, where all of them are there
    dtype: torch.dtype
    matrix: bool  # whole matrices at once: the most that the processor can compute


_UNITS = (
    _Unit(frozenset({"amx_bf16"}), torch.bfloat16, True),
    # Intel's without AMX have the word avx512_bf16 too, and run it at half the rate of float32 (measured)
    _Unit(frozenset({"avx512_bf16", "AuthenticAMD"}), torch.bfloat16, False),
)


def _half_of_cpu(amx: bool = True) -> tuple[tuple[torch.dtype, ...], tuple[torch.dtype, ...]]:
    """Half precision that this CPU multiplies faster than float32, and by matrix units. LIIF_FAST_MATMUL=bfloat16 has
    products in bfloat16 wherever it may be used, float32 never in half precision. ``amx``: the system lets it be used.
    """
    asked = os.environ.get("LIIF_FAST_MATMUL") or "auto"
    if asked not in ("auto", "bfloat16", "float32"):  # no reason to stop an import
        warnings.warn(
            f"LIIF_FAST_MATMUL: auto, bfloat16 or float32 is wanted, got {asked!r}: auto is used", stacklevel=2
        )
    if asked == "float32":
        return (), ()
    words = set()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as info:
        words = {word for line in itertools.takewhile(str.strip, info) for word in line.split()}  # the first processor
    words = {word for word in words if amx or not word.startswith("amx_")}
    units = [unit for unit in _UNITS if unit.words <= words]
    fast = {unit.dtype for unit in units} | ({torch.bfloat16} if asked == "bfloat16" else set())
    matrix = {unit.dtype for unit in units if unit.matrix}
    return tuple(d for d in HALF if d in fast), tuple(d for d in HALF if d in matrix)


FAST_HALF_CPU, MATRIX_UNITS_CPU = _half_of_cpu()


def without_amx() -> None:
    """The processor's AMX counts for nothing: the system does not let this process use it."""
    global FAST_HALF_CPU, MATRIX_UNITS_CPU
    FAST_HALF_CPU, MATRIX_UNITS_CPU = _half_of_cpu(amx=False)


def matmul_dtype(dtype: torch.dtype | None, device: str) -> torch.dtype | None:
    """The precision in which torch's own products and convolutions run fastest where ``dtype`` is precise enough.

    CPUs without units for a half precision convert it to multiply it.
    """
    if device != "cpu" or dtype not in HALF or dtype in FAST_HALF_CPU:
        return dtype
    return torch.float32


def int8_encoder_dtype(device: str) -> torch.dtype:
    """The precision of the encoder beside 8-bit hidden layers: bfloat16 on CPUs that multiply it faster than float32,
    in which it would take most of the time; float32 elsewhere."""
    return torch.bfloat16 if device == "cpu" and torch.bfloat16 in FAST_HALF_CPU else torch.float32


def fastest_autocast(device: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast as it is, except on CPUs that multiply its half precision more slowly than float32: there none."""
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        if matmul_dtype(dtype, device) != dtype:
            return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()
