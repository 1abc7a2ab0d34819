"""Files in, larger files out: what ``liif-fast upscale`` does, file by file."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch

from . import images
from .liif import LIIF
from .sizes import output_size

# source formats (Pillow's names) that are also written; everything else becomes PNG
_SUFFIX = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}


@dataclass
class Result:
    """What became of one input; ``error`` is None when ``output`` has been written."""

    input: str
    output: str | None = None
    in_size: tuple[int, int] | None = None  # width, height
    out_size: tuple[int, int] | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    exception: ClassVar[BaseException | None] = None  # behind ``error``, for debugging; set on the instance


@dataclass(frozen=True)
class Options:
    """How to upscale: one of ``scale`` and ``size`` (width, height; one of them may be None)."""

    scale: float | None = None
    size: tuple[int | None, int | None] | None = None
    tile: int | str = "auto"
    dtype: torch.dtype = torch.float32
    format: str | None = None  # suffix without dot
    quality: int | None = None
    suffix: str = ""
    overwrite: bool = False
    max_pixels: int = 2**28


def target_size(width: int, height: int, options: Options) -> tuple[int, int]:
    """(height, width) of the output of a picture."""
    if options.size is None:
        return output_size((height, width), options.scale, None)
    w, h = options.size
    if w is None:
        w = max(1, round(width * h / height))
    elif h is None:
        h = max(1, round(height * w / width))
    return h, w


def output_path(source: Path, relative: Path, output: Path, single: bool, options: Options) -> Path:
    """Where the result goes: ``output`` itself if it names a file for a single input, else inside that folder."""
    if single and output.suffix and not output.is_dir():
        return output
    suffix = source.suffix.lower()
    if options.format:
        suffix = _SUFFIX.get(images.output_format(output, options.format), f".{options.format.lstrip('.').lower()}")
    elif suffix not in {*_SUFFIX.values(), ".jpeg", ".tiff"}:
        suffix = ".png"
    return output / relative.parent / f"{relative.stem}{options.suffix}{suffix}"


def upscale_file(
    model: LIIF, source: Path, target: Path, options: Options, progress: Callable[[float], None] | None = None
) -> Result:
    """Upscale one file; raises ``images.ImageError`` and what ``LIIF.upscale`` raises. Writes all or nothing."""
    start = time.perf_counter()
    if target.exists() and not options.overwrite:
        raise images.ImageError(f"{target} exists: give --overwrite, --suffix or another output")
    images.output_format(target, options.format)
    photo = images.read(source, max_pixels=options.max_pixels)
    height, width = photo.pixels.shape[:2]
    size = target_size(width, height, options)
    limit = options.max_pixels * 64
    if math.prod(size) > limit:
        raise images.ImageError(
            f"{source}: an output of {size[1]}x{size[0]} is over the limit of {limit} pixels; "
            "choose a smaller scale, or raise --max-pixels"
        )
    if target.parent.is_dir():
        images.check_output(target, size=size, format=options.format, overwrite=options.overwrite)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        photo = model.upscale(photo, size=size, tile=options.tile, dtype=options.dtype, progress=progress)
    notes = photo.notes + [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    _make_folder(target.parent)
    notes += images.write(target, photo, format=options.format, quality=options.quality, overwrite=options.overwrite)
    seconds = time.perf_counter() - start
    return Result(str(source), str(target), (width, height), (size[1], size[0]), seconds, notes)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise images.ImageError(f"{folder}: this folder cannot be made ({reason}); choose another output") from error


def upscale_files(
    model: LIIF,
    inputs: Iterable[str | Path],
    output: str | Path,
    options: Options,
    *,
    recursive: bool = False,
    progress: Callable[[int, float], None] | None = None,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Result]:
    """Upscale files and folders one after the other; a failure is a result, and the others go on.

    Args:
        output: a file for a single input file, else a folder; it is made if it is not there.
        progress: called with the number of all files and the finished share of the current one.
        share: (r, n): only every n-th file, from the r-th on; what concerns no file is reported with r = 0 only.
    """
    inputs, output = [Path(p) for p in inputs], Path(output)
    found, errors = images.find_images(inputs, recursive)
    for error in errors if share[0] == 0 else []:
        named = [p for p in inputs if str(error).startswith(f"{p}:")]
        yield _failed(str(named[0] if named else output), error)
    # a second run must not enlarge what the first one wrote into a folder inside the input
    inside = [
        p for p in inputs if p.is_dir() and output.resolve() != p.resolve() and p.resolve() in output.resolve().parents
    ]
    if inside:
        found = [(source, relative) for source, relative in found if output.resolve() not in source.resolve().parents]
    single = len(inputs) == 1 and not inputs[0].is_dir()
    written: set[Path] = set()
    for i, (source, relative) in enumerate(found):
        target = output_path(source, relative, output, single, options)
        done = 0.0

        def step(part: float) -> None:
            nonlocal done
            done += part
            if progress:
                progress(len(found), part)

        taken = target.absolute() in written  # also when another process writes it
        written.add(target.absolute())
        if i % share[1] != share[0]:
            continue
        try:
            if taken:
                raise images.ImageError(f"{target} was already written for another input: use separate outputs")
            result = upscale_file(model, source, target, options, step)
        except Exception as error:  # whatever it is, the other files are still to be done
            result = _failed(str(source), error)
        if progress:
            progress(len(found), max(0.0, 1.0 - done))
        yield result


def _failed(source: str, error: BaseException) -> Result:
    result = Result(source, error=_one_line(error))
    result.exception = error
    return result


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return f"out of memory: give a smaller --tile ({text[:200]})"
    return text
