"""Folders that are watched: which of their images are to be done, as they appear."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ..images import files as images
from .guard import without_results
from .options import Options, output_path

PERIOD = 1.0  # seconds between two looks, over which a file must not have changed: it may still be written


def batches(
    folders: list[Path],
    output: Path | None,
    options: Options,
    *,
    recursive: bool = False,
    say: Callable[[str], None],
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[list[tuple[Path, Path]], list[Path]]]:
    """Images of the folders, each once and again when it has changed, and never what is a result by its name or folder.

    Without end. Yields what ``upscale_found`` takes: new images, and all there are.

    Args:
        output: where the results go: a folder, or None: beside each image, told by ``options.suffix``.
        say: called with what is passed over and which folders cannot be read, each once.
        wait: called with ``PERIOD`` between two looks.
    """
    before: dict[Path, tuple[int, int]] = {}  # size and time of change by file, at the look before
    handled: dict[Path, tuple[int, int]] = {}  # and when it was last yielded
    told: set[str] = set()
    problems: set[str] = set()
    while True:
        passed_over: Counter[str] = Counter()
        found: list[tuple[Path, Path]] = []
        errors: set[str] = set()
        for folder in folders:
            inside, failed = images.images_in(folder, recursive, passed_over)
            found += [(path, path.relative_to(folder)) for path in inside]
            errors |= set(map(str, failed))
        for error in sorted(errors - problems):
            say(f"error: {error}")
        problems = errors
        if new := Counter({kind: n for kind, n in passed_over.items() if kind not in told}):
            say(f"note: {images.kinds(new)}")
            told |= set(new)
        found = _without_own(found, folders, output, options)
        now = {source: stamp for source, _ in found if (stamp := _stamp(source))}
        still = {source for source, stamp in now.items() if before.get(source) == stamp != handled.get(source)}
        ready = [pair for pair in found if pair[0] in still]
        before = now
        handled = {source: stamp for source, stamp in handled.items() if source in now}
        handled.update((source, now[source]) for source, _ in ready)
        if ready:
            yield ready, list(now)
        wait(PERIOD)


def _without_own(
    found: list[tuple[Path, Path]], folders: list[Path], output: Path | None, options: Options
) -> list[tuple[Path, Path]]:
    """Also results whose sources have gone."""

    def is_own(source: Path, relative: Path) -> bool:
        if not (options.suffix and source.stem.endswith(options.suffix)):
            return False
        folder = output_path(source, relative, output, False, options).parent
        return os.path.realpath(folder) == os.path.realpath(source.parent)

    targets = [output_path(*each, output, False, options) for each in found if options.suffix]
    return [each for each in without_results(found, folders, output, targets) if not is_own(*each)]


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:  # it has gone
        return None
    return found.st_size, found.st_mtime_ns
