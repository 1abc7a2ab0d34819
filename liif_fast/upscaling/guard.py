"""What keeps the files of a run apart: no output in the place of an input, no result enlarged again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..images.files import ImageError


def without_results(
    found: list[tuple[Path, Path]], inputs: list[Path], output: Path | None, targets: list[Path]
) -> list[tuple[Path, Path]]:
    """A second run must not enlarge what the first one wrote into a folder inside the input, or beside its inputs.

    Args:
        targets: where the results go, if their names are not their sources'.
    """
    pairs = zip(targets, found, strict=False)
    beside = {identity(target) for target, (source, _) in pairs if target.parent == source.parent}
    found = [(source, relative) for source, relative in found if identity(source) not in beside - {None}]
    if output is None:
        return found
    folder = _real(output)
    if any(os.path.isdir(p) and folder != _real(p) and _real(p) in folder.parents for p in inputs):
        return [(source, relative) for source, relative in found if folder not in _real(source).parents]
    return found


class Guard:
    """Sees to it that no output takes the place of an input, or of another output, by whatever name it goes.

    Args:
        owners: whose outputs are there since earlier batches; those of this one are added.
    """

    def __init__(self, sources: list[Path], owners: dict[Path, Path] | None = None) -> None:
        self.owners = {} if owners is None else owners
        self.identities = {source: identity(source) for source in sources}
        self.inputs = set(self.identities.values()) - {None}
        self.claimed: set[Path] = set()
        self.written: set[Any] = set()

    def claim(self, source: Path, target: Path) -> None:
        """ImageError if another input has this output."""
        real, there = _real(target), identity(target)
        others = there is not None and (there in self.written or self.owners.get(real, source) != source)
        if real in self.claimed or others:
            raise ImageError(f"{target} was already written for another input: use separate outputs")
        self.claimed.add(real)
        self.owners[real] = source

    def wrote(self, target: Path) -> None:
        """It is there now, under whatever name."""
        self.written.add(identity(target))

    def is_own(self, source: Path, target: Path, in_place: bool) -> bool:
        """Whether ``target`` is this input itself, which may be replaced; ImageError if it is an input that may not."""
        own, there = self.identities[source], identity(target)
        if there is None or there not in self.inputs:
            return False
        if there != own:
            raise ImageError(f"{target}: is another input of this run: give --suffix or another output")
        if not in_place:
            raise ImageError(
                f"{target}: is the input itself: give --suffix or another output, or --in-place to replace it"
            )
        return True


def identity(path: Path) -> Any:
    """The same for all names of a file: through links, on file systems that ignore case; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else _real(path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
