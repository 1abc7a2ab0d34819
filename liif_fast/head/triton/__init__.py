"""``render``, ``render_fourier`` and ``render_int8`` on CUDA as one fused Triton kernel: gather, hidden layers, output,
blend.

Nothing here imports triton before the first launch. ``LIIF_FAST_TRITON=0`` leaves the kernel out; with
``LIIF_FAST_TRITON=1`` it is an error, with the reason, where the kernel cannot run; otherwise plain PyTorch runs there,
and where it is faster (``choices``).
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import choices
from .configs import KINDS, WIDTHS
from .eligible import available, eligible

__all__ = ["OPERATORS", "available", "eligible", "implementation", "on_cuda", "setting"]

# By operator: which arguments are the hidden layers' weights and w_out, and how many channels of hidden a unit has.
OPERATORS = {"render": (4, 6, 1), "render_fourier": (4, 6, 2), "render_int8": (4, 8, 1)}
_failed: set[str] = set()  # what went wrong, each said once


def setting() -> str:
    """``LIIF_FAST_TRITON``: "auto", "0" or "1"."""
    value = os.environ.get("LIIF_FAST_TRITON", "auto")
    if value not in ("auto", "0", "1"):
        raise ValueError(f"LIIF_FAST_TRITON={value}: 0, 1 or auto is wanted")
    return value


def on_cuda(name: str, plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The CUDA implementation of the operator ``name`` in OPERATORS: the fused kernel where it can run,
    else ``plain``."""

    *layers, channels = OPERATORS[name]

    @functools.wraps(plain)
    def run(*arguments: Any) -> Tensor:
        wanted = setting()
        if wanted == "0":
            return plain(*arguments)
        others = (t for t in arguments if isinstance(t, Tensor))
        ok, why = eligible(*arguments[:3], *(arguments[i] for i in layers), *others, channels=channels)
        if wanted == "1" and not ok:
            raise RuntimeError(f"LIIF_FAST_TRITON=1, but the fused kernel cannot run: {why}")
        if not ok or name in _failed:
            return plain(*arguments)
        hidden = arguments[0]
        kind, D = choices.kind_of(name, hidden), hidden.shape[-1] // channels
        if wanted == "auto" and choices.choose(kind, D, hidden.device) is None:
            return plain(*arguments)
        from . import render

        try:
            return getattr(render, name)(*arguments)
        except Exception as error:
            if wanted == "1" or not render.not_compiled(error):
                raise
            _failed.add(name)
            why = " ".join(str(error).split())[:300]
            warnings.warn(f"liif_fast: the fused kernel does not compile, plain PyTorch runs: {why}", stacklevel=2)
            return plain(*arguments)

    return run


def implementation(device: torch.device | None = None) -> str:
    """What runs ``render`` on CUDA, for ``liif-fast doctor``."""
    if setting() == "0":
        return "plain PyTorch: the fused kernel is switched off by LIIF_FAST_TRITON=0"
    ok, why = available(device)
    if not ok:
        return f"plain PyTorch, no fused kernel: {why}"
    if setting() == "1" or not torch.cuda.is_available():  # without a device: triton's interpreter
        return "fused Triton kernel"
    device = torch.device("cuda", torch.cuda.current_device()) if device is None else device
    slow = [f"{kind} {D}" for kind in KINDS for D in WIDTHS if choices.choose(kind, D, device) is None]
    return "fused Triton kernel" + (f"; plain PyTorch, which is faster, in {', '.join(slow)}" if slow else "")
