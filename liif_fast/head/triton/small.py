"""Small kernels that take the place of several passes by torch: whether one may run, and what is said where it cannot.

Nothing here imports triton; the kernels' own modules do, when they are first run.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

from .. import triton

_said: set[str] = set()  # what cannot run here, each said once
_recorded = ContextVar("recorded", default=False)


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """What is launched inside is replayed as a CUDA graph: how long a launch takes the host does not matter."""
    token = _recorded.set(True)
    try:
        yield
    finally:
        _recorded.reset(token)


def recorded() -> bool:
    return _recorded.get()


def ready(name: str, device: torch.device) -> bool:
    """Whether to try the kernel ``name``: Triton is there and not switched off, and it has not failed before."""
    return name not in _said and triton.setting() != "0" and triton.available(device)[0]


def attempt(name: str, run: Callable[[], Tensor]) -> Tensor | None:
    """``run()``; None, once with a warning, where the kernel does not compile. With LIIF_FAST_TRITON=1 an error."""
    try:
        return run()
    except Exception as error:
        from .render import not_compiled

        if not not_compiled(error) or triton.setting() == "1":
            raise
        say(name, f"the kernel for {name} does not compile", error)
        return None


def say(name: str, what: str, error: Exception) -> None:
    """Warn that something takes a pass more here; ``failed(name)`` from then on."""
    _said.add(name)
    why = " ".join(str(error).split())[:300]
    warnings.warn(f"liif_fast: {what} here, it takes a pass more: {why}", stacklevel=3)


def failed(name: str) -> bool:
    return name in _said
