"""EDSR's residual blocks with gradients, on CUDA where convolutions run by matrix units: few passes, little memory.

Forward as ``residual`` has it. Kept for the gradient are the inputs of every second block, where torch keeps that of
every convolution; what lies between is computed again, three of four convolutions. Backward, the gradient of each bias
is the sum that a pass leaves behind which is there anyway: ReLU's mask, the addition of the residual's gradient.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...head import passes, transforms
from ...head.unwatched import unwatched
from ..encoding import by_matrix_units
from . import residual

KEEP = 2  # the input of each so many-th block is kept
# Values of x from which on it is worth it where every launch is Python's: with fewer, torch's own backward pass, which
# is not Python's, keeps ahead of the device (measured: 16 blocks on 2.4 million values take 7 ms longer so).
LARGE = 1 << 23
_LAST = torch.channels_last
_ONE, _NONE = [1, 1], [0, 0]


_here = threading.local()


@contextlib.contextmanager
def preferred() -> Iterator[None]:
    """Inside, in this thread, the blocks run so for small x too: launches are recorded, or will be."""
    before = getattr(_here, "preferred", False)
    _here.preferred = True
    try:
        yield
    finally:
        _here.preferred = before


def suits(x: Tensor) -> bool:
    """Whether x is what the blocks get in training on CUDA, it is worth it, and nobody watches the operations."""
    if not torch.is_grad_enabled() or not isinstance(x, Tensor) or not x.requires_grad or not residual.on_cuda(x):
        return False
    worth = getattr(_here, "preferred", False) or x.numel() >= LARGE
    return worth and unwatched(x) and by_matrix_units(x.device.type, x.dtype)


def run(x: Tensor, layers: Sequence[nn.Conv2d], scales: Sequence[float]) -> Tensor:
    """As ``residual.run``, with gradients for x and all weights and biases.

    Args:
        x: for which ``suits``.
        layers: ``residual.known``, all of whose parameters want a gradient.

    Where gradients of gradients are wanted (``create_graph=True``), they are computed as by the modules.
    """
    parameters = [t for layer in layers for t in (layer.weight, layer.bias)]
    return _Blocks.apply(tuple(scales), KEEP, x, *parameters)


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scales: tuple[float, ...], keep: int, x: Tensor, *parameters: Tensor) -> Tensor:
        given = x
        with torch.autocast(x.device.type, enabled=False):
            x = whole = x.contiguous(memory_format=_LAST)
            w, b = residual.converted(parameters[::2], parameters[1::2], x.dtype)
            kept = []
            for i, scale in enumerate(scales):
                if i > 0 and i % keep == 0:
                    kept.append(x)
                x = residual.second(x, residual.first(x, w[2 * i], b[2 * i]), w[2 * i + 1], b[2 * i + 1], scale)
            out = residual.second(whole, x, w[-1], b[-1], 1.0)
        ctx.scales, ctx.keep = scales, keep
        ctx.save_for_backward(*parameters, given, *kept, x)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        scales, n = ctx.scales, 2 * (2 * len(ctx.scales) + 1)
        saved = ctx.saved_tensors  # once: checkpoints unpack once
        parameters, (given, *kept, x) = saved[:n], saved[n:]
        with torch.autocast(grad.device.type, enabled=False):
            if torch.is_grad_enabled() or transforms.batched(grad):
                return None, None, *_gradients_by_modules(given, scales, parameters, grad)
            kept.insert(0, given.contiguous(memory_format=_LAST))
            w, b = residual.converted(parameters[::2], parameters[1::2], x.dtype)
            grad_w, grad_b = list(w), list(b)
            whole = grad.to(x.dtype).contiguous(memory_format=_LAST)
            grad_b[-1] = passes.partial_sums(_matrix(whole))
            g, grad_w[-1] = _convolution(whole, x, w[-1])
            sums = passes.partial_sums(_matrix(g))
            for start in reversed(range(0, len(scales), ctx.keep)):
                blocks = range(start, min(start + ctx.keep, len(scales)))
                inputs, hidden = [kept.pop()], []
                for i in blocks:
                    h = residual.first(inputs[-1], w[2 * i], b[2 * i])
                    hidden.append(h.contiguous(memory_format=_LAST))  # not all of torch's convolutions keep it
                    if i + 1 < blocks.stop:
                        inputs.append(residual.second(inputs[-1], hidden[-1], w[2 * i + 1], b[2 * i + 1], scales[i]))
                for i in reversed(blocks):
                    x, h, scale = inputs.pop(), hidden.pop(), scales[i]
                    grad_b[2 * i + 1] = sums if scale == 1 else sums * scale
                    inner, grad_w[2 * i + 1] = _convolution(g if scale == 1 else g * scale, h, w[2 * i + 1])
                    grad_b[2 * i] = passes.relu_backward(_matrix(inner), _matrix(h))
                    del h
                    inner, grad_w[2 * i] = _convolution(inner, x, w[2 * i])
                    sums = passes.add(_matrix(g), _matrix(inner))
                    del inner, x
            grad_b = passes.column_sums(grad_b)
            grads = zip(_as_parameters(grad_w, parameters[::2]), _as_parameters(grad_b, parameters[1::2]), strict=True)
            return None, None, g.add_(whole), *(t for pair in grads for t in pair)


def _gradients_by_modules(
    x: Tensor, scales: Sequence[float], parameters: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor, ...]:
    """Of x and the parameters, by operations that each have gradients of gradients, and batches of them."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # others of the same values: x may depend on the parameters, one of which may be there twice, and each must get
        # what comes by its own place alone
        given = [t.view_as(t) for t in (x, *parameters)]
        whole = x = given[0]
        w, b = ([p.to(x.dtype) for p in given[i::2]] for i in (1, 2))
        for i, scale in enumerate(scales):
            h = F.conv2d(x, w[2 * i], b[2 * i], padding=1).relu()
            x = torch.add(x, F.conv2d(h, w[2 * i + 1], b[2 * i + 1], padding=1), alpha=scale)
        out = whole + F.conv2d(x, w[-1], b[-1], padding=1)
        return torch.autograd.grad(out, given, grad, create_graph=again)


def _convolution(grad: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the input and of the weight of ``F.conv2d(x, w, padding=1)``, channels last."""
    ours, weight, _ = torch.ops.aten.convolution_backward(
        grad, x, w, None, _ONE, _ONE, _ONE, False, _NONE, 1, [True, True, False]
    )
    return ours.contiguous(memory_format=_LAST), weight.contiguous(memory_format=_LAST)


def _matrix(x: Tensor) -> Tensor:
    """``[B, C, H, W]``, channels last, as ``[B * H * W, C]`` in the same memory."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _as_parameters(grads: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients in the parameters' dtype, in the order of memory that these mostly have: few launches for all."""
    if grads[0].ndim == 4:
        rows = torch.stack([g.permute(0, 2, 3, 1) for g in grads]).permute(0, 1, 4, 2, 3)
    else:
        rows = torch.stack(list(grads))
    dtypes = {p.dtype for p in parameters}
    dtype = dtypes.pop() if len(dtypes) == 1 else rows.dtype
    rows = torch.empty(rows.shape, dtype=dtype, device=rows.device).copy_(rows)
    return [g.to(p.dtype) for g, p in zip(rows.unbind(), parameters, strict=True)]
