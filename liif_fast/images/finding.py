"""Which files are images: those that are named, and those in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from .photo import ImageError
from .recognised import HEIF_SUFFIXES, has_heif

# Suffixes that Pillow claims but that are documents, videos or data which it opens only with other programs, if at all.
_NO_PHOTOS = {"EPS", "BUFR", "GRIB", "HDF5", "WMF", "MPEG", "IPTC"}


def find_images(
    inputs: Iterable[str | os.PathLike[str]], recursive: bool = False
) -> tuple[list[tuple[Path, Path]], list[ImageError]]:
    """Image files named by `inputs`: files as they are, folders as the images in them.

    Args:
        inputs: files (of any suffix, also hidden ones) and folders, in the order of the result.
        recursive: also look into sub-folders.

    Returns:
        ``[(path, relative)]``, where `relative` is the path below the given folder, or just the name of a given file;
        and an error for each input that is missing, unreadable or a folder without images. Within a folder: sorted,
        files and folders that begin with a dot left out, links to folders not followed, chosen by suffix.
    """
    Image.init()
    suffixes = {s for s, f in Image.registered_extensions().items() if f in Image.OPEN and f not in _NO_PHOTOS}
    suffixes |= HEIF_SUFFIXES if has_heif() else set()
    found: list[tuple[Path, Path]] = []
    errors: list[ImageError] = []

    def unreadable(error: OSError) -> None:
        errors.append(ImageError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions"))

    for given in map(Path, inputs):
        if not os.path.isdir(given):
            if os.path.lexists(given):
                found.append((given, Path(given.name)))
            else:
                errors.append(ImageError(f"{given}: no such file or folder; check the name"))
            continue
        inside: list[Path] = []
        problems = len(errors)
        for folder, folders, names in os.walk(given, onerror=unreadable):
            folders[:] = [name for name in folders if recursive and not name.startswith(".")]
            inside += [
                Path(folder, name)
                for name in names
                if not name.startswith(".")
                and os.path.splitext(name)[1].lower() in suffixes
                and os.path.isfile(os.path.join(folder, name))  # a pipe would be waited for
            ]
        found += [(path, path.relative_to(given)) for path in sorted(inside)]
        if not inside and len(errors) == problems:
            cure = "name image files, or another folder" if recursive else "use -r to look into sub-folders"
            errors.append(ImageError(f"{given}: no images in this folder; {cure}"))
    return found, errors
