"""Quality of an upscaler on a folder of images, in the protocols of the official LIIF code.

Data: a folder with `HR/*.png` and, if there are any, `LR_bicubic/X{S}/NAMEx{S}.png` beside it (the layout of EDSR's
benchmark archive; `DIV2K_valid_HR` beside `DIV2K_valid_LR_bicubic` works likewise), or a plain folder of images.

Where the low-resolution images come from, `lr`:

| `lr`     | meaning                                                                                          |
|----------|--------------------------------------------------------------------------------------------------|
| `auto`   | the `LR_bicubic` files of this scale if that folder exists, else `pil`: what the official configs do |
| `files`  | the files; an error if there are none                                                            |
| `matlab` | every HR image reduced as MATLAB's imresize does, files or not                                   |
| `pil`    | every HR image reduced by Pillow's bicubic filter, files or not                                  |

All images are read as RGB, grey ones too (three equal channels), as the official code does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import distributed, metrics
from .resize import imresize, pil_bicubic

LR_SOURCES = ("auto", "files", "matlab", "pil")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_REDUCE = {"matlab": imresize, "pil": pil_bicubic}
_MORE_THAN_8_BITS = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

Upscaler = Callable[..., Tensor]


@dataclass(frozen=True)
class Row:
    """Figures of one image. ``size`` is the (height, width) that was compared, the border included."""

    name: str
    psnr: float  # dB, inf when the images are the same
    ssim: float | None  # None: torchmetrics is missing, or the image has no room for the window
    size: tuple[int, int]


@dataclass(frozen=True)
class Report:
    """Result of `evaluate`: one row per image, means over the images, and how they were made."""

    rows: tuple[Row, ...]
    scale: float
    protocol: str  # one of metrics.PROTOCOLS
    lr: str  # 'files', 'matlab' or 'pil': what was used

    @property
    def psnr(self) -> float:
        """Mean of the images' PSNR in dB, as the papers average."""
        return sum(row.psnr for row in self.rows) / len(self.rows)

    @property
    def ssim(self) -> float | None:
        """Mean of the images' SSIM; None when one of them has none."""
        values = [row.ssim for row in self.rows]
        return None if None in values else sum(values) / len(values)

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
        return "; ".join(parts)

    @property
    def lr_text(self) -> str:
        """Where the low-resolution images came from."""
        return {
            "files": f"files of LR_bicubic/X{self.scale:g}",
            "matlab": "HR reduced as by MATLAB's imresize (bicubic)",
            "pil": "HR reduced by Pillow's bicubic filter",
        }[self.lr]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps(..., allow_nan=False)``. A PSNR of null is infinite: the images are the same."""

        def number(x: float | None) -> float | None:
            return x if x is not None and math.isfinite(x) else None

        images = [
            {"name": row.name, "psnr": number(row.psnr), "ssim": row.ssim, "size": list(row.size)} for row in self.rows
        ]
        return {
            "scale": self.scale,
            "protocol": self.protocol,
            "protocol_text": self.protocol_text,
            "lr": self.lr,
            "lr_text": self.lr_text,
            "psnr": number(self.psnr),
            "ssim": self.ssim,
            "images": images,
        }

    def table(self) -> str:
        """Plain text for people: a line per image (sizes as width x height), the means, and the protocol."""
        width = max(5, *(len(row.name) for row in self.rows))

        def line(name: str, size: str, psnr: float, ssim: float | None) -> str:
            return f"{name:<{width}}  {size:>11}  {psnr:8.3f}  {'-' if ssim is None else f'{ssim:.4f}':>6}"

        return "\n".join(
            [
                f"{'image':<{width}}  {'size':>11}  {'PSNR':>8}  {'SSIM':>6}",
                *(line(row.name, f"{row.size[1]}x{row.size[0]}", row.psnr, row.ssim) for row in self.rows),
                line("mean", "", self.psnr, self.ssim),
                f"x{self.scale:g}; {self.protocol_text}",
                f"low resolution: {self.lr_text}",
            ]
        )


def evaluate(
    upscale_fn: Upscaler,
    data: str | PathLike,
    scale: float,
    protocol: str = "benchmark",
    lr: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    shared: bool = False,
) -> Report:
    """Upscale every image of a folder and compare it with its original.

    HR images are cropped as the official data code crops them: to the LR file's size times the scale, or, reducing
    HR, to ``round(h * scale)`` rows where ``h = floor(H / scale + 1e-9)``, columns likewise.

    Args:
        upscale_fn: ``upscale_fn(image, size=(H, W))`` with image ``[1, 3, h, w]`` float32 in [0, 1] on the CPU gives
            ``[1, 3, H, W]`` on any device; it is clamped to [0, 1] here. `bicubic` is a baseline.
        data: the folder (layouts: see the module).
        scale: at least 1; fractions work where HR is reduced here.
        protocol: one of `metrics.PROTOCOLS`: "benchmark", "div2k" or "y".
        lr: one of `LR_SOURCES` (see the module).
        progress: called as ``progress(done, total)`` after each image.
        shared: the connected processes (``liif_fast.distributed``) share the images; all of them get the whole report.

    Raises:
        FileNotFoundError: no such folder, no images in it, or no LR files with lr="files".
        ValueError: HR and LR files that do not belong together, an unreadable file, an image too small for the scale,
            an argument out of range, or an upscaler that returns another size or non-finite values.
    """
    check_arguments(data, scale, protocol, lr)
    scale = int(scale) if float(scale).is_integer() else float(scale)
    pairs, source = _find_pairs(Path(data), scale, lr)
    with_ssim = metrics.have_ssim()
    if shared:
        whole, pairs = len(pairs), pairs[distributed.rank() :: distributed.world()]
    rows = []
    for hr_file, lr_file in pairs:
        hr = _read(hr_file)
        if lr_file is None:
            (h, w), (H, W) = _reduced_sizes(hr_file, hr.shape[:2], scale)
            hr = hr[:H, :W]
            low = _REDUCE[source](hr, (h, w))
        else:
            low = _read(lr_file)
            hr = hr[: low.shape[0] * scale, : low.shape[1] * scale]
        rows.append(_compare(upscale_fn, hr_file, low, hr, scale, protocol, with_ssim))
        if progress is not None:
            progress(len(rows), len(pairs))
    if shared:
        parts = distributed.gather(rows)
        rows = [parts[i % len(parts)][i // len(parts)] for i in range(whole)]
    return Report(tuple(rows), scale, protocol, source)


def check_arguments(data: str | PathLike, scale: float, protocol: str = "benchmark", lr: str = "auto") -> None:
    """Raises what `evaluate` would (ValueError, FileNotFoundError) before it looks for images."""
    metrics.border(protocol, scale)  # reports a bad protocol or scale
    if lr not in LR_SOURCES:
        raise ValueError(f"lr must be one of {', '.join(LR_SOURCES)}, got {lr!r}")
    if not Path(data).is_dir():
        raise FileNotFoundError(f"{data}: no such folder; give one with images or with an HR folder in it")


def bicubic(image: Tensor, size: Sequence[int]) -> Tensor:
    """The baseline upscaler: Pillow's bicubic filter on 8 bits.

    Args:
        image: ``[1, C, h, w]`` floating point in [0, 1]; rounded to 8 bits first.
        size: (H, W) of the result.

    Returns:
        ``[1, C, H, W]`` float32, multiples of 1/255.
    """
    pixels = (image[0].float().clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0)
    return _to_tensor(pil_bicubic(pixels.cpu().numpy(), tuple(size)))


def _compare(
    upscale_fn: Upscaler, file: Path, low: np.ndarray, hr: np.ndarray, scale: float, protocol: str, with_ssim: bool
) -> Row:
    size = hr.shape[:2]
    with torch.no_grad():
        sr = upscale_fn(_to_tensor(low), size=size)
    wanted = [1, 3, *size]
    if not isinstance(sr, Tensor) or list(sr.shape) != wanted:
        got = list(sr.shape) if isinstance(sr, Tensor) else type(sr).__name__
        raise ValueError(f"{file}: the upscaler must return a tensor of shape {wanted}, got {got}")
    sr = sr.detach().float().cpu()
    if not sr.isfinite().all():
        raise ValueError(f"{file}: the upscaler returned NaN or infinite values; try float32")
    sr, target = sr.clamp(0, 1), _to_tensor(hr)
    room = min(size) - 2 * metrics.border("y", scale) >= metrics.SSIM_WINDOW
    try:
        return Row(
            name=file.stem,
            psnr=metrics.psnr(sr, target, protocol, scale),
            ssim=metrics.ssim(sr, target, scale) if with_ssim and room else None,
            size=size,
        )
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _find_pairs(data: Path, scale: float, lr: str) -> tuple[list[tuple[Path, Path | None]], str]:
    """HR files, each with its LR file or None, and the source that 'auto' stands for. Sizes are checked already."""
    folder = data / "HR" if (data / "HR").is_dir() else data
    hr_files = _images_in(folder)
    if not hr_files:
        raise FileNotFoundError(f"{folder}: no images in this folder (looked for {', '.join(sorted(_SUFFIXES))})")
    lr_folder = None
    if folder.name.endswith("HR") and isinstance(scale, int):
        lr_folder = folder.parent / (folder.name[:-2] + "LR_bicubic") / f"X{scale}"
    if lr == "auto":
        lr = "files" if lr_folder is not None and lr_folder.is_dir() else "pil"
    if lr != "files":
        for file in hr_files:
            _reduced_sizes(file, _size(file), scale)
        return [(file, None) for file in hr_files], lr
    if lr_folder is None or not lr_folder.is_dir():
        where = "for this scale or layout" if lr_folder is None else f"in {lr_folder}, which does not exist"
        raise FileNotFoundError(f"{data}: no LR_bicubic files {where}; use lr='matlab' or lr='pil' to reduce HR")
    return _match(hr_files, lr_folder, scale), lr


def _match(hr_files: list[Path], lr_folder: Path, scale: int) -> list[tuple[Path, Path | None]]:
    otherwise = "; use lr='matlab' or lr='pil' to reduce HR instead"
    by_stem = {file.stem: file for file in _images_in(lr_folder)}
    names = [f"{file.stem}x{scale}" for file in hr_files]
    missing = [name for name in names if name not in by_stem]
    if missing:
        raise ValueError(
            f"{lr_folder}: files for {len(missing)} of {len(names)} HR images are missing, the first is "
            f"{missing[0]}.png{otherwise}"
        )
    extra = sorted(by_stem.keys() - set(names))
    if extra:
        first = by_stem[extra[0]].name
        raise ValueError(f"{lr_folder}: {len(extra)} files have no HR image, the first is {first}{otherwise}")
    pairs = [(file, by_stem[name]) for file, name in zip(hr_files, names, strict=True)]
    for hr_file, lr_file in pairs:
        (H, W), (h, w) = _size(hr_file), _size(lr_file)
        if (h, w) != (H // scale, W // scale):
            raise ValueError(
                f"{lr_file}: {w}x{h} pixels, but {hr_file.name} has {W}x{H}, which makes {W // scale}x{H // scale} "
                f"at x{scale}{otherwise}"
            )
    return pairs


def _reduced_sizes(file: Path, size: Sequence[int], scale: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """(h, w) of the reduced image and (H, W) that it is reduced from."""
    h, w = (math.floor(n / scale + 1e-9) for n in size)
    if min(h, w) < 1:
        raise ValueError(f"{file}: {size[1]}x{size[0]} pixels are too few to reduce by {scale:g}")
    return (h, w), (round(h * scale), round(w * scale))


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


@contextmanager
def _opened(file: Path):
    try:
        with Image.open(file) as image:
            yield image
    except Exception as error:  # Pillow's decoders raise many kinds on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: cannot read this image ({reason})") from error


def _size(file: Path) -> tuple[int, int]:
    with _opened(file) as image:
        width, height = image.size
    return height, width


def _read(file: Path) -> np.ndarray:
    """uint8 [H, W, 3]."""
    with _opened(file) as image:
        if image.mode in _MORE_THAN_8_BITS:  # convert() would clip them, and the figures would mean nothing
            raise ValueError(f"mode {image.mode}: the protocols are for 8 bits a channel; convert it first")
        return np.asarray(image.convert("RGB"))


def _to_tensor(image: np.ndarray) -> Tensor:
    """uint8 [H, W, C] -> float32 [1, C, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous().float() / 255
