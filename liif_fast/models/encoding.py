"""Calling an encoder: its input in the dtype and the layout that it runs fastest in, its map cut back to the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..head import precision, transforms
from ..head.precision import HALF
from . import padding
from .checks import check_input

if TYPE_CHECKING:
    from .liif import LIIF


def encode(model: LIIF, inp: Tensor, encoder: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """``[B, 3, H, W] -> [B, C, H, W]``, as ``LIIF.gen_feat`` gives it.

    Args:
        encoder: what to call in place of the model's, and computes the same.
    """
    check_input(inp, model.encoder)
    call = model.encoder if encoder is None else encoder
    # half-precision models take float32 images, as under autocast
    whole = padding.padded(inp, model.pad_to)
    with precision.fastest_autocast(inp.device.type):
        feat = _called(call, laid_out(whole.to(next(model.encoder.parameters(), inp).dtype)))
    feat = padding.cut(feat, whole, inp, type(model.encoder).__name__)
    model.check_map(feat, inp)
    return feat


def _called(encoder: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``encoder(x)``; one that calls ``view`` on what has its channels last, which torch refuses, gets it as the
    official code gives it."""
    try:
        return encoder(x)
    except RuntimeError as error:
        if "view size is not compatible" not in str(error) or x.is_contiguous():
            raise
    return encoder(x.contiguous())


def laid_out(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """``[B, C, H, W]`` with channels last where ``by_matrix_units``, so that each convolution finds it so.

    In inference: training has a switch for it; compilers choose layouts themselves, and vmap knows no other.

    Args:
        dtype: of the convolutions, if it is another than that of x or of autocast.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or transforms.active():
        return x
    if by_matrix_units(x.device.type, dtype or x.dtype):
        x = x.contiguous(memory_format=torch.channels_last)
    return _told_as_dense(x)


def _told_as_dense(x: Tensor) -> Tensor:
    """The same memory. The stride of a batch of one means nothing, and an array's as ``[1, C, H, W]`` is C: with that
    oneDNN does not see channels last, and converts at each layer (1.6 times the time of EDSR-baseline)."""
    if len(x) == 1 and x.stride(0) != x[0].numel() and x.is_contiguous(memory_format=torch.channels_last):
        return x.as_strided(x.shape, (x[0].numel(), *x.stride()[1:]))
    return x


def by_matrix_units(device: str, dtype: torch.dtype) -> bool:
    """Whether a device convolves inputs of this dtype by matrix units, whose kernels read channels last: in any other
    layout each layer transforms its input and its output. Float32 without tf32 has better kernels for the other."""
    if device not in ("cpu", "cuda") or dtype == torch.float64:
        return False
    kinds = {dtype, torch.get_autocast_dtype(device)} if torch.is_autocast_enabled(device) else {dtype}
    if device == "cpu":
        return not kinds.isdisjoint(precision.MATRIX_UNITS_CPU)
    return not kinds.isdisjoint(HALF) or torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]  # not in the stubs
