"""Folders of images under their official names: ``image-folder`` and ``paired-image-folders``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..base.shown import named, shown
from ..base.text_files import read_text
from ..registry import register_dataset
from .cache import Packed, decode, in_memory, mapped
from .errors import DataError, MissingError
from .opening import opened
from .pair_names import paired

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SPLIT_BYTES = 1 << 26
CACHES = ("none", "bin", "in_memory", "device")
# What Pillow turns into 8-bit RGB as it is, or by leaving out its alpha channel, as the official code does.
_PLAIN = {"RGB", "L", "P", "1", "RGBX"}
_ALPHA = {"RGBA", "LA", "PA", "La", "RGBa"}


@register_dataset("image-folder")
class ImageFolder(Dataset[Tensor]):
    """The images of a folder, sorted by name, as RGB.

    Args:
        root_path: the folder (its sub-folders are not looked at), or a list of folders, one after the other.
        split_file, split_key: a JSON file of lists of file names by key, and the key: only those files, in that order.
        first_k: only the first so many.
        repeat: how often each image counts in an epoch.
        cache: "in_memory": decoded once into memory that the worker processes share, 8 bits a channel (each process
            that torchrun starts keeps its own); "bin": decoded once into a file of raw pixels beside the folder
            (``_bin_NAME``), mapped into memory, which all processes of a machine and later runs share; "device": as
            in_memory, and in training also on the device, where samples are made (``liif_fast.data.on_device``);
            "none": decoded at each use.

    ``dataset[i]`` is ``[3, H, W]`` float32 in [0, 1]; ``pixels(i)`` the same as uint8 ``[H, W, 3]``. Nothing is decoded
    before ``prepare()`` or the first use; names, sizes and kinds of the files are looked at at once.

    Raises:
        DataError: a missing or unreadable folder or file, no images, files that are no 8-bit images.
    """

    def __init__(
        self,
        root_path: str | Sequence[str],
        split_file: str | None = None,
        split_key: str | None = None,
        first_k: int | None = None,
        repeat: int = 1,
        cache: str = "none",
    ) -> None:
        _at_least_one("first_k", first_k)
        roots = _roots("root_path", root_path)
        self._take(root_path, roots, _files(roots, split_file, split_key)[:first_k], repeat, cache)

    @classmethod
    def of(cls, root_path: str | Sequence[str], files: list[Path], repeat: int, cache: str) -> ImageFolder:
        """Of files in these folders, in this order."""
        folder = cls.__new__(cls)
        folder._take(root_path, _roots("root_path", root_path), files, repeat, cache)
        return folder

    def _take(self, root_path: Any, roots: list[Path], files: list[Path], repeat: int, cache: str) -> None:
        if not isinstance(cache, str) or cache not in CACHES:
            raise DataError(f"cache: one of {', '.join(CACHES)} is wanted, got {shown(cache)}")
        _at_least_one("repeat", repeat)
        if cache == "bin" and not isinstance(root_path, str | Path):
            raise DataError("cache: bin lies beside one folder; with a list of folders use in_memory or none")
        self.roots, self.files = roots, files
        self.repeat, self.cache = 1 if repeat is None else repeat, cache
        self.sizes, self.notes = _headers(self.files)
        self._decoded: Packed | None = None

    def __len__(self) -> int:
        return len(self.files) * self.repeat

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.pixels(index).transpose(2, 0, 1).copy()).float().div(255)

    def pixels(self, index: int) -> np.ndarray:
        """The image as uint8 ``[H, W, 3]``, not to be written to."""
        index %= len(self.files)
        if self.cache == "none":
            return decode(self.files[index], self.sizes[index])
        return self.packed()[index]

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image ``dataset[index]``, without decoding it."""
        return self.sizes[index % len(self.files)]

    def packed(self) -> Packed:
        """All images as they are kept; only with a cache."""
        self.prepare()
        return cast(Packed, self._decoded)

    def prepare(self) -> None:
        """Decode what is to be kept; done before worker processes start, so that they share it."""
        if self._decoded is not None or self.cache == "none":
            return
        if self.cache == "bin":
            root = self.roots[0].absolute()
            self._decoded = mapped(self.files, self.sizes, root.parent / f"_bin_{root.name}")
        else:
            self._decoded = in_memory(self.files, self.sizes)


