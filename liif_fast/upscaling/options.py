"""How to upscale: the options, and what follows from them for a file: its result's name, size and share of the work."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..images import files as images
from ..images.frames import is_animated
from ..sizes import MAX_OUTPUT_PIXELS, MAX_PIXELS, output_size
from . import streams

# source formats (Pillow's names) that are also written; everything else becomes PNG
SUFFIX = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}


@dataclass(frozen=True)
class Options:
    """How to upscale: one of ``scale`` and ``size`` (width, height; one of them may be None).

    ``shape``, with both sides given: "exact" the size as it is; "fit" the largest picture inside of it that keeps the
    shape; "fill" the size as it is out of the middle of the smallest picture around it that keeps the shape.
    """

    scale: float | None = None
    size: tuple[int | None, int | None] | None = None
    shape: str = "exact"
    window: tuple[float, float, float, float] | None = None  # (top, left, height, width) of what is enlarged
    point: bool = False
    tile: int | str = "auto"
    format: str | None = None  # suffix without dot
    quality: int | None = None
    lossless: bool = False
    suffix: str = ""
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    skip_existing: bool = False  # what is there is a success
    in_place: bool = False  # an input may be replaced by its own result, with or without overwrite
    max_output_pixels: int = MAX_OUTPUT_PIXELS
    dry_run: bool = False  # no model, no output: only what would become of each input


def target_size(width: int, height: int, options: Options) -> tuple[int, int]:
    """(height, width) of a picture's result; with ``shape="fill"`` before it is cut."""
    if options.window is not None:
        height, width = options.window[2:]  # type: ignore[assignment]
    if options.size is None:
        return output_size((height, width), options.scale, None)
    w, h = cast(tuple[Any, Any], options.size)  # one of them at least is a number
    if options.shape != "exact":
        wider = w * height > h * width  # than the picture's shape
        if wider == (options.shape == "fit"):
            w = None
        else:
            h = None
    if w is None:
        w = max(1, round(width * h / height))
    elif h is None:
        h = max(1, round(height * w / width))
    return h, w


def output_path(source: Path, relative: Path, output: Path | None, single: bool, options: Options) -> Path:
    """Where the result goes: ``output`` itself if it names a file for a single input, else inside that folder; beside
    the source without one, and for standard input to standard output."""
    if output == streams.STDOUT or (output is None and source == streams.STDIN):
        return streams.STDOUT
    if output is None:
        output, relative = source.parent, Path(source.name)
    elif single and output.suffix and not os.path.isdir(output):
        return output
    suffix = source.suffix.lower()
    if options.format:
        suffix = SUFFIX.get(images.output_format(output, options.format), f".{options.format.lstrip('.').lower()}")
    elif suffix not in {*SUFFIX.values(), ".jpeg", ".tiff"} and not (suffix == ".gif" and is_animated(source)):
        suffix = ".png"
    return output / relative.parent / f"{relative.stem}{options.suffix}{suffix}"


def cut_size(size: tuple[int, int], options: Options) -> tuple[int, int]:
    """(height, width) of what is left of a picture of this size."""
    if options.shape != "fill" or options.size is None:
        return size
    width, height = cast(tuple[int, int], options.size)
    return height, width


def work_of(source: Path, relative: Path, output: Path | None, single: bool, options: Options) -> float:
    """A picture's share of the work: its pixels and its result's, by its header; 1 where it will not be made."""
    try:
        target = output_path(source, relative, output, single, options)
        size = images.header_size(source, max_pixels=options.max_pixels)
        if size is None or (os.path.exists(target) and not (options.overwrite or options.in_place)):
            return 1.0
        return float(math.prod(size) + math.prod(target_size(*size, options)))
    except Exception:  # is said when its turn comes
        return 1.0
