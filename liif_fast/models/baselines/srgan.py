"""SRGAN (Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a GAN", CVPR 2017): both networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ...base.shown import shown
from ...registry import register
from .common import _STRIP, ImageModel, enlarged


class _Block(nn.Module):
    """``x + bn(conv(prelu(bn(conv(x)))))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@register("srresnet")
class SRResNet(ImageModel):
    """The generator of SRGAN (figure 4), which trained by a pixel loss alone is SRResNet.

    Args:
        scale: of its own: 2, 4 or 8. Another size is made from that by bicubic interpolation.
        n_resblocks, n_feats: depth and width.
    """

    name = "srresnet"
    scale: int

    def __init__(self, scale: int = 4, n_resblocks: int = 16, n_feats: int = 64) -> None:
        super().__init__(scale=scale, n_resblocks=n_resblocks, n_feats=n_feats)
        if scale not in (2, 4, 8):
            raise ValueError(f"srresnet: scale 2, 4 or 8 is wanted, got {shown(scale)}")
        self.scale = scale
        self.head = nn.Sequential(nn.Conv2d(3, n_feats, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(_Block(n_feats) for _ in range(n_resblocks)),
            nn.Conv2d(n_feats, n_feats, 3, padding=1),
            nn.BatchNorm2d(n_feats),
        )
        steps = int(math.log2(scale))
        self.tail = nn.Sequential(
            *(
                layer
                for _ in range(steps)
                for layer in (nn.Conv2d(n_feats, 4 * n_feats, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
            ),
            nn.Conv2d(n_feats, 3, 9, padding=4),
        )
        # input pixels that an output pixel sees to each side, rounded up: head, body, tail
        self.halo = 4 + 2 * n_resblocks + 1 + steps + 4

    def render(self, inp: Tensor, size: Sequence[int]) -> Tensor:
        return enlarged(self._network(inp), size)

    def _network(self, inp: Tensor) -> Tensor:
        x = self.head(inp)
        return self.tail(x + self.body(x))

    def _in_strips(self, inp: Tensor, size: tuple[int, int]) -> Tensor:
        """As ``render`` (in eval mode): a row depends on no more than ``halo`` rows above and below."""
        h, w = inp.shape[-2:]
        s, rows = self.scale, max(1, _STRIP // (w * self.scale**2))
        parts = []
        for top in range(0, h, rows):
            bottom = min(top + rows, h)
            above, below = max(0, top - self.halo), min(h, bottom + self.halo)
            parts.append(self._network(inp[:, :, above:below])[:, :, (top - above) * s : (bottom - above) * s])
        return enlarged(torch.cat(parts, 2), size)


@register("srgan-discriminator")
class Discriminator(nn.Module):
    """Tells real images from made ones: ``[B, 3, H, W] -> [B, 1]``, a logit, positive for real.

    Args:
        n_feats: channels of the first of eight convolutions; they double with every second one.
        hidden: width of the dense layer.
        norm: "batch", as in the paper; "spectral": spectral normalisation of the convolutions (Miyato et al., ICLR
            2018) in place of it, with which a verdict depends on one image alone and training is steadier; "none".

    The paper's network for 96x96 images; others are averaged to its 6x6 before the dense layers.

    Raises:
        ValueError: another norm.
    """

    def __init__(self, n_feats: int = 64, hidden: int = 1024, norm: str = "batch") -> None:
        if norm not in ("batch", "spectral", "none"):
            raise ValueError(f'norm: "batch", "spectral" or "none" is wanted, got {shown(norm)}')
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for i in range(8):
            width, stride = n_feats * 2 ** (i // 2), 1 + i % 2
            layers.append(nn.Conv2d(channels, width, 3, stride, padding=1))
            layers += [nn.BatchNorm2d(width)] if i and norm == "batch" else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(6))
        self.verdict = nn.Sequential(
            nn.Flatten(), nn.Linear(36 * channels, hidden), nn.LeakyReLU(0.2, inplace=True), nn.Linear(hidden, 1)
        )
        if norm == "spectral":
            for layer in self.features:
                if isinstance(layer, nn.Conv2d):
                    spectral_norm(layer)

    def forward(self, image: Tensor) -> Tensor:
        return self.verdict(self.features(image))
