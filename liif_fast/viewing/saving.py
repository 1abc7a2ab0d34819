"""A view as a file, and as the command that makes that file."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import torch

from ..images import files as images
from ..images.photo import Photo
from ..models.liif import LIIF
from ..models.quantized import QuantizedLIIF
from .layers import Interpolated
from .pictures import Picture

Window = tuple[float, float, float, float]  # (top, left, height, width), in the photo's pixels
Size = tuple[int, int]  # (rows, columns)


def enlarged(
    photo: Photo, model: LIIF, dtype: torch.dtype, window: Window, size: Size, pause: Callable[[], None]
) -> bytes:
    """What ``liif-fast upscale`` writes: its calls, without what is kept of the photo."""
    if isinstance(model, QuantizedLIIF):
        model = model.quantize()  # one that is not calibrated would keep this photo's calibration for others
    return _png(model.upscale(photo, size=size, window=window, dtype=dtype, progress=lambda _: pause()))


def interpolated(layer: Interpolated, picture: Picture, window: Window, size: Size) -> bytes:
    """In 8 bits. The window is of ``picture``, the photo; a layer may be of its truth."""
    down, across = (n / m for n, m in zip(layer.picture.size, picture.size, strict=True))
    top, left, height, width = window
    made = layer.drawn((left * across, top * down, (left + width) * across, (top + height) * down), size)
    alpha = made[..., 3] if layer.picture.alpha is not None else None
    return _png(dataclasses.replace(picture.photo, pixels=made[..., :3], alpha=alpha))


def command(photo: Path, window: Window, size: Size, arguments: Sequence[str]) -> str:
    """The line that writes ``photo_view.png`` into the current folder."""
    top, left, height, width = map(_plain, window)
    words = ["liif-fast", "upscale", word(str(photo)), "--window", f"{left},{top},{width}x{height}"]
    words += ["--size", f"{size[1]}x{size[0]}", *arguments, "-o", word(f"{photo.stem}_view.png")]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def word(name: str) -> str:
    """A name that is not taken for an option; ``Path`` takes the folder "." away."""
    return os.path.join(".", name) if name.startswith("-") else name


def _plain(x: float) -> str:
    """A number in the digits that give it back, without an exponent."""
    return f"{Decimal(repr(x)):f}".removesuffix(".0")


def _png(photo: Photo) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "view.png")
        images.write(file, photo, format="png")
        return file.read_bytes()
