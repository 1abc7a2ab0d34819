"""A convolution with what follows it, in one pass where there is a kernel for that: ``triton.convolution``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import HALF
from .triton import small
from .unwatched import plain, unwatched

_LAST = torch.channels_last
# A launch takes the host some 0.25 ms, in which an H100 convolves as many pixels: fewer are worth it in a recording.
WORTH = 1 << 21
_NAME = "convolutions in one pass"


def joined(
    x: Tensor, w: Tensor, b: Tensor, *, relu: bool = False, residual: Tensor | None = None, scale: float = 1.0
) -> Tensor | None:
    """``conv(x, w) + b``, its ReLU, or ``residual + scale * that``: summed in float32 in one order, rounded once.

    Args:
        x: ``[B, 64, H, W]`` in half precision.
        w: ``[64 n, 64, 3, 3]``; b: ``[64 n]``; zeros are around the image.
        residual: as the result, for n = 1.

    Returns:
        ``[B, 64 n, H, W]``, channels last; None where no kernel does this, or it does not pay.

    Equivalent to: ``F.conv2d(x, w, b, padding=1)`` in float32, ``F.relu`` or ``residual + scale * that``, rounded.
    """
    if not _suits(x, w, b, residual):
        return None
    from .triton import convolution

    run = lambda: convolution.convolve(x, w, b, relu=relu, residual=residual, scale=scale)  # noqa: E731
    return small.attempt(_NAME, run)


def conv2d(x: Tensor, w: Tensor, b: Tensor, padding: int) -> Tensor:
    """``F.conv2d(x, w, b, padding=padding)``, by ``joined`` where it can be."""
    if padding == 1 and _asked(x):
        own, bias = w.to(x.dtype, memory_format=_LAST), b.to(x.dtype)  # as autocast would, in every call
        if (found := joined(x, own, bias)) is not None:
            return found
    return F.conv2d(x, w, b, padding=padding)


def _asked(x: Tensor) -> bool:
    """Whether this input is for the kernel: the half of the question that needs no weights."""
    if not on_hopper(x) or x.dtype not in HALF or torch.is_grad_enabled() or not unwatched(x) or x.shape[1] != 64:
        return False
    return (small.recorded() or x.numel() >= 64 * WORTH) and small.ready(_NAME, x.device)


def on_hopper(x: Tensor) -> bool:
    """It multiplies by wgmma, which compute capability 9.0 alone has."""
    return x.device.type == "cuda" and torch.cuda.get_device_capability(x.device) == (9, 0)


def _suits(x: Tensor, w: Tensor, b: Tensor, residual: Tensor | None) -> bool:
    if not _asked(x) or w.ndim != 4 or w.shape[1:] != (64, 3, 3) or len(w) % 64 or b.shape != (len(w),):
        return False
    given = [x, w] if residual is None else [x, w, residual]
    if residual is not None and (residual.shape != x.shape or len(w) != 64):
        return False
    if not plain((*given, b)) or any(t.dtype != x.dtype or t.device != x.device for t in (*given, b)):
        return False
    # TMA reads from addresses that are multiples of 16
    return all(t.is_contiguous(memory_format=_LAST) and t.data_ptr() % 16 == 0 for t in given) and b.is_contiguous()
