"""Results of several files: written into a folder completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from ..base import atomic
from ..weights import files as weight_files


def check(folder: Path, names: Collection[str], overwrite: bool) -> None:
    """Raises FileExistsError or NotADirectoryError where `write` would refuse.

    Args:
        names: of all files that a result may have.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is no folder; give another, or a new one")
    taken = [folder / name for name in names if os.path.lexists(folder / name)]
    if taken and not overwrite:
        raise FileExistsError(f"{taken[0]}: exists; give --overwrite or another folder")
    if blocked := [path for path in taken if path.is_dir()]:
        raise FileExistsError(f"{blocked[0]}: is a folder; remove it, or give another folder")


def write(folder: Path, files: Mapping[str, bytes], names: Collection[str], overwrite: bool = False) -> list[str]:
    """Write files into a folder: all of them or none.

    A new folder appears with everything in it. In one that exists, complete files take their names at the end; those
    of ``names`` that an earlier result left and this one has not go.

    Returns:
        The names of those that went.

    Raises:
        FileExistsError, NotADirectoryError: as `check`. OSError: cannot be written.
    """
    check(folder, names, overwrite)
    try:
        with atomic.scratch_folder(folder if folder.is_dir() else folder.parent) as scratch:
            for name, data in files.items():
                weight_files.write(scratch / name, data)
            if not folder.is_dir():
                os.rename(scratch, folder)
                return []
            for name in files:
                os.replace(scratch / name, folder / name)
        gone = [name for name in names if name not in files and os.path.lexists(folder / name)]
        for name in gone:
            (folder / name).unlink(missing_ok=True)
        return gone
    except OSError as error:
        raise OSError(f"{folder}: cannot be written ({error.strerror or error}); give another folder") from error
