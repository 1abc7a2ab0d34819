"""What ``liif-fast doctor`` shows: how fast this machine is, versions, devices, and which implementation of each
operator would run."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from typing import Any

import torch

from ..base.version import VERSION
from ..head import library, ops, precision, triton
from ..weights import pretrained
from . import common, machine_speed, reporting

_PACKAGES = ("torch", "numpy", "pillow", "safetensors", "triton", "torchmetrics")


def run(args: argparse.Namespace) -> int:
    """Say it all; returns the exit code."""
    speed, found = machine_speed.measured(), facts()
    whole = {"speed": speed, **found}
    reporting.results(json.dumps(whole, indent=2) if args.json else f"{machine_speed.text(speed)}\n{text(found)}")
    return 0


def facts() -> dict[str, Any]:
    """Everything as one dictionary that JSON can hold."""
    chosen, why = common.cpu_dtype()
    return {
        "liif_fast": VERSION,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "library": library.status,
        "cpu": {
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "kernels": torch.ops.liif_fast.cpu_info() if library.status == "loaded" else "none",
            "encoder": [_short(d) for d in (torch.float32, *precision.FAST_HALF_CPU)],
            "dtype": _short(chosen),
            "why": why,
            "int8_encoder": _short(precision.int8_encoder_dtype("cpu")),
        },
        "cuda": {
            "built_with": torch.version.cuda,
            "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "fused_kernel": triton.implementation(),
        },
        "operators": {name: _implementations(name) for name in ops.NAMES},
        "weights": {
            "package": [name for name in pretrained.names() if pretrained.shipped(name)],
            "cache": str(pretrained.cache_dir()),
            "files": sorted(p.name for p in pretrained.cache_dir().glob("*") if p.is_file()),
        },
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith("LIIF_FAST_")},
    }


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _implementations(name: str) -> dict[str, str]:
    """What the dispatcher would run on each device, and why nothing faster."""
    found = {}
    for key in ("CPU", "CUDA"):
        if torch._C._dispatch_has_kernel_for_dispatch_key(f"liif_fast::{name}", key):
            how = "compiled kernel"
        elif key == "CPU" or library.status != "loaded":
            how = f"plain PyTorch: the compiled library is {library.status}"
        elif ops.CUDA_KERNELS:
            how = "plain PyTorch: this version of liif_fast has no compiled CUDA kernel for it"
        else:
            how = "plain PyTorch: the library was built without CUDA kernels (LIIF_FAST_BUILD=cuda)"
        if key == "CUDA" and not torch.cuda.is_available():
            build = "" if torch.version.cuda else " (a CPU build of torch)"
            how = f"unused ({how}): torch finds no CUDA device{build}"
        elif key == "CUDA" and name in triton.OPERATORS:
            how = triton.implementation()
        found[key.lower()] = how
    return found


def text(facts: dict[str, Any]) -> str:
    """The facts for people."""
    lines = [
        f"liif_fast {facts['liif_fast']}, Python {facts['python']}, {facts['system']}",
        "packages: " + ", ".join(f"{k} {v or 'not installed'}" for k, v in facts["packages"].items()),
        f"compiled library: {facts['library']}",
        f"cpu: {facts['cpu']['threads']} threads, {facts['cpu']['capability']}; kernels: {facts['cpu']['kernels']}",
        f"cpu: encoders run fast in {', '.join(facts['cpu']['encoder'])}; beside int8 in "
        f"{facts['cpu']['int8_encoder']}; LIIF by --dtype auto in {facts['cpu']['dtype']}: {facts['cpu']['why']}",
        f"cuda: torch built with {facts['cuda']['built_with'] or 'none'}; "
        f"devices: {', '.join(facts['cuda']['devices']) or 'none'}; fused kernel: {facts['cuda']['fused_kernel']}",
    ]
    for name, found in facts["operators"].items():
        lines += [f"{name} on {device}: {how}" for device, how in found.items()]
    weights = facts["weights"]
    fetched = ", ".join(weights["files"]) or "nothing fetched yet"
    lines.append(f"weights: {', '.join(weights['package'])}; {weights['cache']}: {fetched}")
    lines += [f"{k}={v}" for k, v in facts["environment"].items()]
    return "\n".join(lines)
