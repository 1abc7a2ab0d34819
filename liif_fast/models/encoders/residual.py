"""EDSR's residual blocks for inference in half precision on CUDA: fewer passes over memory, the same sums.

Convolution, bias and ReLU are one call of cuDNN's, residual and bias one pass. Weights are converted to half precision
with channels last, all in a few launches at the beginning of each call: nothing is kept that could be out of date, and
a CUDA graph of it sees new values.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ...base.out_of_memory import out_of_memory
from ...head import transforms, triton
from ...head.precision import HALF
from .. import folding

_CONV = nn.Conv2d.forward, nn.Conv2d._conv_forward
_LAST = torch.channels_last
_said: set[str] = set()  # what cannot run here, each said once


def suits(x: Tensor) -> bool:
    """Whether x is what the blocks get in inference in half precision on CUDA, and nobody watches the operations."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing() or transforms.active():
        return False
    if not folding.plain([x]) or x.dtype not in HALF or x.ndim != 4 or not x.numel() or not on_cuda(x):
        return False
    device = x.device.type
    autocast = torch.is_autocast_enabled(device)
    return (not autocast or torch.get_autocast_dtype(device) == x.dtype) and not is_in_torch_dispatch_mode()


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
    if b is None or not folding.plain([w, b]) or w.shape != (C, C, 3, 3) or b.shape != (C,):
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
    (*weights, w_last), (*biases, b_last) = _converted(layers, x.dtype)
    for i, scale in enumerate(scales):
        h = _convolved_relu(x, weights[2 * i], biases[2 * i])
        y = F.conv2d(h, weights[2 * i + 1], padding=1)
        del h  # before the next one is made
        x = _added(x, y, biases[2 * i + 1], scale)
    return _added(whole, F.conv2d(x, w_last, padding=1), b_last, 1.0)


def _converted(layers: Sequence[nn.Conv2d], dtype: torch.dtype) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Weights with channels last, and biases, in ``dtype``."""
    weights, biases = [layer.weight.detach() for layer in layers], [layer.bias.detach() for layer in layers]  # type: ignore[union-attr]  # known
    w = torch.empty(len(layers), *weights[0].shape, dtype=dtype, device=weights[0].device)
    b = torch.empty(len(layers), *biases[0].shape, dtype=dtype, device=biases[0].device)
    torch._foreach_copy_(w.unbind(), weights)  # a launch for all, where strides are the same
    torch._foreach_copy_(b.unbind(), biases)
    return w.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3).unbind(), b.unbind()


def _convolved_relu(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    # the joint call may choose a kernel that sums in any order
    exact = torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic
    small = x.numel() < 1 << 31  # beyond, F.conv2d knows what to do
    if torch.backends.cudnn.enabled and small and not exact and "cudnn" not in _said:
        try:
            # cudnn_convolution_relu gives its own output, not yet written, for what is added: 0 times NaN
            return torch.cudnn_convolution_add_relu(x, w, x, 0.0, b, (1, 1), (1, 1), (1, 1), 1)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            _say("cudnn", "cuDNN does not join a convolution with its bias and ReLU", error)
    return F.conv2d(x, w, b, padding=1).relu_()


def _added(x: Tensor, y: Tensor, b: Tensor, scale: float) -> Tensor:
    """``x + scale * (y + b)`` with a bias for each channel, in the memory of y."""
    if "kernel" not in _said and _kernel_suits(x, y):
        from . import residual_kernel

        try:
            return residual_kernel.add(x, y, b, scale)
        except Exception as error:
            from ...head.triton.render import not_compiled

            if not not_compiled(error) or triton.setting() == "1":
                raise
            _say("kernel", "the kernel for residual and bias does not compile", error)
    return torch.add(x, y.add_(b.view(-1, 1, 1)), alpha=scale)


def _kernel_suits(x: Tensor, y: Tensor) -> bool:
    dense = all(t.is_contiguous(memory_format=_LAST) for t in (x, y))
    return dense and triton.setting() != "0" and triton.available(x.device)[0]


def _say(name: str, what: str, error: Exception) -> None:
    _said.add(name)
    why = " ".join(str(error).split())[:300]
    warnings.warn(f"liif_fast: {what} here, it takes a pass more: {why}", stacklevel=2)
