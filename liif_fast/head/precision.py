"""In which precision what is computed: geometry always in a wide one, products in the one that is fastest here."""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings

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


def _fast_bfloat16_cpu() -> bool:
    """bfloat16 products are faster than float32's with matrix units (AMX) and on AMD's processors, and run at half
    their rate on Intel's without them (measured), so the capability flag alone misleads. LIIF_FAST_MATMUL=bfloat16 or
    float32 decides instead."""
    asked = os.environ.get("LIIF_FAST_MATMUL") or "auto"
    if asked in ("bfloat16", "float32"):
        return asked == "bfloat16"
    if asked != "auto":  # no reason to stop an import
        warnings.warn(
            f"LIIF_FAST_MATMUL: auto, bfloat16 or float32 is wanted, got {asked!r}: auto is used", stacklevel=2
        )
    words = set()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as info:
        words = {word for line in itertools.takewhile(str.strip, info) for word in line.split()}  # the first processor
    return "amx_bf16" in words or {"avx512_bf16", "AuthenticAMD"} <= words


FAST_BFLOAT16_CPU = _fast_bfloat16_cpu()


def matmul_dtype(dtype: torch.dtype | None, device: str) -> torch.dtype | None:
    """The precision in which torch's own products and convolutions run fastest where ``dtype`` is precise enough.

    CPUs convert float16 to multiply it.
    """
    if device != "cpu" or dtype not in HALF or (dtype == torch.bfloat16 and FAST_BFLOAT16_CPU):
        return dtype
    return torch.float32


def fastest_autocast(device: str) -> contextlib.AbstractContextManager:
    """Autocast as it is, except on CPUs that multiply its half precision more slowly than float32: there none."""
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        if matmul_dtype(dtype, device) != dtype:
            return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()
