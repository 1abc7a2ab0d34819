"""Which files are images: those that are named, and those in folders."""

from __future__ import annotations

import difflib
import itertools
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from .photo import ImageError
from .recognised import HEIF_SUFFIXES, NEEDS_HEIF, has_heif

# Suffixes that Pillow claims but that are documents, videos or data which it opens only with other programs, if at all.
_NO_PHOTOS = {"EPS", "BUFR", "GRIB", "HDF5", "WMF", "MPEG", "IPTC"}
_MOST_KINDS = 8  # in one line
_MOST_NAMES = 1000  # of a folder among which one is looked for that may be meant


def find_images(
    inputs: Iterable[str | os.PathLike[str]], recursive: bool = False, passed_over: Counter[str] | None = None
) -> tuple[list[tuple[Path, Path]], list[ImageError]]:
    """Image files named by `inputs`: files as they are, folders as the images in them.

    Args:
        inputs: files (of any suffix, also hidden ones) and folders, in the order of the result.
        recursive: also look into sub-folders.
        passed_over: here the other files of the folders are counted by kind, see ``kinds``.

    Returns:
        ``[(path, relative)]``, where `relative` is the path below the given folder, or just the name of a given file;
        and an error for each input that is missing, unreadable or a folder without images. Within a folder: sorted,
        files and folders that begin with a dot left out, links to folders not followed, chosen by suffix.
    """
    found: list[tuple[Path, Path]] = []
    errors: list[ImageError] = []
    for given in map(Path, inputs):
        if not os.path.isdir(given):
            if os.path.lexists(given):
                found.append((given, Path(given.name)))
            else:
                errors.append(ImageError(f"{given}: no such file or folder; {_meant(given)}"))
            continue
        inside, problems = images_in(given, recursive, passed_over)
        found += [(path, path.relative_to(given)) for path in inside]
        errors += problems
        if not inside and not problems:
            cure = "name image files, or another folder" if recursive else "use -r to look into sub-folders"
            errors.append(ImageError(f"{given}: no images in this folder; {cure}"))
    return found, errors


def _meant(given: Path) -> str:
    try:
        with os.scandir(given.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_NAMES)]
    except OSError:
        names = []
    near = difflib.get_close_matches(given.name, names, 1, 0.75)
    return f"{given.with_name(near[0])}?" if near else "check the name"


def suffixes() -> set[str]:
    """Of files that are taken for images in a folder."""
    Image.init()
    found = {s for s, f in Image.registered_extensions().items() if f in Image.OPEN and f not in _NO_PHOTOS}
    return (found | HEIF_SUFFIXES) if has_heif() else found - HEIF_SUFFIXES


def images_in(
    folder: Path, recursive: bool = False, passed_over: Counter[str] | None = None
) -> tuple[list[Path], list[ImageError]]:
    """The images in a folder, as ``find_images`` finds them; none is no error."""
    known = suffixes()
    found: list[Path] = []
    errors: list[ImageError] = []

    def unreadable(error: OSError) -> None:
        errors.append(ImageError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions"))

    for where, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in names:
            if name.startswith("."):
                continue
            suffix = os.path.splitext(name)[1].lower()
            regular = os.path.isfile(os.path.join(where, name))  # a pipe would be waited for
            if suffix in known and regular:
                found.append(Path(where, name))
            elif passed_over is not None:
                passed_over[(suffix or "without suffix") if regular else "pipe, device or broken link"] += 1
    return sorted(found), errors


def kinds(passed_over: Counter[str]) -> str:
    """``"5 skipped: 2 .heic, 1 .mp4, 2 .txt"``, with what would read them; of very many kinds the commonest."""
    shown = dict(passed_over.most_common(_MOST_KINDS))
    parts = [f"{shown[kind]} {kind}" for kind in sorted(shown)]
    if rest := passed_over.total() - sum(shown.values()):
        parts.append(f"{rest} of other kinds")
    cure = f" ({NEEDS_HEIF})" if HEIF_SUFFIXES & set(passed_over) and not has_heif() else ""
    return f"{passed_over.total()} skipped: {', '.join(parts)}{cure}"
