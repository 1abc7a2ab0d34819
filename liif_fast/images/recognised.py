"""Files that Pillow alone does not read, told by how they begin: HEIF, which a plugin reads, and cameras' raw files.

ISO/IEC 23008-12, 10 (brands of HEIF); the raw files' first bytes as LibRaw and ExifTool know them.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
from typing import IO

from .photo import ImageError

HEIF_SUFFIXES = {".heic", ".heics", ".heif", ".heifs", ".hif"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_RAW = {
    b"FUJIFILMCCD-RAW": "RAF",
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"IIU\0": "RW2",
    b"\0MRM": "MRW",
    b"FOVb": "X3F",
}
DEVELOP = (
    "develop it with a raw converter and save it as TIFF or PNG first: darktable-cli photo.raw photo.tif, "
    "rawtherapee-cli -t -c photo.raw, or LibRaw's dcraw_emu -T photo.raw"
)
NEEDS_HEIF = "HEIF needs pillow-heif: pip install pillow-heif"


# by suffix: files that people give and that other programs make pictures of
_PICTURES_BY = {
    (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".wmv"): "enlarge a video: liif-fast video {} -o OUT.mp4",
    (".pdf",): "make pictures of its pages: pdftoppm -r 150 -png {} page",
    (".svg", ".svgz"): "draw it at the wanted size: rsvg-convert -w WIDTH -o drawn.png {}",
}


def converting(name: str) -> str:
    """What to do with a file of no known format."""
    suffix = os.path.splitext(name)[1].lower()
    found = next((how for suffixes, how in _PICTURES_BY.items() if suffix in suffixes), "convert it to PNG")
    return found.format(shlex.quote(os.path.basename(name)))


def has_heif() -> bool:
    """Whether the plugin for HEIF is installed; it is not imported."""
    return importlib.util.find_spec("pillow_heif") is not None


@functools.cache
def add_heif() -> None:
    """Teach Pillow HEIF; ImportError without the plugin."""
    import pillow_heif

    pillow_heif.register_heif_opener()


def check(stream: IO[bytes], name: str) -> None:
    """Make ready for what a file holds; the stream's position is kept.

    Raises:
        ImageError: HEIF without its plugin; a camera's raw file.
    """
    position = stream.tell()
    head = stream.read(64)
    stream.seek(position)
    raw = next((kind for begin, kind in _RAW.items() if head.startswith(begin)), "")
    if head[4:8] == b"ftyp":
        size = int.from_bytes(head[:4], "big")
        brands = {head[at : at + 4] for at in (8, *range(16, min(size, 64), 4))}
        if b"crx " in brands:
            raw = "CR3"
        elif head[8:12] in _HEIF and not brands & {b"avif", b"avis"}:
            if not has_heif():
                raise ImageError(f"{name}: {NEEDS_HEIF}, or convert the file to JPEG or PNG")
            add_heif()
    if raw:
        raise ImageError(f"{name}: is a camera's raw file ({raw}), which is not read; {DEVELOP}")
