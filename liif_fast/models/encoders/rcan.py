"""RCAN (Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", ECCV 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from ...registry import register
from .common import conv, upsampler
from .edsr import MeanShift


class ChannelAttention(nn.Module):
    """Each channel times a factor from the mean of all channels over the whole image."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(
            conv(width, width // reduction, 1), nn.ReLU(inplace=True), conv(width // reduction, width, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv_du(self.avg_pool(x))


class Residual(nn.Module):
    """``x + body(x)``."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@register("rcan")
class RCAN(nn.Module):
    """RCAN without (or with) its upsampling end: ``[B, 3, H, W] -> [B, out_dim, H, W]``.

    Args:
        n_resgroups, n_resblocks: residual groups, and attention blocks in each.
        n_feats, reduction: channels, and by how much the attention narrows them.
        scale, no_upsampling, rgb_range: as for EDSR.

    ``receptive_field`` (the halo of exact tiles) is None: channel attention averages over the whole image, so a tile
    sees another average, whatever its halo.

    Raises:
        ValueError: ``reduction`` above ``n_feats``, which leaves the attention no channel.
    """

    receptive_field: int | None = None

    def __init__(
        self,
        n_resgroups: int = 10,
        n_resblocks: int = 20,
        n_feats: int = 64,
        reduction: int = 16,
        scale: int = 2,
        no_upsampling: bool = False,
        rgb_range: float = 1,
    ) -> None:
        super().__init__()
        if not 1 <= reduction <= n_feats:
            raise ValueError(f"reduction: a number from 1 to n_feats = {n_feats} is wanted, got {reduction}")

        def block() -> Residual:
            two = conv(n_feats, n_feats), nn.ReLU(inplace=True), conv(n_feats, n_feats)
            return Residual(*two, ChannelAttention(n_feats, reduction))

        def group() -> Residual:
            return Residual(*(block() for _ in range(n_resblocks)), conv(n_feats, n_feats))

        # made in the order of the official program, so that one seed gives the same initial weights; the order of the
        # state dict is that of the assignments
        self.sub_mean = MeanShift(rgb_range, -1)
        head = nn.Sequential(conv(3, n_feats))
        body = nn.Sequential(*(group() for _ in range(n_resgroups)), conv(n_feats, n_feats))
        self.add_mean = MeanShift(rgb_range, 1)
        self.head, self.body = head, body
        self.tail = None if no_upsampling else nn.Sequential(upsampler(scale, n_feats), conv(n_feats, 3))
        self.out_dim = n_feats if no_upsampling else 3

    @property
    def in_channels(self) -> int | None:
        """Of the images; None if the first layer does not tell."""
        return getattr(getattr(self.head, "0", None), "in_channels", None)

    if TYPE_CHECKING:  # nn.Module's returns Any

        def __call__(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        x = x + self.body(x)
        return x if self.tail is None else self.tail(x)
