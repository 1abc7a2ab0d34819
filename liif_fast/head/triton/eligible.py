"""Whether the fused kernel can run, and why not. Does not import triton, which takes a second."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import shutil

import torch
from torch import Tensor

from .configs import WIDTHS

OLDEST = (3, 6)
MAX_OUT = 16
MAX_SIDE = 1 << 22  # feature pixels along an axis whose index arithmetic is exact
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@functools.cache
def available(device: torch.device | None = None) -> tuple[bool, str]:
    """(whether the fused kernel can run on a CUDA device, why not). None: the current one."""
    version = triton_version()
    if version is None:
        return False, "triton is not installed: pip install triton"
    if version < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return False, f"triton {'.'.join(map(str, version))} is older than {wanted}: pip install --upgrade triton"
    if interpreted():
        return True, ""
    if torch.version.hip:
        return False, "it is written for NVIDIA's cards, this is a ROCm build of torch"
    if not torch.cuda.is_available():
        return False, "torch finds no CUDA device" + ("" if torch.version.cuda else " (a CPU build of torch)")
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        name = torch.cuda.get_device_name(device)
        return False, f"compute capability 8.0 or above is wanted, {name} has {capability[0]}.{capability[1]}"
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        return False, "triton needs a C compiler for its launcher: install gcc or clang, or set CC"
    return True, ""


def triton_version() -> tuple[int, ...] | None:
    """(major, minor) of the installed triton; None without it."""
    if importlib.util.find_spec("triton") is None:
        return None
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:  # under another name, as pytorch-triton
        import triton

        version = triton.__version__
    return tuple(int("".join(filter(str.isdigit, n)) or 0) for n in version.split(".")[:2])


def interpreted() -> bool:
    """Whether triton runs kernels in its interpreter: on the CPU, to test them."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def eligible(
    hidden: Tensor,
    coord: Tensor,
    cell: Tensor | None,
    weights: Tensor,
    w_out: Tensor,
    *others: Tensor,
    channels: int = 1,
) -> tuple[bool, str]:
    """(whether the fused kernel takes these arguments of an operator in ``OPERATORS``, why not).

    Args:
        weights: ``w_mlp`` or ``w_q``, ``[L, D, D]``; others: what only has to be on the same device.
        channels: of hidden, for each of the D units.
    """
    L, D = len(weights), hidden.shape[-1] // channels
    if hidden.dtype not in DTYPES:
        return False, f"hidden is {hidden.dtype}: float32, bfloat16 or float16 is wanted"
    for name, t in (("coord", coord), ("cell", cell)):
        if t is not None and t.dtype != torch.float32:
            return False, f"{name} is {t.dtype}: float32 is wanted"
    if D not in WIDTHS:
        return False, f"hidden layers of {D} units: {', '.join(map(str, WIDTHS))} are supported"
    if weights.shape[1:] != (D, D) or w_out.shape[-1] != D:  # plain PyTorch says what is wrong with them
        return False, f"layers of {list(weights.shape)} and {list(w_out.shape)}: {D} inputs and outputs are wanted"
    if L < 1:
        return False, "the MLP has no hidden layer behind the first"
    if len(w_out) > MAX_OUT:
        return False, f"{len(w_out)} output channels: at most {MAX_OUT} are supported"
    if hidden.shape[1] * hidden.shape[2] == 0:
        return False, f"an empty hidden map ({hidden.shape[1]}x{hidden.shape[2]})"
    if max(hidden.shape[1:3]) >= MAX_SIDE:
        return False, f"a hidden map of {hidden.shape[1]}x{hidden.shape[2]}: sides below {MAX_SIDE} are supported"
    if hidden.device.type != "cuda" and not interpreted():
        return False, f"hidden is on {hidden.device}: a CUDA device is wanted"
    for t in (coord, cell, weights, w_out, *others):
        if t is not None and t.device != hidden.device:
            return False, f"hidden is on {hidden.device}, another argument on {t.device}: one device is wanted"
    return available(hidden.device)
