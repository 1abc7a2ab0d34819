"""Derivatives by other means than ``backward``: ``torch.func`` and forward mode (``torch.autograd.forward_ad``).

The operators have a gradient for ``backward`` alone. Elsewhere they would be taken for constants, silently, so that the
head runs in PyTorch's own operations there, and an operator that is called by itself refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_functorch = torch._C._functorch


def active() -> bool:
    """Whether a transform of ``torch.func`` (grad, vmap, jvp, ...) or a level of forward mode is entered."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def batched(t: Tensor) -> bool:
    """Whether t stands for a batch of its like, as gradients do with ``is_grads_batched``."""
    return active() or _functorch.is_legacy_batchedtensor(t)


def differentiated(tensors: Iterable[Any]) -> bool:
    """Whether a transform differentiates with respect to one of these."""
    return active() and any(_tracked(t) or _tangent(t) for t in tensors if isinstance(t, Tensor))


def refuse_gradient(what: str, tensors: Iterable[Any]) -> None:
    """Raise where ``torch.func.grad`` and its kin would take a result under ``torch.no_grad`` for a constant.

    Forward mode is not stopped by ``torch.no_grad``.
    """
    if not torch._C._are_functorch_transforms_active():
        return
    levels = _functorch.get_interpreter_stack() or ()
    if any(i.key() == _functorch.TransformType.Grad for i in levels) and any(map(_tracked, tensors)):
        raise RuntimeError(f"{what} has no gradient, so torch.func would take it for 0: use forward() or query()")


def refusing(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """An operator's kernel for autograd, which raises where derivatives of another kind are wanted from it."""

    def checked(keyset: Any, *args: Any, **kwargs: Any) -> Any:
        if differentiated(args):
            if name.startswith("gather_corners"):
                instead = "liif_fast.functional.gather_corners, which has one"
            else:
                instead = "liif_fast.functional.query or LIIF.query, which have one"
            raise RuntimeError(
                f"liif_fast::{name} has no derivative under torch.func or in forward mode: use {instead}"
            )
        return kernel(keyset, *args, **kwargs)

    return checked


def _tracked(t: Tensor) -> bool:
    """Whether a level of ``torch.func`` differentiates with respect to t (through levels of vmap too)."""
    while _functorch.is_functorch_wrapped_tensor(t):
        if _functorch.is_gradtrackingtensor(t):
            return True
        t = _functorch.get_unwrapped(t)
    return False


def _tangent(t: Tensor) -> bool:
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(t).tangent is not None
