"""SRCNN (Dong et al., "Image Super-Resolution Using Deep Convolutional Networks", TPAMI 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...base.shown import shown
from ...registry import register
from .common import _STRIP, ImageModel, enlarged


@register("srcnn")
class SRCNN(ImageModel):
    """Three convolutions on the image enlarged by bicubic interpolation, so it renders any size.

    Args:
        kernels: their sizes: (9, 5, 5), the paper's best, or (9, 1, 5), its basic setting.
        width: channels behind the first and the second.
        scale: that it is trained for; it renders any, but at others it takes bicubic's blur for that of its own. None:
            any.

    On RGB (the paper's section 4.5 finds it as good as luma alone). The image keeps its size: where the paper's
    convolutions have no padding, the border is repeated here.
    """

    name = "srcnn"

    def __init__(
        self, kernels: Sequence[int] = (9, 5, 5), width: Sequence[int] = (64, 32), scale: int | None = None
    ) -> None:
        super().__init__(kernels=list(kernels), width=list(width), **({} if scale is None else {"scale": scale}))
        if len(kernels) != 3 or any(k < 1 or k % 2 == 0 for k in kernels) or len(width) != 2:
            raise ValueError(
                f"srcnn: three odd kernels and two widths are wanted, got {shown(kernels)} and {shown(width)}"
            )
        if scale is not None and (not isinstance(scale, int) or isinstance(scale, bool) or scale < 1):
            raise ValueError(f"srcnn: scale: a whole number of at least 1 or None is wanted, got {shown(scale)}")
        self.scale = scale
        channels = [3, *width, 3]
        layers = [
            nn.Conv2d(channels[i], channels[i + 1], k, padding=k // 2, padding_mode="replicate")
            for i, k in enumerate(kernels)
        ]
        self.layers = nn.ModuleList(layers)
        self.halo = sum(k // 2 for k in kernels)
        # the paper's start, N(0, 0.001), needs 10^8 steps: He's for the layers with a ReLU, small for the last
        for layer, gain in zip(layers, (2.0, 2.0, 0.1), strict=True):
            nn.init.normal_(layer.weight, std=(gain / layer.weight[0].numel()) ** 0.5)
            nn.init.zeros_(cast(Tensor, layer.bias))

    def render(self, inp: Tensor, size: Sequence[int]) -> Tensor:
        return self._layers(enlarged(inp, size))

    def _layers(self, x: Tensor) -> Tensor:
        first, second, third = self.layers
        return third(second(first(x).relu()).relu())

    def _in_strips(self, inp: Tensor, size: tuple[int, int]) -> Tensor:
        """As ``render``: a row depends on no more than ``halo`` rows above and below."""
        large = enlarged(inp, size)
        rows = max(1, _STRIP // size[1])
        parts = []
        for top in range(0, size[0], rows):
            bottom = min(top + rows, size[0])
            above, below = max(0, top - self.halo), min(size[0], bottom + self.halo)
            parts.append(self._layers(large[:, :, above:below])[:, :, top - above : bottom - above])
        return torch.cat(parts, 2)
