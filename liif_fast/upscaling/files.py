"""Files in, larger files out: what ``liif-fast upscale`` does, file by file."""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..images import files as images
from ..images.frames import Frames, frames_of, is_animated
from ..images.frames_writing import write_frames
from ..models.liif import LIIF
from . import streams
from .guard import Guard, without_results
from .options import SUFFIX, Options, cut_size, output_path, target_size, work_of
from .results import Exists, Result, failed
from .targets import check_name, check_writable, make_folder

LARGE = 2**22  # pixels of input or output from which on the sizes are said before the work


@dataclass
class _Work:
    """A picture whose result can be written, as far as that is known before the work."""

    source: Path
    file: Path  # where it is read from
    target: Path
    options: Options
    photo: images.Photo
    size: tuple[int, int]  # (height, width) of what the model makes
    final: tuple[int, int]  # and of what is written
    began: float
    frames: Frames | None  # of an animation, pages; None: the photo is all

    @property
    def sizes(self) -> str:
        several = f", {self.pictures} times" if self.frames else ""
        return _sizes(self.photo, self.final) + several

    @property
    def pictures(self) -> int:
        return len(self.frames) if self.frames else 1

    def planned(self) -> Result:
        height, width = self.photo.pixels.shape[:2]
        sizes = (width, height), (self.final[1], self.final[0])
        source, target = str(self.source), str(self.target)
        return Result(source, target, *sizes, notes=self.photo.notes, status="planned", pictures=self.pictures)

    def done(self, model: LIIF, dtype: torch.dtype, progress: Callable[[float], None]) -> Result:
        """Raises what ``LIIF.upscale`` and ``images.write`` raise. Writes all or nothing."""
        how, frames = self.options, self.frames
        kept: dict[str, Any] = {
            "format": how.format,
            "quality": how.quality,
            "lossless": how.lossless,
            "overwrite": how.overwrite,
        }
        if self.target != streams.STDOUT:
            make_folder(self.target.parent)
        with streams.renamed(self.file, self.source), streams.target_file(self.target) as file:
            if frames is None:
                photo = self._enlarged(self.photo, model, dtype, progress)
                notes = photo.notes + images.write(file, photo, **kept)
            else:
                n = self.pictures
                photos = (self._enlarged(each, model, dtype, lambda done: progress(done / n)) for each in frames)
                notes = list(dict.fromkeys(self.photo.notes + write_frames(file, photos, n, frames.plays, **kept)))
        if how.in_place and self.target == self.source.with_suffix(self.target.suffix) != self.source:
            notes = [*notes, f"it is kept: its result, {self.target.name}, is of another format"]
        return replace(self.planned(), seconds=time.perf_counter() - self.began, notes=notes, status="done")

    def _enlarged(
        self, photo: images.Photo, model: LIIF, dtype: torch.dtype, progress: Callable[[float], None]
    ) -> images.Photo:
        size = target_size(photo.pixels.shape[1], photo.pixels.shape[0], self.options)  # pages have their own
        _check_amount(self.source, photo, size, self.options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            how = self.options
            photo = model.upscale(
                photo, size=size, window=how.window, point=how.point, tile=how.tile, dtype=dtype, progress=progress
            )
        photo.notes = photo.notes + [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
        final = cut_size(size, self.options)
        return photo if final == size else images.middle(photo, final)


def _begun(source: Path, target: Path, options: Options, held: contextlib.ExitStack) -> _Work:
    """The picture, read; ``images.ImageError`` for all that can be known to fail before the work.

    ``held`` keeps what stands for a stream, of which an animation's frames are read one by one.
    """
    began = time.perf_counter()
    if target != streams.STDOUT:
        check_name(target)
        if os.path.exists(target) and not options.overwrite:
            raise Exists(f"{target} exists: give --overwrite, --skip-existing, --suffix or another output")
        _output_format(target, options)
    most = 8 * options.max_pixels + 2**26  # bytes: the largest pixels, and metadata
    file = held.enter_context(streams.source_file(source, most))
    with streams.renamed(file, source):
        photo = images.read(file, max_pixels=options.max_pixels)
        if target == streams.STDOUT and options.format is None:
            kept = photo.format in SUFFIX or (photo.format == "GIF" and is_animated(file))
            options = replace(options, format=photo.format if kept else "PNG")
        format = _output_format(target, options)
        frames = frames_of(photo, file, format, options.max_pixels)
    if options.lossless and frames is None:
        images.check_held(target, photo, format)
    height, width = photo.pixels.shape[:2]
    size = target_size(width, height, options)
    work = _Work(source, file, target, options, photo, size, cut_size(size, options), began, frames)
    _check_amount(source, photo, size, options)
    # also where the folder is still to be made
    images.check_size(target, work.final, options.format, photo.pixel_bytes)
    if target == streams.STDOUT:
        return work
    if target.parent.is_dir():
        images.check_output(target, size=work.final, format=options.format, overwrite=options.overwrite)
    check_writable(Path(os.path.realpath(target)).parent if options.overwrite else target.parent)  # links are followed
    return work


def _output_format(target: Path, options: Options) -> str:
    format = images.output_format(target, options.format)
    if options.lossless:
        images.check_lossless(target, format)
    return format


def _sizes(photo: images.Photo, final: tuple[int, int]) -> str:
    height, width = photo.pixels.shape[:2]
    return f"{width}x{height} -> {final[1]}x{final[0]}"


def _check_amount(source: Path, photo: images.Photo, size: tuple[int, int], options: Options) -> None:
    if math.prod(size) > options.max_output_pixels:
        raise images.ImageError(
            f"{source}: {_sizes(photo, cut_size(size, options))}: the output is over the limit of "
            f"{options.max_output_pixels} pixels; choose a smaller scale, or raise --max-output-pixels"
        )


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
        inputs: files, named pipes and folders; or "-" alone, standard input.
        output: a file for a single input file, else a folder, which is made if it is not there; "-": standard output,
            for a single input file; None: beside each input, for standard input standard output.
        progress: called with the share of the work that is done, by the pixels, times the number of files (2.25); the
            number of all files; and the current one's name.
        share: (r, n): only every n-th file, from the r-th on; what concerns no file is reported with r = 0 only.
        say: called with what is passed over, and with the sizes of a picture, before work that takes long.
    """
    paths, output = [streams.input_path(p) for p in inputs], None if output is None else streams.output_path(output)
    passed_over: Counter[str] = Counter()
    found, errors = images.find_images([p for p in paths if p != streams.STDIN], recursive, passed_over)
    found = list(dict.fromkeys(found))  # a file that is named twice is done once
    found += [(p, Path(p.name)) for p in paths if p == streams.STDIN]
    for error in errors if share[0] == 0 else []:
        about = [p for p in paths if str(error).startswith(str(images.ImageError(f"{p}:")))]
        yield failed(str(about[0] if about else output), error)
    single = len(paths) == 1 and not os.path.isdir(paths[0])
    passed = len(found)
    named = options.suffix and paths != [streams.STDIN]  # standard output is no result of standard input
    targets = [output_path(*each, output, single, options) for each in found if named]
    found = without_results(found, paths, output, targets)
    if say and share[0] == 0 and passed_over:
        say(f"note: {images.kinds(passed_over)}")
    if say and share[0] == 0 and (passed := passed - len(found)):
        say(f"note: {passed} file{'s' * (passed > 1)} passed over: results of the other inputs")
    yield from upscale_found(load, found, output, single, options, progress=progress, share=share, say=say)


def upscale_found(
    load: Callable[[], tuple[LIIF, torch.dtype]],
    found: list[tuple[Path, Path]],
    output: Path | None,
    single: bool,
    options: Options,
    *,
    others: Iterable[Path] = (),
    owners: dict[Path, Path] | None = None,
    progress: Callable[[float, int, str], None] | None = None,
    share: tuple[int, int] = (0, 1),
    say: Callable[[str], None] | None = None,
) -> Iterator[Result]:
    """The files of ``upscale_files``, found.

    Args:
        found: each with its path within ``output``.
        single: ``output`` may name a file.
        others: files that no output may replace, either.
        owners: as of ``Guard``.
    """
    guard, loaded = Guard([*(source for source, _ in found), *others], owners), None
    mine = range(share[0], len(found), share[1])
    weights = [work_of(*found[i], output, single, options) if progress and len(mine) > 1 else 1.0 for i in mine]
    unit, before = len(found) / (sum(weights) or 1.0), 0.0
    for i, (source, relative) in enumerate(found):
        weight = unit * weights[i // share[1]] if i in mine else 0.0
        done = before
        before += weight

        def step(part: float, end: float = before, weight: float = weight, source: Path = source) -> None:
            nonlocal done
            done = min(end, done + part * weight)
            if progress:
                progress(done, len(found), str(source))

        target, work = None, None
        with contextlib.ExitStack() as held:
            try:
                target = output_path(source, relative, output, single, options)
                allowed = (
                    replace(options, overwrite=True) if guard.is_own(source, target, options.in_place) else options
                )
                guard.claim(source, target)  # also when another process writes it
                if i in mine:
                    step(0.0)
                    work = _begun(source, target, allowed, held)
            except Exception as error:  # whatever it is, the other files are still to be done
                result = failed(str(source), error)
                if isinstance(error, Exists):
                    skipped = options.skip_existing
                    result = Result(str(source), str(target), error=None if skipped else result.error, status="exists")
            if i not in mine:
                continue
            if work is not None and options.dry_run:
                result = work.planned()
            elif work is not None:
                model, dtype = loaded = loaded or load()
                if say and work.pictures * max(math.prod(work.photo.pixels.shape[:2]), math.prod(work.size)) >= LARGE:
                    say(f"{source}: {work.sizes}, {work.pictures * math.prod(work.final) / 1e6:.1f} megapixels")
                try:
                    result = work.done(model, dtype, step)
                    guard.wrote(work.target)
                except Exception as error:
                    result = failed(str(source), error)
        del work  # its pixels
        step(1.0)
        yield result
