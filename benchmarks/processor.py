"""What the processor has, which of our kernels run on it, and which of the ceilings bounds what."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from liif_fast.head import ops

AMX = frozenset({"amx_tile", "amx_bf16", "amx_int8"})
# what rows keep of the flags: the instruction sets that decide what runs
TELLING = AMX | {"avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_fp16"}
KINDS = WITHOUT_AMX, WITH_AMX, WITHOUT_AVX512 = "AVX-512 without AMX", "with AMX", "without AVX-512"


def facts() -> dict[str, str]:
    """Of the first processor what Linux says: {"model name": ..., "flags": ..., ...}; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    first = info.read_text(encoding="utf-8").split("\n\n", 1)[0] if info.exists() else ""
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def about() -> dict:
    """Of a row: the processor's name, with the numbers that tell it from others of that name, and what it has."""
    found = facts()
    numbers = [f"{name.removeprefix('cpu ')} {found[name]}" for name in ("cpu family", "model") if name in found]
    name = found.get("model name") or platform.processor()
    return {"cpu": f"{name} ({', '.join(numbers)})" if numbers else name, "flags": sorted(flags() & TELLING)}


def flags() -> set[str]:
    return set(facts().get("flags", "").split())


def kind(row: dict) -> str:
    """Of the processor that a row is from. Rows without "flags" are from before they were kept: AVX-512 without AMX."""
    found = set(row.get("flags", ["avx512f"]))
    return WITH_AMX if found >= AMX else WITHOUT_AMX if "avx512f" in found else WITHOUT_AVX512


def path(kind: str, device: torch.device, training: bool = False) -> str:
    """The instruction set of the head's kernels for this kind of number; "" where they do not say."""
    return ops.cpu_kernels().get(f"train_{kind}" if training else kind, "") if device.type == "cpu" else ""


def unit(kind: str, path: str) -> str:
    """The name of the ceiling of the kernels of this path, see ``ceiling.py``."""
    return f"amx {kind}" if path.startswith("amx_") else kind


def torch_unit(kind: str, device: torch.device) -> str:
    """The name of the ceiling of torch's own products and convolutions: oneDNN uses AMX where there is one."""
    return "amx bfloat16" if kind == "bfloat16" and device.type == "cpu" and flags() >= AMX else kind


def total(*parts: tuple[str, float]) -> dict[str, float]:
    """A contender's ``work`` of (ceiling, amount) each."""
    found: dict[str, float] = {}
    for name, amount in parts:
        found[name] = found.get(name, 0.0) + amount
    return found
