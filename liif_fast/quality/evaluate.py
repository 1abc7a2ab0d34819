"""Quality of an upscaler on a folder of images, in the protocols of the official LIIF code.

`liif_fast.quality.pairs` says what the folder may look like, and where low-resolution images come from (`lr`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import distributed
from ..images.resize import pil_bicubic
from . import metrics, pairs
from .niqe import NEEDED, niqe
from .niqe import describe as describe_niqe

Upscaler = Callable[..., Tensor]


@dataclass(frozen=True)
class Row:
    """Figures of one image. ``size`` is the (height, width) that was compared, the border included."""

    name: str
    psnr: float  # dB, inf when the images are the same
    ssim: float | None  # None: torchmetrics is missing, or the image has no room for the window
    size: tuple[int, int]
    niqe: float | None = None  # None: not asked for, or there are too few blocks with structure


@dataclass(frozen=True)
class Report:
    """Result of `evaluate`: one row per image, means over the images, and how they were made."""

    rows: tuple[Row, ...]
    scale: float
    protocol: str  # one of metrics.PROTOCOLS
    lr: str  # 'files', 'matlab' or 'pil': what was used
    where: str | None = None  # of the files, if not in LR_bicubic
    with_niqe: bool = False  # NIQE was asked for

    @property
    def psnr(self) -> float:
        """Mean of the images' PSNR in dB, as the papers average."""
        return sum(row.psnr for row in self.rows) / len(self.rows)

    @property
    def ssim(self) -> float | None:
        """Mean of the images' SSIM; None when one of them has none."""
        return _mean([row.ssim for row in self.rows])

    @property
    def niqe(self) -> float | None:
        """Mean of the images' NIQE; None when one of them has none."""
        return _mean([row.niqe for row in self.rows])

    @property
    def protocol_text(self) -> str:
        """What the figures mean, e.g. "PSNR on Y, unquantised, border 4; SSIM on Y of 8-bit images, ..."."""
        parts = [metrics.describe(self.protocol, self.scale)]
        if any(row.ssim is not None for row in self.rows):
            parts.append(metrics.describe_ssim(self.scale))
        elif not metrics.have_ssim():
            parts.append("no SSIM (pip install torchmetrics)")
        else:
            parts.append(f"no SSIM (images too small for a {metrics.SSIM_WINDOW}x{metrics.SSIM_WINDOW} window)")
        if self.with_niqe:
            parts.append(describe_niqe(self.scale))
        if self.with_niqe and (none := [row.name for row in self.rows if row.niqe is None]):
            parts.append(f"no NIQE of {len(none)} image{'s'[: len(none) > 1]}, {none[0]} first ({NEEDED})")
        return "; ".join(parts)

    @property
    def lr_text(self) -> str:
        """Where the low-resolution images came from."""
        return {
            "files": self.where or f"files of LR_bicubic/X{self.scale:g}",
            "matlab": "HR reduced as by MATLAB's imresize (bicubic)",
            "pil": "HR reduced by Pillow's bicubic filter",
        }[self.lr]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps(..., allow_nan=False)``. A PSNR of null is infinite: the images are the same."""

        def number(x: float | None) -> float | None:
            return x if x is not None and math.isfinite(x) else None

        images = [
            {"name": r.name, "psnr": number(r.psnr), "ssim": r.ssim, "niqe": r.niqe, "size": list(r.size)}
            for r in self.rows
        ]
        return {
            "scale": self.scale,
            "protocol": self.protocol,
            "protocol_text": self.protocol_text,
            "lr": self.lr,
            "lr_text": self.lr_text,
            "psnr": number(self.psnr),
            "ssim": self.ssim,
            "niqe": self.niqe,
            "images": images,
        }

    def table(self) -> str:
        """Plain text for people: a line per image (sizes as width x height), the means, and the protocol."""
        width = max(5, *(len(row.name) for row in self.rows))

        def line(name: str, size: str, of: Row | Report) -> str:
            text = f"{name:<{width}}  {size:>11}  {of.psnr:8.3f}  {'-' if of.ssim is None else f'{of.ssim:.4f}':>6}"
            return f"{text}  {'-' if of.niqe is None else f'{of.niqe:.3f}':>6}" if self.with_niqe else text

        return "\n".join(
            [
                f"{'image':<{width}}  {'size':>11}  {'PSNR':>8}  {'SSIM':>6}" + ("    NIQE" if self.with_niqe else ""),
                *(line(row.name, f"{row.size[1]}x{row.size[0]}", row) for row in self.rows),
                line("mean", "", self),
                f"x{self.scale:g}; {self.protocol_text}",
                f"low resolution: {self.lr_text}",
            ]
        )


def evaluate(
    upscale_fn: Upscaler,
    data: str | PathLike[str],
    scale: float,
    protocol: str = "benchmark",
    lr: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    shared: bool = False,
    with_niqe: bool = False,
) -> Report:
    """Upscale every image of a folder and compare it with its original.

    Args:
        upscale_fn: ``upscale_fn(image, size=(H, W))`` with image ``[1, 3, h, w]`` float32 in [0, 1] on the CPU gives
            ``[1, 3, H, W]`` on any device; it is clamped to [0, 1] here. `bicubic` is a baseline.
        data: the folder.
        scale: at least 1; fractions work where HR is reduced here.
        protocol: one of `metrics.PROTOCOLS`: "benchmark", "div2k" or "y".
        lr: one of `pairs.LR_SOURCES`.
        progress: called as ``progress(done, total)`` after each image.
        shared: the connected processes (``liif_fast.distributed``) share the images; all of them get the whole report.
        with_niqe: NIQE of each image too (``liif_fast.quality.niqe``), in which no original has a part.

    Raises:
        FileNotFoundError: no such folder, no images in it, or no LR files with lr="files".
        ValueError: HR and LR files that do not belong together, an unreadable file, an image too small for the scale,
            an argument out of range, or an upscaler that returns another size or non-finite values.
    """
    check_arguments(data, scale, protocol, lr)
    scale = int(scale) if float(scale).is_integer() else float(scale)
    found = pairs.find(data, scale, lr)
    mine = found[distributed.rank() :: distributed.world()] if shared else found
    rows = []
    for pair in mine:
        low, hr = (to_tensor(image) for image in pair.read())
        rows.append(row(pair, upscaled(upscale_fn, pair, low), hr, scale, protocol, with_niqe))
        if progress is not None:
            progress(len(rows), len(mine))
    if shared:
        parts = distributed.gather(rows)
        rows = [parts[i % len(parts)][i // len(parts)] for i in range(len(found))]
    return Report(tuple(rows), scale, protocol, found[0].source, found[0].where, with_niqe)


def check_arguments(data: str | PathLike[str], scale: float, protocol: str = "benchmark", lr: str = "auto") -> None:
    """Raises what `evaluate` would (ValueError, FileNotFoundError) before it looks for images."""
    metrics.border(protocol, scale)  # reports a bad protocol or scale
    pairs.check(data, lr)


def bicubic(image: Tensor, size: Sequence[int]) -> Tensor:
    """The baseline upscaler: Pillow's bicubic filter on 8 bits.

    Args:
        image: ``[1, C, h, w]`` floating point in [0, 1]; rounded to 8 bits first.
        size: (H, W) of the result.

    Returns:
        ``[1, C, H, W]`` float32, multiples of 1/255.

    Raises:
        ValueError: NaN or infinity in the image, which 8 bits would hide.
    """
    if not image.isfinite().all():
        raise ValueError("image: finite colours are wanted, got NaN or infinity")
    pixels = (image[0].float().clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0)
    return to_tensor(pil_bicubic(pixels.cpu().numpy(), tuple(size)))


def upscaled(upscale_fn: Upscaler, pair: pairs.Pair, low: Tensor) -> Tensor:
    """A pair's LR image ``[1, 3, h, w]``, upscaled as `evaluate` says and checked: float32 on the CPU in [0, 1]."""
    with torch.no_grad():
        sr = upscale_fn(low, size=pair.size)
    wanted = [1, 3, *pair.size]
    if not isinstance(sr, Tensor) or list(sr.shape) != wanted:
        got = list(sr.shape) if isinstance(sr, Tensor) else type(sr).__name__
        raise ValueError(f"{pair.hr_file}: the upscaler must return a tensor of shape {wanted}, got {got}")
    sr = sr.detach().float().cpu()
    if not sr.isfinite().all():
        raise ValueError(f"{pair.hr_file}: the upscaler returned NaN or infinite values; try float32")
    return sr.clamp(0, 1)


def row(pair: pairs.Pair, sr: Tensor, hr: Tensor, scale: float, protocol: str, with_niqe: bool = False) -> Row:
    """Figures of an image `upscaled` to ``[1, 3, H, W]``, beside its original."""
    room = min(pair.size) - 2 * metrics.border("y", scale) >= metrics.SSIM_WINDOW
    try:
        return Row(
            name=pair.hr_file.stem,
            psnr=metrics.psnr(sr, hr, protocol, scale),
            ssim=metrics.ssim(sr, hr, scale) if room and metrics.have_ssim() else None,
            size=pair.size,
            niqe=niqe(sr, scale) if with_niqe else None,
        )
    except ValueError as error:
        raise ValueError(f"{pair.hr_file}: {error}") from None


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if len(found) == len(values) else None


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 [H, W, C] -> float32 [1, C, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous().float() / 255
