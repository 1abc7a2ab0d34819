"""EDSR (Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...registry import register
from .. import folding
from . import residual, residual_training
from .common import conv, reach, upsampler

_DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


class MeanShift(nn.Conv2d):
    """A fixed 1x1 convolution that subtracts (sign -1) or adds DIV2K's mean colour. The official EDSR keeps its
    parameters in the state dict but does not call it: images are normalised outside."""

    bias: nn.Parameter

    def __init__(self, rgb_range: float, sign: int) -> None:
        super().__init__(3, 3, kernel_size=1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            self.bias.copy_(sign * rgb_range * torch.tensor(_DIV2K_MEAN))
        self.requires_grad_(False)


class ResBlock(nn.Module):
    """``x + res_scale * conv(relu(conv(x)))``."""

    def __init__(self, n_feats: int, res_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(n_feats, n_feats), nn.ReLU(inplace=True), conv(n_feats, n_feats))
        self.res_scale = res_scale

    def parts(self) -> list[nn.Module]:
        """What an output pixel sees it through, in turn (``common.reach``)."""
        return [self.body]

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.body(x), alpha=self.res_scale)


_BLOCK = ResBlock.forward  # as it is now: a later replacement on the class is a change


def _want_gradients(layers: list[nn.Conv2d]) -> bool:
    # not .parameters(): those of a DataParallel replica are none
    return all(t is not None and t.requires_grad for layer in layers for t in (layer.weight, layer.bias))


class EDSR(nn.Module):
    """EDSR without (or with) its upsampling end: ``[B, 3, H, W] -> [B, out_dim, H, W]``.

    Args:
        n_resblocks, n_feats: depth and width.
        res_scale: factor of each residual.
        scale: of the upsampling end.
        no_upsampling: leave that end out; ``out_dim`` is then ``n_feats``, otherwise 3 at ``scale`` times the size.
        rgb_range: value range of the images, for the mean colour in the state dict.

    """

    def __init__(
        self,
        n_resblocks: int,
        n_feats: int,
        res_scale: float,
        scale: int,
        no_upsampling: bool,
        rgb_range: float,
    ) -> None:
        super().__init__()
        self.sub_mean = MeanShift(rgb_range, -1)
        self.add_mean = MeanShift(rgb_range, 1)
        self.head = nn.Sequential(conv(3, n_feats))
        self.body = nn.Sequential(*(ResBlock(n_feats, res_scale) for _ in range(n_resblocks)), conv(n_feats, n_feats))
        self.tail = None if no_upsampling else nn.Sequential(upsampler(scale, n_feats), conv(n_feats, 3))
        self.out_dim = n_feats if no_upsampling else 3

    @property
    def receptive_field(self) -> int | None:
        """The halo that an exact tile needs, in input pixels: one for each 3x3 convolution on the longest path.

        None with upsampling, where output pixels are not input pixels and a tile has no such halo; and with hooks, or
        layers put in of which it is not known how far they see.
        """
        return reach(self) if self.tail is None else None

    def parts(self) -> list[nn.Module]:
        """See ``ResBlock``."""
        return [self.head, self.body]

    @property
    def in_channels(self) -> int | None:
        """Of the images; None if the first layer does not tell."""
        return getattr(getattr(self.head, "0", None), "in_channels", None)

    if TYPE_CHECKING:  # nn.Module's returns Any

        def __call__(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        if not self.training and residual.suits(x) and (layers := self._layers(x)) is not None:
            x = residual.run(x, *layers)
        elif residual_training.suits(x) and (layers := self._layers(x)) is not None and _want_gradients(layers[0]):
            x = residual_training.run(x, *layers)
        else:
            x = x + self.body(x)
        return x if self.tail is None else self.tail(x)

    def _layers(self, x: Tensor) -> tuple[list[nn.Conv2d], list[float]] | None:
        """The body's convolutions and the scales of its blocks, if calling its layers could give nothing else than they
        say."""
        if not folding.calls_are_torchs():
            return None
        *blocks, last = folding.members(self.body) or [None]
        inner = [folding.members(b.body) if folding.runs(b, _BLOCK) else [] for b in blocks]
        if last is None or not all(len(b) == 3 and folding.runs_relu(b[1]) for b in inner):
            return None
        layers = [*(b[i] for b in inner for i in (0, 2)), last]
        scales = [b.res_scale for b in blocks]
        plain = all(residual.known(m, x) for m in layers) and all(type(s) in (int, float) for s in scales)
        return (layers, scales) if plain else None


@register("edsr-baseline")
def make_edsr_baseline(
    n_resblocks: int = 16,
    n_feats: int = 64,
    res_scale: float = 1,
    scale: int = 2,
    no_upsampling: bool = False,
    rgb_range: float = 1,
) -> EDSR:
    """EDSR with the defaults of its small version: 16 blocks of 64 channels. Arguments as for ``EDSR``."""
    return EDSR(n_resblocks, n_feats, res_scale, scale, no_upsampling, rgb_range)


@register("edsr")
def make_edsr(
    n_resblocks: int = 32,
    n_feats: int = 256,
    res_scale: float = 0.1,
    scale: int = 2,
    no_upsampling: bool = False,
    rgb_range: float = 1,
) -> EDSR:
    """EDSR with the defaults of its large version: 32 blocks of 256 channels. Arguments as for ``EDSR``."""
    return EDSR(n_resblocks, n_feats, res_scale, scale, no_upsampling, rgb_range)
