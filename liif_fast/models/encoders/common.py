"""Parts that several encoders share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn

from ..folding import hooked_globally, runs

_POINTWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus,
    nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish,
)  # fmt: skip


def conv(n_in: int, n_out: int, kernel_size: int = 3) -> nn.Conv2d:
    """Convolution that keeps the size of the image."""
    return nn.Conv2d(n_in, n_out, kernel_size, padding=kernel_size // 2)


def upsampler(scale: int, n_feats: int) -> nn.Sequential:
    """Sub-pixel upsampling by a power of two or by three: convolutions with PixelShuffle."""
    factors = [2] * int(math.log2(scale)) if scale & (scale - 1) == 0 else [scale]
    if factors not in ([2] * len(factors), [3]):
        raise ValueError(f"scale: a power of two or 3 is wanted, got {scale}")
    return nn.Sequential(*(m for r in factors for m in (conv(n_feats, r * r * n_feats), nn.PixelShuffle(r))))


def reach(module: nn.Module) -> int | None:
    """How many pixels away an output pixel sees, along each axis; None where that is not known.

    Read from the layers as they are now, since one that was exchanged may see further: convolutions that keep the size,
    functions of single values, ``Sequential``, and classes with ``parts()``: what runs in turn on the longest path.
    """
    if hooked_globally():
        return None
    if isinstance(module, nn.Conv2d):
        return _reach_of_convolution(module) if runs(module, nn.Conv2d.forward) else None
    if isinstance(module, _POINTWISE):
        return 0 if any(runs(module, kind.forward) for kind in _POINTWISE) else None
    if isinstance(module, nn.Sequential):
        return _sum(module) if runs(module, nn.Sequential.forward) else None
    definer: Any = next((kind for kind in type(module).__mro__ if "parts" in vars(kind)), None)
    if definer is None or not runs(module, definer.forward):
        return None
    return _sum(module.parts())  # type: ignore[operator]  # a method of definer's


def _sum(modules: Iterable[nn.Module]) -> int | None:
    radii = [reach(m) for m in modules]
    known = [radius for radius in radii if radius is not None]
    return sum(known) if len(known) == len(radii) else None


def _reach_of_convolution(conv: nn.Conv2d) -> int | None:
    radii = [(k - 1) * d // 2 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    same = conv.padding == "same" or tuple(conv.padding) == tuple(radii)
    odd = all((k - 1) * d % 2 == 0 for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
    known = same and odd and conv.stride == (1, 1) and conv.padding_mode != "circular"
    return max(radii) if known else None
