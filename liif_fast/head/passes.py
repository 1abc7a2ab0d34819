"""Passes over gradients that leave column sums behind: a layer's bias gradient is the sum of what the pass writes."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import geometry_dtype
from .triton import small


def relu_backward(grad: Tensor, out: Tensor) -> Tensor:
    """The gradient in front of a ReLU, in the memory of ``grad``; returns its column sums.

    Args:
        grad: ``[R, D]``, contiguous: behind the ReLU.
        out: ``[R, D]``, contiguous, of the same dtype: what the ReLU gave.

    Returns:
        ``[D]``, float32 (float64 with float64), in the same order each time.

    Equivalent to: ``grad.masked_fill_(out <= 0, 0).sum(0)``.
    """
    if _suits(grad, out) and (sums := _by_kernel("relu_backward", grad, out)) is not None:
        return sums
    torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad)
    return column_sums(grad)


def add(x: Tensor, y: Tensor) -> Tensor:
    """``x += y`` of two matrices ``[R, D]``, contiguous and of one dtype; returns x's column sums, as above."""
    if _suits(x, y) and (sums := _by_kernel("add", x, y)) is not None:
        return sums
    return column_sums(x.add_(y))


def column_sums(x: Tensor) -> Tensor:
    """``[R, D] -> [D]``, float32 (float64 with float64)."""
    return x.sum(0, dtype=geometry_dtype(x.dtype))


def _suits(x: Tensor, y: Tensor) -> bool:
    same = x.dtype == y.dtype != torch.float64 and x.is_contiguous() and y.is_contiguous()
    return same and x.numel() > 0 and on_cuda(x) and small.ready("column sums", x.device)


def on_cuda(x: Tensor) -> bool:
    return x.device.type == "cuda"


def _by_kernel(name: str, x: Tensor, y: Tensor) -> Tensor | None:
    from .triton import passes_kernel

    return small.attempt("column sums", lambda: getattr(passes_kernel, name)(x, y))
