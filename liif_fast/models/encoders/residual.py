"""EDSR's residual blocks for inference in half precision on CUDA: fewer passes over memory, the same sums.

Convolution, bias and ReLU are one call of cuDNN's, residual and bias one pass; on compute capability 9.0 each is one
kernel with the convolution before it, where that pays (``head.convolution``). Weights are converted to half precision
with channels last, all in a few launches at the beginning of each call: nothing is kept that could be out of date, and
a CUDA graph of it sees new values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.out_of_memory import out_of_memory
from ...head import convolution
from ...head.precision import HALF
from ...head.triton import small
from ...head.unwatched import plain, unwatched
from .. import folding

_CONV = nn.Conv2d.forward, nn.Conv2d._conv_forward
_LAST = torch.channels_last


def suits(x: Tensor) -> bool:
    """Whether x is what the blocks get in inference in half precision on CUDA, and nobody watches the operations."""
    return not torch.is_grad_enabled() and plain([x]) and x.dtype in HALF and on_cuda(x) and unwatched(x)


def on_cuda(x: Tensor) -> bool:
    return x.device.type == "cuda"


def known(layer: nn.Module, x: Tensor) -> bool:
    """Whether calling a layer is a 3x3 convolution of as many channels as x has to as many, with a bias and zeros
    around the image, by weights that autocast or nobody has to convert to the dtype of x."""
    own = vars(layer)
    if type(layer) is not nn.Conv2d or not folding.runs(layer, _CONV[0]) or "_conv_forward" in own:
        return False
    geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
    if type(layer)._conv_forward is not _CONV[1] or geometry != ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros"):
        return False
    w, b, C = layer.weight, layer.bias, x.shape[1]
    if b is None or not plain([w, b]) or w.shape != (C, C, 3, 3) or b.shape != (C,):
        return False
    dtypes = (torch.float32, *HALF) if torch.is_autocast_enabled(x.device.type) else (x.dtype,)
    return all(t.dtype in dtypes and t.device == x.device for t in (w, b))


def run(x: Tensor, layers: Sequence[nn.Conv2d], scales: Sequence[float]) -> Tensor:
    """``x + last(block(... block(x)))``, each block ``x + scale * second(relu(first(x)))``: ``[B, C, H, W]``.

    Args:
        x: for which ``suits``.
        layers: first and second convolution of each block, then the last one; ``known``.
        scales: of the residual of each block.
    """
    x = whole = x.contiguous(memory_format=_LAST)
    weights, biases = [layer.weight.detach() for layer in layers], [layer.bias.detach() for layer in layers]  # type: ignore[union-attr]  # known
    w, b = converted(weights, biases, x.dtype)
    for i, scale in enumerate(scales):
        x = second(x, first(x, w[2 * i], b[2 * i]), w[2 * i + 1], b[2 * i + 1], scale)
    return second(whole, x, w[-1], b[-1], 1.0)


def converted(
    weights: Sequence[Tensor], biases: Sequence[Tensor], dtype: torch.dtype
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Weights with channels last, and biases, in ``dtype``."""
    w = torch.empty(len(weights), *weights[0].shape, dtype=dtype, device=weights[0].device)
    b = torch.empty(len(biases), *biases[0].shape, dtype=dtype, device=biases[0].device)
    torch._foreach_copy_(w.unbind(), list(weights))  # a launch for all, where strides are the same
    torch._foreach_copy_(b.unbind(), list(biases))
    return w.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3).unbind(), b.unbind()


def first(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """``relu(conv(x))``."""
    if (one_pass := convolution.joined(x, w, b, relu=True)) is not None:
        return one_pass
    # the joint call may choose a kernel that sums in any order
    exact = torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic
    few = x.numel() < 1 << 31  # beyond, F.conv2d knows what to do
    if torch.backends.cudnn.enabled and few and not exact and not small.failed("cudnn"):
        try:
            # cudnn_convolution_relu gives its own output, not yet written, for what is added: 0 times NaN
            return torch.cudnn_convolution_add_relu(x, w, x, 0.0, b, (1, 1), (1, 1), (1, 1), 1)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            small.say("cudnn", "cuDNN does not join a convolution with its bias and ReLU", error)
    return F.conv2d(x, w, b, padding=1).relu_()


def second(x: Tensor, h: Tensor, w: Tensor, b: Tensor, scale: float) -> Tensor:
    """``x + scale * conv(h)``."""
    if (one_pass := convolution.joined(h, w, b, residual=x, scale=scale)) is not None:
        return one_pass
    return _added(x, F.conv2d(h, w, padding=1), b, scale)


def _added(x: Tensor, y: Tensor, b: Tensor, scale: float) -> Tensor:
    """``x + scale * (y + b)`` with a bias for each channel, in the memory of y."""
    dense = all(t.is_contiguous(memory_format=_LAST) for t in (x, y))
    if dense and small.ready("residual and bias", x.device):
        from . import residual_kernel

        added = small.attempt("residual and bias", lambda: residual_kernel.add(x, y, b, scale))
        if added is not None:
            return added
    return torch.add(x, y.add_(b.view(-1, 1, 1)), alpha=scale)