@register_dataset("paired-image-folders")
class PairedImageFolders(Dataset[tuple[Tensor, Tensor]]):
    """Two folders of the same images, low and high resolution: ``(root_path_1's, root_path_2's)``, in the order of the
    first one's names. Arguments as for `ImageFolder`.

    Names tell which belong together where all of one folder are those of the other with the same ending added or
    another (``img_1``, ``img_1x2``); else it is their order, which is said in ``notes`` and must not be ambiguous. See
    ``liif_fast.data.pair_names``.

    Raises:
        DataError: also when the folders have different numbers of images, or their order is ambiguous.
    """

    def __init__(
        self,
        root_path_1: str | Sequence[str],
        root_path_2: str | Sequence[str],
        split_file: str | None = None,
        split_key: str | None = None,
        first_k: int | None = None,
        repeat: int = 1,
        cache: str = "none",
    ) -> None:
        roots = {"root_path_1": root_path_1, "root_path_2": root_path_2}
        lows, highs = (_files(_roots(name, root), split_file, split_key) for name, root in roots.items())
        _at_least_one("first_k", first_k)
        low, high, note = paired(lows, highs, first_k)
        self.dataset_1 = ImageFolder.of(root_path_1, low, repeat, cache)
        self.dataset_2 = ImageFolder.of(root_path_2, high, repeat, cache)
        self.notes = [*([note] if note else []), *self.dataset_1.notes, *self.dataset_2.notes]

    def __len__(self) -> int:
        return len(self.dataset_1)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.dataset_1[index], self.dataset_2[index]

    def pixels(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Both as uint8 ``[H, W, 3]``."""
        return self.dataset_1.pixels(index), self.dataset_2.pixels(index)

    def prepare(self) -> None:
        """As of `ImageFolder`."""
        self.dataset_1.prepare()
        self.dataset_2.prepare()


def _at_least_one(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31):
        raise DataError(f"{name}: a whole number of at least 1 is wanted, got {shown(value)}")


def _roots(name: str, value: Any) -> list[Path]:
    roots = [value] if isinstance(value, str | Path) else value
    if not isinstance(roots, list | tuple) or not roots or not all(p and isinstance(p, str | Path) for p in roots):
        raise DataError(f"{name}: the name of a folder, or a list of names, is wanted, got {shown(value)}")
    return [Path(p) for p in roots]


def _files(roots: list[Path], split_file: str | None, split_key: str | None) -> list[Path]:
    for root in roots:
        if not root.is_dir():
            raise MissingError(f"{root}: no such folder; correct root_path, or put the images there")
    if split_file is not None:
        names = _split(split_file, split_key)
        missing = [name for name in names if not (roots[0] / name).is_file()]
        if missing:
            raise DataError(
                f"{roots[0]}: {len(missing)} files of {split_file} are missing, the first is {named(missing[0])}"
            )
        return [roots[0] / name for name in names]
    found = []
    for root in roots:
        found += sorted(
            file for file in root.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        )
    if not found:
        raise DataError(f"{roots[0]}: no images in this folder (looked for {', '.join(SUFFIXES)})")
    return found


def _split(file: str, key: str | None) -> list[str]:
    try:
        text = read_text(Path(file), _SPLIT_BYTES)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{named(file)}: cannot be read ({reason}); correct split_file") from error
    try:
        lists: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: this split_file is no JSON ({named(str(error))})") from error
    names = lists.get(key) if isinstance(lists, dict) and isinstance(key, str) else None
    if not isinstance(names, list) or not names or not all(name and isinstance(name, str) for name in names):
        known = named(", ".join(lists)) if isinstance(lists, dict) else "none"
        raise DataError(f"{file}: no list of file names under split_key {shown(key)}; keys: {known}")
    return names


def _headers(files: list[Path]) -> tuple[list[tuple[int, int]], list[str]]:
    """(height, width) of every file, and what is to be said of them."""
    sizes, alpha = [], []
    for file in files:
        if not file.is_file():  # a pipe would be waited for
            raise DataError(f"{file}: cannot be read as an image (it is no regular file); take it out")
        try:
            with opened(file) as image:
                mode, (width, height) = image.mode, image.size
        except Exception as error:  # Pillow's decoders raise many kinds on broken files
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{file}: cannot be read as an image ({reason})") from error
        if mode in _ALPHA:
            alpha.append(file.name)
        elif mode not in _PLAIN:
            raise DataError(
                f"{file}: its mode is {mode}, 8-bit RGB or grey is wanted: a folder of mixed modes would train on "
                "clipped or inverted colours; convert this file first, or take it out"
            )
        sizes.append((height, width))
    notes = [f"{len(alpha)} images have an alpha channel, which is left out (first: {alpha[0]})"] if alpha else []
    return sizes, notes
