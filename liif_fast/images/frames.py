"""Files of several pictures: animations frame by frame, each as a viewer shows it, and TIFF files page by page."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ..sizes import MAX_PIXELS
from . import apng
from .decoding import decoding, errors, opened
from .files import read, tags
from .modes import split
from .outputs import ANIMATED
from .photo import ImageError, Photo, upright
from .png import has_too_much_text, without_text
from .tiff import SEVERAL, picture_pages


@dataclass(frozen=True)
class Frames:
    """The pictures of a file, read one after the other whenever this is iterated over; ``frames_of`` makes it.

    Attributes:
        path: the file.
        first: its first picture, with what the file says of all.
        indices: the pages of a TIFF, or the frames of an animation, counted from 0.
        plays: how often an animation is shown; 0: for ever. None: pages.
        max_pixels: as for ``read``.
    """

    path: str
    first: Photo
    indices: range | list[int]
    plays: int | None
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Photo]:
        """Each picture; ImageError as ``read``. A frame has the first one's metadata and its own ``milliseconds``."""
        return self._pages() if self.plays is None else self._frames()

    def _pages(self) -> Iterator[Photo]:
        for page in self.indices:
            yield read(self.path, max_pixels=self.max_pixels, page=page)

    def _frames(self) -> Iterator[Photo]:
        height, width = self.first.pixels.shape[:2]
        with _image(self.path, self.max_pixels) as image:
            with decoding(self.max_pixels):
                orientation = tags(image, [])[0]
            if image.format == "PNG":
                yield from self._of_apng(orientation)
                return
            for index in self.indices:
                notes: list[str] = []
                with decoding(self.max_pixels) as seen:
                    if image.format == "GIF":  # a frame that says nothing stays; Pillow takes the last one's word
                        image.disposal_method = 0  # type: ignore[attr-defined]
                    image.seek(index)
                    pixels, alpha = split(image, notes)
                    shown = float(image.info.get("duration") or 0.0)
                # a GIF's frame may reach beyond the screen, where viewers cut it off
                pixels = upright(pixels, orientation)[:height, :width]
                alpha = None if alpha is None else upright(alpha, orientation)[:height, :width]
                notes = list(dict.fromkeys([*self.first.notes, *notes, *seen()]))
                yield replace(self.first, pixels=pixels, alpha=alpha, notes=notes, milliseconds=shown)

    def _of_apng(self, orientation: int) -> Iterator[Photo]:
        """Grey where the first is grey, with alpha where that has one or any may be empty somewhere."""
        grey = self.first.pixels.shape[2] == 1
        with opened(self.path) as stream:
            notes: list[str] = []
            opaque = self.first.alpha is None and not apng.leaves_holes(stream)
            made = apng.frames(stream, notes)
            for _ in self.indices:
                with decoding(self.max_pixels) as seen:
                    image, shown = next(made)
                    if opaque:
                        image = image.convert("RGB")
                    pixels, alpha = split(image, [])
                pixels = upright(pixels[..., :1] if grey else pixels, orientation)
                alpha = None if alpha is None else upright(alpha, orientation)
                said = list(dict.fromkeys([*self.first.notes, *notes, *seen()]))
                yield replace(self.first, pixels=pixels, alpha=alpha, notes=said, milliseconds=shown)


def frames_of(photo: Photo, path: str | os.PathLike[str], format: str, max_pixels: int = MAX_PIXELS) -> Frames | None:
    """All pictures of a file, if there are several and an output holds them; None: ``photo`` is all that is written.

    Args:
        photo: what ``read`` gave for the file; its note that only this one is read goes, or says what would hold all.
        path: the file.
        format: Pillow's name of the output's format.

    Raises:
        ImageError: as ``read``.
    """
    said = [note for note in photo.notes if note.startswith(SEVERAL)]
    if not said or (photo.format != "TIFF" and photo.format not in ANIMATED):
        return None
    name = os.fspath(path)
    with errors(name, max_pixels), opened(name) as stream:
        pages, all_there = picture_pages(stream)
        found = Frames(name, photo, pages, None, max_pixels)
        if photo.format != "TIFF":
            with _image(name, max_pixels) as image, decoding(max_pixels):
                found = replace(found, indices=_shown(image), plays=_plays(image))
    if len(found) < 2:
        return None
    holds = ANIMATED if found.plays is not None else ("TIFF",)
    photo.notes.remove(said[0])
    if format in holds and not all_there:
        raise ImageError(f"{name}: the list of its pages is cut off after {len(found)}; get a complete copy")
    if format in holds:
        if found.plays is not None and found.indices[0]:
            photo.notes.append("the still picture that stands for the animation (APNG) is dropped")
        return found
    what = "pages" if found.plays is None else "frames"
    cure = "tif keeps" if found.plays is None else "gif, webp, png (as APNG) and avif keep"
    photo.notes.append(f"the file holds {len(found)} {what}, {format} one: the first is written; {cure} all")
    return None


def is_animated(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an image of several frames; False for what cannot be read."""
    try:
        with opened(os.fspath(path)) as stream, Image.open(stream) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # whoever reads it says why
        return False


@contextlib.contextmanager
def _image(name: str, max_pixels: int) -> Iterator[Image.Image]:
    """An animation, opened; between frames others may decode."""
    with errors(name, max_pixels), opened(name) as stream:
        with decoding(max_pixels):
            image = Image.open(without_text(stream) if has_too_much_text(stream) else stream)
        with image:
            yield image


def _shown(image: Any) -> range:
    """The frames of an animation, without a still picture that stands for it (APNG)."""
    return range(1 if image.info.get("default_image") else 0, image.n_frames)


def _plays(image: Image.Image) -> int:
    """How often an animation is shown, 0: for ever. GIF counts the repetitions, and shows once without a count."""
    loop = image.info.get("loop")
    if image.format == "GIF":
        return 1 if loop is None else loop and loop + 1
    return loop or 0
