"""Pictures put into files, for the tests of reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SMOOTH = np.add.outer(np.arange(48), np.arange(64))[:, :, None].repeat(3, 2).astype(np.uint8)


def saved(folder: Path, image: Image.Image, name: str, **options) -> Path:
    """As Pillow writes it."""
    image.save(folder / name, **options)
    return folder / name


def wrote(folder: Path, data: bytes, name: str = "x.png") -> Path:
    """As the bytes are."""
    (folder / name).write_bytes(data)
    return folder / name
