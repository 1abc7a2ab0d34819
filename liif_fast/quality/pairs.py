"""High- and low-resolution images that belong together, found as the official LIIF code finds and crops them.

Data: a folder with `HR/*.png` and, if there are any, `LR_bicubic/X{S}/NAMEx{S}.png` beside it (the layout of EDSR's
benchmark archive; `DIV2K_valid_HR` beside `DIV2K_valid_LR_bicubic` works likewise; the low-resolution names may have
another ending, the same for all, or none), or a plain folder of images. That may hold low-resolution ones too, which
are never taken for high-resolution ones: `image_SRF_4/NAME_SRF_4_HR.png` and `..._LR.png` (SelfExSR's layout, also
where `data` is the folder of several such folders), `NAME_HR.png` and `NAME_LR.png`, `NAME.png` and `NAMEx4.png`.

Where the low-resolution images come from, `lr`:

| `lr`     | meaning                                                                                          |
|----------|--------------------------------------------------------------------------------------------------|
| `auto`   | the files of this scale if there are any, else `pil`: what the official configs do                 |
| `files`  | the files; an error if there are none                                                            |
| `matlab` | every HR image reduced as MATLAB's imresize does, files or not                                   |
| `pil`    | every HR image reduced by Pillow's bicubic filter, files or not                                  |

All images are read as RGB, grey ones too (three equal channels), as the official code does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..base.shown import shown
from ..data import pair_names
from ..data.folders import SUFFIXES
from ..data.opening import opened
from ..images.resize import imresize, pil_bicubic

LR_SOURCES = ("auto", "files", "matlab", "pil")
_REDUCE = {"matlab": imresize, "pil": pil_bicubic}
_OTHERWISE = "; with matlab or pil as lr, HR is reduced instead"
_LOW = re.compile(r"LR_bicubic/X\d+$|(^|/)LR$")  # names of folders
_MORE_THAN_8_BITS = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Pair:
    """Files of one image. HR is cropped to ``size``: the LR file's size times the scale, or, where HR is reduced,
    ``round(h * scale)`` rows with ``h = floor(H / scale + 1e-9)``, columns likewise."""

    hr_file: Path
    lr_file: Path | None  # None: HR is reduced
    source: str  # 'files', 'matlab' or 'pil'
    low_size: tuple[int, int]  # (height, width) as all sizes
    size: tuple[int, int]

    @property
    def where(self) -> str | None:
        """Where the LR files lie, if beside the HR ones."""
        if self.lr_file is None or self.lr_file.parent != self.hr_file.parent:
            return None
        return f"files beside HR, such as {self.lr_file.name}"

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high resolution as uint8 ``[h, w, 3]`` and ``[H, W, 3]``; ValueError for an unreadable file."""
        hr = _read(self.hr_file)[: self.size[0], : self.size[1]]
        return _REDUCE[self.source](hr, self.low_size) if self.lr_file is None else _read(self.lr_file), hr


def find(data: str | PathLike[str], scale: float, lr: str = "auto") -> list[Pair]:
    """The pairs of a folder, by name; all have one source. Only the files' headers are read.

    Raises:
        FileNotFoundError: no such folder, no images in it, or no LR files with lr="files".
        ValueError: HR and LR files that do not belong together, an unreadable file, an image too small for the scale.
    """
    check(data, lr)
    data, scale = Path(data), int(scale) if float(scale).is_integer() else float(scale)  # whole ones: names of files
    folder = _hr_folder(data, scale)
    files = _images_in(folder)
    if not files:
        raise FileNotFoundError(f"{folder}: no images in this folder (looked for {', '.join(SUFFIXES)})")
    hr_files, beside = pair_names.in_one_folder(files, _fits)
    if lr == "auto" and (not hr_files or _LOW.search(folder.as_posix())):
        raise ValueError(f"{folder}: only low-resolution images are here; give HR, or pil as lr to take these for HR")
    hr_files = hr_files or files
    beside = {hr: [f for f in found if _of_scale(hr, f, scale)] for hr, found in beside.items()}
    lr_folder = None
    if folder.name.endswith("HR") and isinstance(scale, int):
        lr_folder = folder.parent / (folder.name[:-2] + "LR_bicubic") / f"X{scale}"
    if lr == "auto":
        lr = "files" if any(beside.values()) or (lr_folder is not None and lr_folder.is_dir()) else "pil"
    if lr != "files":
        return [Pair(file, None, lr, *_reduced_sizes(file, scale)) for file in hr_files]
    if any(beside.values()):
        return _match_beside(beside, cast(int, scale))  # or nothing would lie beside
    if not isinstance(scale, int) or lr_folder is None or not lr_folder.is_dir():
        where = "for this scale or layout" if lr_folder is None else f"in {lr_folder}, which does not exist"
        raise FileNotFoundError(f"{data}: no LR_bicubic files {where}{_OTHERWISE}")
    return _match(hr_files, lr_folder, scale)


