"""Parts of images in which upscalers differ most, and a figure of them side by side.

How a crop is chosen: where the methods differ is told by the variance, over the methods, of the luma of their 8-bit
images at each pixel (the original has no part in it, so a crop favours nobody). The score of a crop is its mean. In
each image the crop with the highest score is taken, then the next highest that does not overlap it; of all these, the
highest. No crop reaches into the border that the figures leave out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..images import sheet
from . import metrics

SIDE = 96  # pixels of the original; less in an image with no room for it
TRUTH = "ground truth"
_SHOWN = 192  # pixels that a crop is repeated to, at least: captions need the width
_LEAST = 1e-6  # grey levels squared; methods that differ by less are the same to rounding


@dataclass(frozen=True)
class Crop:
    """A part of an image as the original and every method have it."""

    image: str
    place: tuple[int, int]  # (top, left) in the image that was compared
    size: tuple[int, int]  # (height, width)
    score: float  # mean variance of the methods' luma, grey levels squared
    pictures: Mapping[str, Tensor]  # by method, TRUTH first: uint8 [3, height, width]
    figures: Mapping[str, tuple[float, float | None]]  # by method: PSNR in dB and SSIM of this part alone

    def to_json(self) -> dict[str, Any]:
        """Plain data; a PSNR of null is infinite."""
        figures = [
            {"method": name, "psnr": psnr if math.isfinite(psnr) else None, "ssim": ssim}
            for name, (psnr, ssim) in self.figures.items()
        ]
        top, left = self.place
        return {
            "image": self.image,
            "top": top,
            "left": left,
            "size": list(self.size),
            "score": self.score,
            "figures": figures,
        }


def find(
    image: str, made: Mapping[str, Tensor], hr: Tensor, scale: float, protocol: str, count: int, side: int = SIDE
) -> list[Crop]:
    """The crops of one image, at most ``count``, the best first; none where the methods do not differ.

    Args:
        made: by method ``[1, 3, H, W]`` in [0, 1].
        hr: the original, likewise.
        scale, protocol: of the figures (``liif_fast.quality.metrics``).
    """
    luma = torch.cat([metrics.luma(t) for t in made.values()])  # [methods, 1, H, W]
    border = metrics.border(protocol, scale)
    height, width = (min(side, n - 2 * border) for n in hr.shape[-2:])
    size = (height, width)
    found = []
    for top, left, score in windows(luma.var(0, correction=0)[0], size, border, count):
        if score < _LEAST:
            break
        pictures = {name: _pixels(_part(t, (top, left), size)) for name, t in {TRUTH: hr, **made}.items()}
        figures = {name: _figures(t, hr, (top, left), size, scale, protocol) for name, t in made.items()}
        found.append(Crop(image, (top, left), size, score, pictures, figures))
    return found


def windows(differences: Tensor, size: Sequence[int], border: int, count: int) -> list[tuple[int, int, float]]:
    """(top, left, mean) of the windows of a size with the highest means, the next never overlapping those before.

    Args:
        differences: ``[H, W]``.
        border: pixels on each side that no window reaches into.
    """
    h, w = size
    H, W = differences.shape
    total = F.pad(differences.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    means = (total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]) / (h * w)
    means = means[border : H - h - border + 1, border : W - w - border + 1].clone()
    found = []
    for _ in range(count):
        best = int(means.argmax())
        top, left = divmod(best, means.shape[1])
        score = means[top, left].item()
        if score == -math.inf:
            break
        found.append((top + border, left + border, score))
        means[max(0, top - h + 1) : top + h, max(0, left - w + 1) : left + w] = -math.inf
    return found


def figure(crops: Sequence[tuple[str, Crop]]) -> Image.Image:
    """A row for each crop under a title: the original, then the methods, each with PSNR and SSIM of the crop."""
    rows, captions, titles = [], [], []
    for where, crop in crops:
        zoom = max(1, math.ceil(_SHOWN / crop.size[1]))
        rows.append(
            [t.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2).float() / 255 for t in crop.pictures.values()]
        )
        texts = {TRUTH: "PSNR (dB) / SSIM", **{name: figures_text(*f) for name, f in crop.figures.items()}}
        captions.append([f"{name}\n{texts[name]}" for name in crop.pictures])
        (top, left), (h, w) = crop.place, crop.size
        titles.append(f"{where}, {crop.image}: {w}x{h} pixels at ({left}, {top}); figures of this part")
    return sheet.grid(rows, 8, captions, titles)


def figures_text(psnr: float, ssim: float | None) -> str:
    """As all tables of a comparison write them: "28.426 / 0.8109"; "-" for an SSIM that there is not."""
    return f"{psnr:.3f} / {'-' if ssim is None else f'{ssim:.4f}'}"


def _figures(
    sr: Tensor, hr: Tensor, place: Sequence[int], size: Sequence[int], scale: float, protocol: str
) -> tuple[float, float | None]:
    """Of one part: with the border around it that the protocols then leave out."""

    def around(border: int) -> tuple[Tensor, Tensor]:
        wide = [n + 2 * border for n in size]
        start = [n - border for n in place]
        return _part(sr, start, wide), _part(hr, start, wide)

    psnr = metrics.psnr(*around(metrics.border(protocol, scale)), protocol, scale)
    if not metrics.have_ssim() or min(size) < metrics.SSIM_WINDOW:
        return psnr, None
    return psnr, metrics.ssim(*around(metrics.border("y", scale)), scale)


def _part(image: Tensor, place: Sequence[int], size: Sequence[int]) -> Tensor:
    (top, left), (h, w) = place, size
    return image[..., top : top + h, left : left + w]


def _pixels(image: Tensor) -> Tensor:
    """[1, 3, h, w] in [0, 1] -> uint8 [3, h, w], a copy, so that the whole image can go."""
    return (image[0] * 255).round().to(torch.uint8)
