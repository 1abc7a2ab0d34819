"""Passes over gradients that leave column sums behind: a layer's bias gradient is the sum of what the pass writes.

What they return are partial sums ``[P, D]``, each of some rows; ``column_sums`` adds up those of all layers at once,
since launches for so few numbers cost more than the sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .precision import geometry_dtype
from .triton import small


def relu_backward(grad: Tensor, out: Tensor) -> Tensor:
    """The gradient in front of a ReLU, in the memory of ``grad``; returns its partial sums.

    Args:
        grad: ``[R, D]``, contiguous: behind the ReLU.
        out: ``[R, D]``, contiguous, of the same dtype: what the ReLU gave.

    Returns:
        ``[P, D]``, float32 (float64 with float64), the same numbers each time.

    Equivalent to: ``grad.masked_fill_(out <= 0, 0)``; ``grad.sum(0)`` is the sum of what is returned.
    """
    if _suits(grad, out) and (partial := _by_kernel("relu_backward", grad, out)) is not None:
        return partial
    torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad)
    return partial_sums(grad)


def add(x: Tensor, y: Tensor) -> Tensor:
    """``x += y`` of two matrices ``[R, D]``, contiguous and of one dtype; returns x's partial sums, as above."""
    if _suits(x, y) and (partial := _by_kernel("add", x, y)) is not None:
        return partial
    return partial_sums(x.add_(y))


def partial_sums(x: Tensor) -> Tensor:
    """``[R, D] -> [1, D]``, without a pass that is there anyway."""
    return x.sum(0, keepdim=True, dtype=geometry_dtype(x.dtype))


def column_sums(partial: Sequence[Tensor]) -> list[Tensor]:
    """``[D]`` of each ``[P, D]``, in one sum for those of equal shape."""
    found: dict[torch.Size, list[int]] = {}
    for i, t in enumerate(partial):
        found.setdefault(t.shape, []).append(i)
    sums = list(partial)
    for places in found.values():
        together = torch.stack([partial[i] for i in places]).sum(1)
        for i, total in zip(places, together.unbind(), strict=True):
            sums[i] = total
    return sums


def _suits(x: Tensor, y: Tensor) -> bool:
    same = x.dtype == y.dtype != torch.float64 and x.is_contiguous() and y.is_contiguous()
    return same and x.numel() > 0 and on_cuda(x) and small.ready("column sums", x.device)


def on_cuda(x: Tensor) -> bool:
    return x.device.type == "cuda"


def _by_kernel(name: str, x: Tensor, y: Tensor) -> Tensor | None:
    from .triton import passes_kernel

    return small.attempt("column sums", lambda: getattr(passes_kernel, name)(x, y))
