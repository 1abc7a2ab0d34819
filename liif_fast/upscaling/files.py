"""Files in, larger files out: what ``liif-fast upscale`` does, file by file."""

from __future__ import annotations

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
from ..images.frames import Frames, frames_of, is_animated
from ..images.frames_writing import write_frames
from ..models.liif import LIIF
from ..sizes import MAX_OUTPUT_PIXELS, MAX_PIXELS, output_size
from .guard import Guard, without_results
from .targets import check_name, check_writable, make_folder

LARGE = 2**22  # pixels of input or output from which on the sizes are said before the work
# source formats (Pillow's names) that are also written; everything else becomes PNG
_SUFFIX = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}


@dataclass
class Result:
    """What became of one input; ``error`` is None when ``output`` has been written, or was there and might be.

    ``status``: "done"; "exists" where the output was there already, an error unless that was asked for; "failed".
    """

    input: str
    output: str | None = None
    in_size: tuple[int, int] | None = None  # width, height
    out_size: tuple[int, int] | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    status: str = "done"

    exception: ClassVar[BaseException | None] = None  # behind ``error``, for debugging; set on the instance


class Exists(images.ImageError):
    """The output is there."""


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
    format: str | None = None  # suffix without dot
    quality: int | None = None
    lossless: bool = False
    suffix: str = ""
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    skip_existing: bool = False  # what is there is a success
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
    elif suffix not in {*_SUFFIX.values(), ".jpeg", ".tiff"} and not (suffix == ".gif" and is_animated(source)):
        suffix = ".png"
    return output / relative.parent / f"{relative.stem}{options.suffix}{suffix}"


@dataclass
class _Work:
    """A picture whose result can be written, as far as that is known before the work."""

    source: Path
    target: Path
    options: Options
    photo: images.Photo
    size: tuple[int, int]  # (height, width) of what the model makes
    final: tuple[int, int]  # and of what is written
    began: float
    frames: Frames | None  # of an animation, pages; None: the photo is all

    @property
    def sizes(self) -> str:
        several = f", {len(self.frames)} times" if self.frames else ""
        return _sizes(self.photo, self.final) + several

    def done(self, model: LIIF, dtype: torch.dtype, progress: Callable[[float], None]) -> Result:
        """Raises what ``LIIF.upscale`` and ``images.write`` raise. Writes all or nothing."""
        height, width = self.photo.pixels.shape[:2]
        how, frames = self.options, self.frames
        kept: dict[str, Any] = {
            "format": how.format,
            "quality": how.quality,
            "lossless": how.lossless,
            "overwrite": how.overwrite,
        }
        if frames is None:
            photo = self._enlarged(self.photo, model, dtype, progress)
            make_folder(self.target.parent)
            notes = photo.notes + images.write(self.target, photo, **kept)
        else:
            make_folder(self.target.parent)
            part = len(frames)
            photos = (self._enlarged(each, model, dtype, lambda done: progress(done / part)) for each in frames)
            notes = write_frames(self.target, photos, part, frames.plays, **kept)
        seconds = time.perf_counter() - self.began
        sizes = (width, height), (self.final[1], self.final[0])
        return Result(str(self.source), str(self.target), *sizes, seconds, notes)

    def _enlarged(
        self, photo: images.Photo, model: LIIF, dtype: torch.dtype, progress: Callable[[float], None]
    ) -> images.Photo:
        size = target_size(photo.pixels.shape[1], photo.pixels.shape[0], self.options)  # pages have their own
        _check_amount(self.source, photo, size, self.options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            photo = model.upscale(photo, size=size, tile=self.options.tile, dtype=dtype, progress=progress)
        photo.notes = photo.notes + [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
        final = _cut(size, self.options)
        return photo if final == size else images.middle(photo, final)


def _begun(source: Path, target: Path, options: Options) -> _Work:
    """The picture, read; ``images.ImageError`` for all that can be known to fail before the work."""
    began = time.perf_counter()
    check_name(target)
    if os.path.exists(target) and not options.overwrite:
        raise Exists(f"{target} exists: give --overwrite, --skip-existing, --suffix or another output")
    format = images.output_format(target, options.format)
    if options.lossless:
        images.check_lossless(target, format)
    photo = images.read(source, max_pixels=options.max_pixels)
    frames = frames_of(photo, source, format, options.max_pixels)
    height, width = photo.pixels.shape[:2]
    size = target_size(width, height, options)
    work = _Work(source, target, options, photo, size, _cut(size, options), began, frames)
    _check_amount(source, photo, size, options)
    # also where the folder is still to be made
    images.check_size(target, work.final, options.format, photo.pixel_bytes)
    if target.parent.is_dir():
        images.check_output(target, size=work.final, format=options.format, overwrite=options.overwrite)
    check_writable(Path(os.path.realpath(target)).parent if options.overwrite else target.parent)  # links are followed
    return work


def _sizes(photo: images.Photo, final: tuple[int, int]) -> str:
    height, width = photo.pixels.shape[:2]
    return f"{width}x{height} -> {final[1]}x{final[0]}"


def _check_amount(source: Path, photo: images.Photo, size: tuple[int, int], options: Options) -> None:
    if math.prod(size) > options.max_output_pixels:
        raise images.ImageError(
            f"{source}: {_sizes(photo, _cut(size, options))}: the output is over the limit of "
            f"{options.max_output_pixels} pixels; choose a smaller scale, or raise --max-output-pixels"
        )


def _cut(size: tuple[int, int], options: Options) -> tuple[int, int]:
    """(height, width) of what is left of a picture of this size."""
    if options.shape != "fill" or options.size is None:
        return size
    width, height = cast(tuple[int, int], options.size)
    return height, width


def upscale_files(
    load: Callable[[], tuple[LIIF, torch.dtype]],
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
        load: gives the model and the dtype of its computation; called once, when a picture has been read whose result
            can be written. What it raises ends the run.
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
    guard, loaded = Guard([source for source, _ in found]), None
    for i, (source, relative) in enumerate(found):
        done = float(i)

        def step(part: float, i: int = i, source: Path = source) -> None:
            nonlocal done
            done = min(i + 1.0, done + part)
            if progress:
                progress(done, len(found), str(source))

        mine, target, work = i % share[1] == share[0], None, None
        try:
            target = output_path(source, relative, output, single, options)
            allowed = replace(options, overwrite=True) if guard.is_own(i, target, options.in_place) else options
            guard.claim(target)  # also when another process writes it
            if mine:
                step(0.0)
                work = _begun(source, target, allowed)
        except Exception as error:  # whatever it is, the other files are still to be done
            result = _failed(str(source), error)
            if isinstance(error, Exists):
                skipped = options.skip_existing
                result = Result(str(source), str(target), error=None if skipped else result.error, status="exists")
        if not mine:
            continue
        if work is not None:
            model, dtype = loaded = loaded or load()
            times = len(work.frames) if work.frames else 1
            if say and times * max(math.prod(work.photo.pixels.shape[:2]), math.prod(work.size)) >= LARGE:
                say(f"{source}: {work.sizes}, {times * math.prod(work.final) / 1e6:.1f} megapixels")
            try:
                result = work.done(model, dtype, step)
                guard.wrote(work.target)
            except Exception as error:
                result = _failed(str(source), error)
            del work  # its pixels
        step(1.0)
        yield result


def _failed(source: str, error: BaseException) -> Result:
    result = Result(source, error=_one_line(error), status="failed")
    result.exception = error  # type: ignore[misc]  # no field, so that asdict leaves it out
    return result


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if out_of_memory(error):
        return f"out of memory: give a smaller --tile ({text[:200]})"
    return text
