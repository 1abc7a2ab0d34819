"""Pictures to train and to measure with: opened as Pillow does, refused where that is not the file's picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ..images import libtiff
from ..images.tiff import full_page


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """A picture, not decoded yet: it is decoded inside the block.

    Raises:
        ValueError: a TIFF whose first image is a thumbnail or mask, or smaller than another one; a raw file; one
            that libtiff found damaged while it was decoded, and went on. And whatever Pillow raises.
    """
    notes: list[str] = []
    with open(file, "rb") as stream:
        if full_page(stream, file.name, notes) or notes:
            raise ValueError(
                "it holds several images, and the first is a thumbnail, a mask or not the largest: save the one that "
                "is meant alone, as PNG"
            )
        with libtiff.lines() as said, Image.open(stream) as image:
            yield image
    if said:
        raise ValueError(f"{libtiff.as_notes(said)[0]}; get a complete copy, or leave it out")