def check(data: str | PathLike[str], lr: str = "auto") -> None:
    """Raises what `find` would (ValueError, FileNotFoundError) before it looks for images."""
    if lr not in LR_SOURCES:
        raise ValueError(f"lr must be one of {', '.join(LR_SOURCES)}, got {shown(lr)}")
    if not Path(data).is_dir():
        raise FileNotFoundError(f"{data}: no such folder; give one with images or with an HR folder in it")


def _match(hr_files: list[Path], lr_folder: Path, scale: int) -> list[Pair]:
    by_stem = {file.stem: file for file in _images_in(lr_folder)}
    rule = pair_names.endings(list(by_stem), [file.stem for file in hr_files]) or ("", f"x{scale}")
    names = [pair_names.renamed(file.stem, rule) for file in hr_files]
    missing = [name for name in names if name not in by_stem]
    if missing:
        raise ValueError(
            f"{lr_folder}: files for {len(missing)} of {len(names)} HR images are missing, the first is "
            f"{missing[0]}.png{_OTHERWISE}"
        )
    extra = sorted(by_stem.keys() - set(names))
    if extra:
        first = by_stem[extra[0]].name
        raise ValueError(f"{lr_folder}: {len(extra)} files have no HR image, the first is {first}{_OTHERWISE}")
    return [_pair(hr_file, by_stem[name], scale) for hr_file, name in zip(hr_files, names, strict=True)]


def _match_beside(beside: dict[Path, list[Path]], scale: int) -> list[Pair]:
    for hr_file, found in beside.items():
        if len(found) != 1:
            what = "no low-resolution file" if not found else f"{found[0].name} and {found[1].name}"
            raise ValueError(f"{hr_file}: {what} beside it for x{scale}, one is wanted{_OTHERWISE}")
    return [_pair(hr_file, found[0], scale) for hr_file, found in beside.items()]


def _pair(hr_file: Path, lr_file: Path, scale: int) -> Pair:
    (H, W), (h, w) = _size(hr_file), _size(lr_file)
    if (h, w) != (H // scale, W // scale):
        raise ValueError(
            f"{lr_file}: {w}x{h} pixels, but {hr_file.name} has {W}x{H}, which makes {W // scale}x{H // scale} "
            f"at x{scale}{_OTHERWISE}"
        )
    return Pair(hr_file, lr_file, "files", (h, w), (h * scale, w * scale))


def _hr_folder(data: Path, scale: float) -> Path:
    """Where the high-resolution images are: in HR, in SelfExSR's folder of the scale (or its smallest one, which was
    cropped least), or in ``data`` itself."""
    if (data / "HR").is_dir():
        return data / "HR"
    named = {folder: re.fullmatch(r"image_SRF_(\d{1,3})", folder.name) for folder in data.iterdir()}
    by_scale: dict[float, Path] = {
        int(match[1]): folder for folder, match in named.items() if match and folder.is_dir()
    }
    if not by_scale or _images_in(data):
        return data
    return by_scale.get(scale, by_scale[min(by_scale)])


def _fits(hr_file: Path, lr_file: Path, scale: float) -> bool:
    return scale > 0 and _size(lr_file) == tuple(n // scale for n in _size(hr_file))


def _of_scale(hr_file: Path, lr_file: Path, scale: float) -> bool:
    """Whether a low-resolution file is of this scale: its name tells, or its size."""
    named = pair_names.scale_in(lr_file.stem)
    return isinstance(scale, int) and (named == scale if named is not None else _fits(hr_file, lr_file, scale))


def _reduced_sizes(file: Path, scale: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """(h, w) of the reduced image and (H, W) that it is reduced from."""
    size = _size(file)
    h, w = (math.floor(n / scale + 1e-9) for n in size)
    if min(h, w) < 1:
        raise ValueError(f"{file}: {size[1]}x{size[0]} pixels are too few to reduce by {scale:g}")
    return (h, w), (round(h * scale), round(w * scale))


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with opened(file) as image:
            yield image
    except Exception as error:  # Pillow's decoders raise many kinds on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: cannot read this image ({reason})") from error


def _size(file: Path) -> tuple[int, int]:
    with _opened(file) as image:
        width, height = image.size
    return height, width


def _read(file: Path) -> np.ndarray:
    """uint8 [H, W, 3]."""
    with _opened(file) as image:
        if image.mode in _MORE_THAN_8_BITS:  # convert() would clip them, and the figures would mean nothing
            raise ValueError(f"mode {image.mode}: the protocols are for 8 bits a channel; convert it first")
        return np.asarray(image.convert("RGB"))
