"""TIFF files of several images: which of them is the picture, and which are thumbnails, masks or raw sensor data.

TIFF 6.0, section 8 (NewSubfileType, SubfileType); Adobe's TIFF Technical Note 1, "TIFF Trees" (SubIFDs); the DNG
specification (the first directory may hold a thumbnail, the raw image is the one with NewSubfileType 0).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from .photo import ImageError
from .recognised import DEVELOP

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC = 254, 255, 256, 257, 262
_SUB_IFDS, _DNG_VERSION = 330, 50706
SEVERAL = "the file holds several frames or pages"  # begins the note that some of them are not read
_RAW = {32803, 34892}  # PhotometricInterpretation: colour filter array, LinearRaw
_KINDS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # whole numbers and offsets, by type of field
# Work is bounded whatever the file says: directories may overlap, so that few bytes hold millions of entries.
_MOST_ENTRIES, _MOST_SUB_IFDS = 1 << 17, 64
_ENTRY = 8  # bytes of a file: fewer than an entry of a sound one takes, its share of the directory counted


@dataclass(frozen=True)
class _Page:
    """One directory: `index` in the main list, or that of the page it hangs below if `sub`."""

    index: int
    sub: bool
    width: int
    height: int
    lesser: bool  # a reduced-resolution version of another image, or a mask
    mask: bool
    photometric: int
    dng: bool

    @property
    def area(self) -> int:
        return 0 if self.mask else self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def full_page(stream: IO[bytes], name: str, notes: list[str]) -> int:
    """Index of the page to read, 0 for all that is no TIFF; the stream's position is kept.

    A file whose first image is a thumbnail or mask gives the largest page that is neither, and a note; one whose first
    page is merely smaller than another gives the first, and a note.

    Raises:
        ImageError: a camera's raw file; the full resolution lies where Pillow does not read it (SubIFDs).
    """
    position = stream.tell()
    stream.seek(0)
    head = stream.read(16)
    pages: list[_Page] = []
    with contextlib.suppress(struct.error):  # cut short: whoever decodes it says so
        pages += _pages(stream, head)  # one by one, so that those before the damage count
    stream.seek(position)
    main = [page for page in pages if not page.sub]
    if not main:
        return 0
    first, largest = main[0], max(pages, key=lambda page: page.area)
    usable = [page for page in main if not page.lesser and page.photometric not in _RAW]
    best = max(usable, key=lambda page: page.area, default=None)
    dng = any(page.dng for page in pages)
    cr2 = head[4:11] == b"\x10\0\0\0CR\2"  # the directory follows at 16, so that this is no pixel
    if cr2 or ((dng or any(page.photometric in _RAW for page in pages)) and (best is None or best.area < largest.area)):
        kind = "CR2" if cr2 else "DNG" if dng else "as NEF or ARW are"
        raise ImageError(f"{name}: is a camera's raw file ({kind}), of which Pillow reads a preview at best; {DEVELOP}")
    chosen = first
    if first.lesser:
        chosen = best or max(main, key=lambda page: page.area)
        if chosen.lesser:
            notes.append(f"the file says that it holds only a reduced version of an image or a mask: {chosen} is read")
        else:
            notes.append(f"the file begins with a thumbnail of {first}: page {chosen.index + 1} of {chosen} is read")
            if len(usable) > 1:
                notes.append(f"{SEVERAL}: only this one is read")
    elif best and best.area > first.area:
        said = f"only the first, of {first}, is read, though page {best.index + 1} has {best}"
        notes.append(f"{SEVERAL}: {said}")
    below = [page for page in pages if page.sub and (page.index == chosen.index or first.lesser)]
    larger = max(below, key=lambda page: page.area, default=chosen)
    if larger.area > chosen.area:
        raise ImageError(
            f"{name}: its image of {larger} is in a sub-directory (SubIFDs) that Pillow does not read, only one of "
            f"{chosen} is outside; convert the file to a plain TIFF or PNG with the program that wrote it"
        )
    return chosen.index


def picture_pages(stream: IO[bytes]) -> tuple[list[int], bool]:
    """Indices of the pages that are pictures, not thumbnails, masks or raw data; none of what is no TIFF.

    Also whether the list of pages is whole, not cut off.
    """
    stream.seek(0)
    head = stream.read(16)
    found: list[int] = []
    try:
        for page in _pages(stream, head):
            if not (page.sub or page.lesser or page.photometric in _RAW):
                found.append(page.index)
    except struct.error:
        return found, False
    return found, True


def is_cut(stream: IO[bytes]) -> bool:
    """Whether a page that a TIFF names is not there: those before it look whole. The stream's position is kept."""
    position = stream.tell()
    try:
        return not picture_pages(stream)[1]
    finally:
        stream.seek(position)


