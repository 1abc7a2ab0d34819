"""Files in, larger files out: what ``liif-fast upscale`` does, file by file."""

from __future__ import annotations

import errno
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch

from ..base.out_of_memory import out_of_memory
from ..images import files as images
from ..models.liif import LIIF
from ..sizes import MAX_OUTPUT_PIXELS, MAX_PIXELS, output_size
from .guard import Guard, without_results

LARGE = 2**22  # pixels of input or output from which on the sizes are said before the work
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
    """How to upscale: one of ``scale`` and ``size`` (width, height; one of them may be None).

    ``shape``, with both sides given: "exact" the size as it is; "fit" the largest picture inside of it that keeps the
    shape; "fill" the size as it is out of the middle of the smallest picture around it that keeps the shape.
    """

    scale: float | None = None
    size: tuple[int | None, int | None] | None = None
    shape: str = "exact"
    tile: int | str = "auto"
    dtype: torch.dtype = torch.float32
    format: str | None = None  # suffix without dot
    quality: int | None = None
    suffix: str = ""
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    in_place: bool = False  # an input may be replaced by its own result, with or without overwrite
    max_output_pixels: int = MAX_OUTPUT_PIXELS


def target_size(width: int, height: int, options: Options) -> tuple[int, int]:
    """(height, width) of a picture's result; with ``shape="fill"`` before it is cut."""
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
    the source without one."""
    if output is None:
        output, relative = source.parent, Path(source.name)
    elif single and output.suffix and not os.path.isdir(output):
        return output
    suffix = source.suffix.lower()
    if options.format:
        suffix = _SUFFIX.get(images.output_format(output, options.format), f".{options.format.lstrip('.').lower()}")
    elif suffix not in {*_SUFFIX.values(), ".jpeg", ".tiff"}:
        suffix = ".png"
    return output / relative.parent / f"{relative.stem}{options.suffix}{suffix}"


def upscale_file(
    model: LIIF,
    source: Path,
    target: Path,
    options: Options,
    progress: Callable[[float], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Result:
    """Upscale one file; raises ``images.ImageError`` and what ``LIIF.upscale`` raises. Writes all or nothing.

    Args:
        progress: called with the finished share of the work, in parts that add up to 1.
        say: called with the sizes, before work that takes long.
    """
    start = time.perf_counter()
    _check_name(target)
    if os.path.exists(target) and not options.overwrite:
        raise images.ImageError(f"{target} exists: give --overwrite, --suffix or another output")
    images.output_format(target, options.format)
    photo = images.read(source, max_pixels=options.max_pixels)
    height, width = photo.pixels.shape[:2]
    size = target_size(width, height, options)
    final = _cut(size, options)
    sizes = f"{width}x{height} -> {final[1]}x{final[0]}"
    if math.prod(size) > options.max_output_pixels:
        raise images.ImageError(
            f"{source}: {sizes}: the output is over the limit of {options.max_output_pixels} pixels; choose a smaller "
            "scale, or raise --max-output-pixels"
        )
    images.check_size(target, final, options.format)  # also where the folder is still to be made
    if target.parent.is_dir():
        images.check_output(target, size=final, format=options.format, overwrite=options.overwrite)
    if say and max(width * height, math.prod(size)) >= LARGE:
        say(f"{source}: {sizes}, {math.prod(size) / 1e6:.1f} megapixels")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        photo = model.upscale(photo, size=size, tile=options.tile, dtype=options.dtype, progress=progress)
    if final != size:
        photo = images.middle(photo, final)
    notes = photo.notes + [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    _make_folder(target.parent)
    notes += images.write(target, photo, format=options.format, quality=options.quality, overwrite=options.overwrite)
    seconds = time.perf_counter() - start
    return Result(str(source), str(target), (width, height), (final[1], final[0]), seconds, notes)


def _cut(size: tuple[int, int], options: Options) -> tuple[int, int]:
    """(height, width) of what is left of a picture of this size."""
    if options.shape != "fill" or options.size is None:
        return size
    width, height = cast(tuple[int, int], options.size)
    return height, width


def _check_name(target: Path) -> None:
    """ImageError for a name that the file system cannot have, also in a folder that is not there yet."""
    folder = target.parent
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    for path in (target, *(folder / name for name in target.parts[len(folder.parts) :])):
        try:
            os.lstat(path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise images.ImageError(
                    f"{target}: this name is too long for the file system; give a shorter --suffix or output"
                ) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise images.ImageError(f"{folder}: this folder cannot be made ({reason}); choose another output") from error


def upscale_files(
    model: LIIF,
    inputs: Iterable[str | Path],
    output: str | Path | None,
    options: Options,
    *,
    recursive: bool = False,
    progress: Callable[[float, int, str], None] | None = None,
    share: tuple[int, int] = (0, 1),
    say: Callable[[str], None] | None = None,
) -> Iterator[Result]:
    """Upscale files and folders one after the other; a failure is a result, and the others go on.

    No output takes the place of an input: see ``Options.in_place``.

    Args:
        output: a file for a single input file, else a folder, which is made if it is not there; None: beside each
            input.
        progress: called with the number of finished files and the share of the current one (2.25), the number of all
            files, and the current one's name.
        share: (r, n): only every n-th file, from the r-th on; what concerns no file is reported with r = 0 only.
        say: called with the sizes of a picture, before work that takes long.
    """
    paths, output = [Path(p) for p in inputs], None if output is None else Path(output)
    found, errors = images.find_images(paths, recursive)
    for error in errors if share[0] == 0 else []:
        named = [p for p in paths if str(error).startswith(f"{p}:")]
        yield _failed(str(named[0] if named else output), error)
    single = len(paths) == 1 and not os.path.isdir(paths[0])
    passed = len(found)
    targets = [output_path(*each, output, single, options) for each in found if options.suffix]
    found = without_results(found, paths, output, targets)
    if say and share[0] == 0 and (passed := passed - len(found)):
        say(f"note: {passed} file{'s' * (passed > 1)} passed over: results of the other inputs")
    guard = Guard([source for source, _ in found])
    for i, (source, relative) in enumerate(found):
        done = float(i)

        def step(part: float, i: int = i, source: Path = source) -> None:
            nonlocal done
            done = min(i + 1.0, done + part)
            if progress:
                progress(done, len(found), str(source))

        try:
            target = output_path(source, relative, output, single, options)
            allowed = replace(options, overwrite=True) if guard.is_own(i, target, options.in_place) else options
            guard.claim(target)  # also when another process writes it
            if i % share[1] != share[0]:
                continue
            step(0.0)
            result = upscale_file(model, source, target, allowed, step, say)
            guard.wrote(target)
        except Exception as error:  # whatever it is, the other files are still to be done
            if i % share[1] != share[0]:
                continue
            result = _failed(str(source), error)
        step(1.0)
        yield result


def _failed(source: str, error: BaseException) -> Result:
    result = Result(source, error=_one_line(error))
    result.exception = error  # type: ignore[misc]  # no field, so that asdict leaves it out
    return result


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if out_of_memory(error):
        return f"out of memory: give a smaller --tile ({text[:200]})"
    return text
