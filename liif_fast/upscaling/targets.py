"""Names and folders of results: what can be known of them before the work."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..base import atomic
from ..images.files import ImageError


def _nearest(folder: Path) -> Path:
    """The folder, or what is there of the way to it."""
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def check_writable(folder: Path) -> None:
    """ImageError if no file can be made in a folder, which may not be there yet."""
    there = _nearest(folder)
    for missing in (folder, *folder.parents)[: len(folder.parts) - len(there.parts)]:
        if os.path.lexists(missing):
            raise ImageError(f"{missing}: is a file, so there can be no folder of this name; choose another output")
    try:
        atomic.probe(there)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ImageError(f"{there}: no file can be made in this folder ({reason}); choose another output") from error


def check_name(target: Path) -> None:
    """ImageError for a name that the file system cannot have, also in a folder that is not there yet."""
    folder = _nearest(target.parent)
    for path in (target, *(folder / name for name in target.parts[len(folder.parts) :])):
        try:
            os.lstat(path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise ImageError(
                    f"{target}: this name is too long for the file system; give a shorter --suffix or output"
                ) from None


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ImageError(f"{folder}: this folder cannot be made ({reason}); choose another output") from error