def _pages(stream: IO[bytes], head: bytes) -> Iterator[_Page]:
    """All directories of the main list and those hanging below them, each once; struct.error where the list is cut."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if (
        order is None or len(head) < 16 or head[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+")
    ):  # Pillow takes either order
        return
    big = b"+" in head[2:4]
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    seen: set[int] = set()
    index, budget = 0, max(_MOST_ENTRIES, stream.seek(0, 2) // _ENTRY)  # a sound file may have very many pages
    while at and at not in seen and budget > 0:
        seen.add(at)
        tags, after, used = _directory(stream, order, big, at)
        budget -= used
        yield _page(tags, index, sub=False)
        waiting = list(tags.get(_SUB_IFDS, ()))
        while waiting and budget > 0:
            below = waiting.pop()
            if below in seen:
                continue
            seen.add(below)
            try:
                tags, _, used = _directory(stream, order, big, below)
            except struct.error:  # a pointer to nowhere
                continue
            budget -= used
            yield _page(tags, index, sub=True)
            waiting += tags.get(_SUB_IFDS, ())
        at, index = after, index + 1
    if budget <= 0:
        raise struct.error("too many entries")


def _page(tags: dict[int, tuple[int, ...]], index: int, sub: bool) -> _Page:
    def value(tag: int) -> int:
        return tags.get(tag, (0,))[0]

    kind = value(_NEW_SUBFILE_TYPE)
    mask = bool(kind & 4)
    lesser = mask or bool(kind & 1) or value(_SUBFILE_TYPE) == 2
    width, height = value(_WIDTH), value(_HEIGHT)
    return _Page(index, sub, width, height, lesser, mask, value(_PHOTOMETRIC), _DNG_VERSION in tags)


def _directory(stream: IO[bytes], order: str, big: bool, at: int) -> tuple[dict[int, tuple[int, ...]], int, int]:
    """The tags above with their values, the next directory's offset, the entries looked at; struct.error if cut."""
    if at >= 2**63:
        raise struct.error("offset out of range")
    stream.seek(at)
    head, entry, pointer = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    (count,) = struct.unpack(order + head, stream.read(struct.calcsize("=" + head)))
    size = struct.calcsize("=" + entry)
    if count > _MOST_ENTRIES:
        raise struct.error("too many entries")
    data = stream.read(size * count)
    (after,) = struct.unpack(order + pointer, stream.read(struct.calcsize("=" + pointer)))
    tags: dict[int, tuple[int, ...]] = {}
    wanted = (_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION)
    for tag, kind, number, raw in struct.iter_unpack(order + entry, data):
        if tag not in wanted or tag in tags or kind not in _KINDS or not number:
            continue
        code = _KINDS[kind]
        number = min(number, _MOST_SUB_IFDS if tag == _SUB_IFDS else 4 if tag == _DNG_VERSION else 1)
        length = number * struct.calcsize("=" + code)
        if length > len(raw):
            stream.seek(min(struct.unpack(order + pointer, raw)[0], 2**63 - 1))
            raw = stream.read(length)
        if len(raw) >= length:
            tags[tag] = struct.unpack_from(f"{order}{number}{code}", raw)
    return tags, after, count + 1
