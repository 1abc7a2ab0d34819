"""Photos of few details, desks of one model, and what they draw."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from liif_fast.viewing.desk import Desk, Shown
from liif_fast.viewing.view import View, extent

WIDTH, HEIGHT = 40, 30
BICUBIC, NEAREST, MODEL, TRUTH = range(4)


def smooth(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture of few details."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 10, 4), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode).resize(size, Image.Resampling.BICUBIC)


def desk_of(model, *files, dtype=torch.float32, **options) -> Desk:
    return Desk(files, [Shown("tiny", model, dtype, "float32", ("-m", "tiny.safetensors"))], **options)


def drawn(desk: Desk, view: View) -> np.ndarray:
    return np.frombuffer(desk.tile(view), np.uint8).reshape(view.height, view.width, 4)


def whole(desk: Desk, scale: float, method: int = MODEL) -> np.ndarray:
    width, height = extent(WIDTH, scale), extent(HEIGHT, scale)
    return drawn(desk, View(0, method, scale, 0, 0, width, height))


def nothing() -> None:
    """No pause."""
