"""RDN (Zhang et al., "Residual Dense Network for Image Super-Resolution", CVPR 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...base.shown import shown
from ...registry import register
from .common import conv, reach

_CONFIGS = {"A": (20, 6, 32), "B": (16, 8, 64)}  # blocks D, convolutions in each C, growth G


class DenseConv(nn.Module):
    """A convolution whose output is appended to its input."""

    def __init__(self, n_in: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv(n_in, growth), nn.ReLU())

    def parts(self) -> list[nn.Module]:
        """What an output pixel sees it through, in turn (``common.reach``)."""
        return [self.conv]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(x)], 1)


class ResidualDenseBlock(nn.Module):
    """Dense convolutions, fused by a 1x1 convolution, added to the input."""

    def __init__(self, width: int, growth: int, n_convs: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(DenseConv(width + c * growth, growth) for c in range(n_convs)))
        self.LFF = conv(width + n_convs * growth, width, 1)

    def parts(self) -> list[nn.Module]:
        """See ``DenseConv``."""
        return [self.convs, self.LFF]

    def forward(self, x: Tensor) -> Tensor:
        return self.LFF(self.convs(x)) + x


@register("rdn")
class RDN(nn.Module):
    """RDN without (or with) its upsampling end: ``[B, 3, H, W] -> [B, out_dim, H, W]``.

    Args:
        G0: number of feature channels, ``out_dim`` without upsampling (3 with it).
        RDNkSize: kernel size, odd, of the convolutions outside the dense blocks (inside it is 3).
        RDNconfig: "A" (20 blocks of 6 convolutions, growth 32) or "B" (16 of 8, growth 64).
        scale, no_upsampling: as for EDSR; with upsampling the scale is 2, 3 or 4.

    Raises:
        ValueError: unknown RDNconfig, even RDNkSize, or a scale of the upsampling end other than 2, 3, 4.
    """

    def __init__(
        self, G0: int = 64, RDNkSize: int = 3, RDNconfig: str = "B", scale: int = 2, no_upsampling: bool = False
    ) -> None:
        super().__init__()
        if RDNconfig not in _CONFIGS:
            raise ValueError(f"RDNconfig: 'A' or 'B' is wanted, got {shown(RDNconfig)}")
        if RDNkSize % 2 == 0:
            raise ValueError(f"RDNkSize: an odd number is wanted, as an even one changes the size, got {RDNkSize}")
        n_blocks, n_convs, growth = _CONFIGS[RDNconfig]
        self.SFENet1 = conv(3, G0, RDNkSize)
        self.SFENet2 = conv(G0, G0, RDNkSize)
        self.RDBs = nn.ModuleList(ResidualDenseBlock(G0, growth, n_convs) for _ in range(n_blocks))
        self.GFF = nn.Sequential(conv(n_blocks * G0, G0, 1), conv(G0, G0, RDNkSize))
        self.UPNet = None if no_upsampling else self._end(G0, growth, RDNkSize, scale)
        self.out_dim = G0 if no_upsampling else 3

    @property
    def receptive_field(self) -> int | None:
        """The halo that an exact tile needs, in input pixels (131 for "B", 123 for "A"); None as of EDSR."""
        return reach(self) if self.UPNet is None else None

    def parts(self) -> list[nn.Module]:
        """See ``DenseConv``: every convolution on the longest path."""
        return [self.SFENet1, self.SFENet2, *self.RDBs, self.GFF]

    @property
    def in_channels(self) -> int | None:
        """Of the images; None if the first layer does not tell."""
        return getattr(self.SFENet1, "in_channels", None)

    @staticmethod
    def _end(width: int, growth: int, kernel_size: int, scale: int) -> nn.Sequential:
        if scale not in (2, 3, 4):
            raise ValueError(f"scale: 2, 3 or 4 is wanted, got {scale}")
        layers: list[nn.Module] = []
        for r in [2, 2] if scale == 4 else [scale]:
            layers += [conv(width if not layers else growth, growth * r * r, kernel_size), nn.PixelShuffle(r)]
        return nn.Sequential(*layers, conv(growth, 3, kernel_size))

    if TYPE_CHECKING:  # nn.Module's returns Any

        def __call__(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.SFENet1(x)
        x = self.SFENet2(shallow)
        blocks = []
        for block in self.RDBs:
            x = block(x)
            blocks.append(x)
        x = self.GFF(torch.cat(blocks, 1)) + shallow
        return x if self.UPNet is None else self.UPNet(x)
