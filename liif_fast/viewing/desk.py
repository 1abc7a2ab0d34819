"""Where photos are looked at: what of which photo is wanted, drawn and kept. For one thread; ``state`` and what is
``at_once`` for any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..base.room import Room
from ..head import sampling
from ..models.liif import LIIF
from ..sizes import MAX_PIXELS
from . import interpolation, saving
from .layers import Enlarged, Interpolated, Layer, Place
from .pictures import Picture, check_truth
from .view import LARGEST_SCALE, LARGEST_TILE, View, ViewError, extent, least_scale

BLOCK = 256  # pixels of a truth, side: what is compared at a time
ENTRY = 1 << 10  # bytes that a tile takes beside its pixels: of one pixel there may be many
MEMORY, TILES = 1 << 30, 256 << 20  # bytes kept: of features, and of what has been drawn


class Shown(NamedTuple):
    """A model to show photos by.

    Attributes:
        name: on the page. note: what it is computed in, say.
        arguments: of the command ``liif-fast upscale`` that enlarges a photo alike.
    """

    name: str
    model: LIIF
    dtype: torch.dtype
    note: str = ""
    arguments: Sequence[str] = ()


class _Open(NamedTuple):
    """The photo that is being looked at."""

    number: int
    files: tuple[Any, ...]  # which they were when they were read: others may stand there later
    picture: Picture
    truth: Picture | None
    layers: dict[int, Layer]  # of models, as far as they have been looked at


class Desk:
    """Photos, and what draws them.

    Args:
        photos: files. truths: a larger picture of each, in their order; or none.
        models: those that are compared, beside interpolation.
        memory: bytes of features that are kept, of one photo. tiles: bytes of drawn pixels.

    Raises:
        images.ImageError: the first photo, or its truth, cannot be read. ValueError: another number of truths.
    """

    def __init__(
        self,
        photos: Sequence[Path],
        models: Sequence[Shown],
        truths: Sequence[Path] = (),
        *,
        memory: int = MEMORY,
        tiles: int = TILES,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if len(truths) not in (0, len(photos)):
            raise ValueError(f"truths: none or one for each of {len(photos)} photos is wanted, got {len(truths)}")
        self.photos, self.models, self.truths = list(photos), list(models), list(truths)
        self.max_pixels = max_pixels
        self._features, self._drawn = Room(memory), Room(tiles)
        self._kinds = ["bicubic", "nearest", *("model" for _ in models), *(["truth"] if truths else [])]
        self._open = self._opened(0)

    # --- what there is ---

    def state(self) -> dict[str, Any]:
        """The lists by whose places a ``View`` names photos and methods, and the limits."""
        first = {"bicubic": "bicubic", "nearest": "nearest", "truth": "truth"}
        methods = []
        for method, kind in enumerate(self._kinds):
            shown = self.models[method - 2] if kind == "model" else None
            name, note = (first[kind], "") if shown is None else (shown.name, shown.note)
            methods.append({"name": name, "kind": kind, "note": note})
        photos = [{"name": file.name} for file in self.photos]
        return {"photos": photos, "methods": methods, "tile": LARGEST_TILE, "scale": LARGEST_SCALE}

    def photo(self, photo: int) -> dict[str, Any]:
        """Its size in pixels, upright, that of its truth if the two can be compared, and what is to be said of it."""
        return _facts(self._at(photo))

    # --- what any thread may ask for, while another one draws ---

    def photo_at_once(self, photo: int) -> dict[str, Any] | None:
        """``photo`` of the one that is being looked at; None: it is another."""
        found = self._open
        return _facts(found) if found.number == photo else None

    def tile_at_once(self, view: View) -> bytes | None:
        """``tile`` without a model, of the photo that is being looked at; None: it is another, or by a model."""
        found = self._open
        if found.number != view.photo or not 0 <= view.method < len(self._kinds) or self._shown(view.method):
            return None
        self._check_place(view, found.picture)
        return self._interpolated(view.method, found).draw(_place(view, found.picture)).tobytes()

    # --- what is drawn ---

    def begin(self) -> None:
        """What can be done before anybody asks: the first model's features of the first photo."""
        if self.models:
            self._layer(2).prepare()

    def tile(self, view: View) -> bytes:
        """RGBA of 8 bits, row by row, colours not premultiplied.

        Raises:
            ViewError: there is no such view. images.ImageError: its photo cannot be read.
        """
        self.check(view)
        name = (view, self._open.files)
        found = self._drawn.get(name)
        if found is None:
            found = self._layer(view.method).draw(_place(view, self._open.picture)).tobytes()
            self._drawn.put(name, found, len(found) + ENTRY)
        return found

    def psnr(self, view: View, pause: Callable[[], None]) -> float:
        """In dB over RGB of 8 bits, of the part of the truth whose pixels have their centres in the view; at the
        truth's own resolution, whatever the view's. ``inf``: the same.

        Raises:
            ViewError: there is no such view, or no truth of it. Whatever ``pause`` raises.
        """
        self.check(view)
        files, truth, picture = self._open.files, self._open.truth, self._open.picture
        if truth is None:
            raise ViewError("photo: no ground truth of it is given")
        if not _opaque(self._open):
            raise ViewError("photo: transparent pictures are not compared")
        spans = [
            (max(0, math.ceil(start * n / m - 0.5)), min(n, math.floor((start + length) * n / m - 0.5) + 1))
            for start, length, n, m in zip(view.window()[:2], view.window()[2:], truth.size, picture.size, strict=True)
        ]
        (top, bottom), (left, right) = spans
        if top >= bottom or left >= right:
            raise ViewError("view: the centre of no pixel of the truth is in it")
        total = 0.0
        for y in range(top // BLOCK * BLOCK, bottom, BLOCK):
            for x in range(left // BLOCK * BLOCK, right, BLOCK):
                pause()
                if self._at(view.photo).files != files:  # what ran meanwhile may have opened another
                    raise ViewError("photo: its file, or the truth's, is another than before; ask again")
                difference = self._differences(view.method, y, x)
                part = difference[max(0, top - y) : bottom - y, max(0, left - x) : right - x]
                total += float(np.square(part, dtype=np.float64).sum())
        mean = total / (3 * (bottom - top) * (right - left))
        return 10 * math.log10(255**2 / mean) if mean else math.inf

    def _differences(self, method: int, y: int, x: int) -> np.ndarray:
        """Of a block of the truth's pixels from what a method makes of the photo there: ``[rows, columns, 3]``."""
        name = ("differences", self._open.files, method, y, x)
        found = self._drawn.get(name)
        if found is None:
            truth = self._open.truth
            assert truth is not None
            height, width = truth.size
            size = min(BLOCK, height - y), min(BLOCK, width - x)
            drawn = self._layer(method).draw(Place((height, width), (y, x), size))[..., :3]
            found = drawn.astype(np.int16) - np.asarray(truth.eight.crop((x, y, x + size[1], y + size[0])))
            self._drawn.put(name, found, found.nbytes)
        return found

    # --- what is taken along ---

    def save(self, view: View, size: tuple[int, int], pause: Callable[[], None]) -> bytes:
        """A PNG of the view at ``size`` (rows, columns): of a model the file that ``command`` makes.

        Raises:
            ViewError: there is no such view. Whatever ``pause``, which is called between pieces, and ``upscale`` raise.
        """
        self.check(view)
        picture, shown = self._open.picture, self._shown(view.method)
        if shown is not None:
            return saving.enlarged(picture.photo, shown.model, shown.dtype, view.window(), size, pause)
        return saving.interpolated(self._interpolated(view.method, self._open), picture, view.window(), size)

    def command(self, view: View, size: tuple[int, int]) -> str:
        """The command line that makes the file of ``save``.

        Raises:
            ViewError: there is no such view, or its method is no model.
        """
        self.check(view)
        shown = self._shown(view.method)
        if shown is None:
            raise ViewError("method: of a model there is a command, of no other")
        if self._open.picture.animated:
            raise ViewError("photo: of an animation a command writes all frames, not this one; save the view")
        return saving.command(self.photos[view.photo], view.window(), size, shown.arguments)

    # --- inside ---

    def check(self, view: View, size: tuple[int, int] | None = None) -> None:
        """ViewError unless there is such a view. size: of a file of it, which may be any."""
        if not 0 <= view.method < len(self._kinds):
            raise ViewError(f"method: 0 to {len(self._kinds) - 1} is wanted, got {view.method}")
        self._check_place(view, self._at(view.photo).picture)

    def _check_place(self, view: View, picture: Picture) -> None:
        least = least_scale(picture.size)
        if not least * (1 - 1e-9) <= view.scale <= LARGEST_SCALE:
            raise ViewError(f"scale: {least:g} to {LARGEST_SCALE:g} is wanted, got {view.scale:g}")
        height, width = (extent(n, view.scale) for n in picture.size)
        if min(view.width, view.height) < 1 or min(view.x, view.y) < 0:
            raise ViewError("view: x and y from 0, width and height from 1 are wanted")
        if view.x + view.width > width or view.y + view.height > height:
            raise ViewError(f"view: at this scale the photo has {width}x{height} pixels, and these are beyond")

    def _at(self, photo: int) -> _Open:
        """The photo of that number, read if it is another than the last one: of that nothing is kept but tiles."""
        if not 0 <= photo < len(self.photos):
            raise ViewError(f"photo: 0 to {len(self.photos) - 1} is wanted, got {photo}")
        if photo != self._open.number:
            self._open = self._opened(photo)
            self._features.drop(lambda _: True)
        return self._open

    def _opened(self, photo: int) -> _Open:
        files = tuple(_which(each[photo]) for each in (self.photos, self.truths) if each)
        picture = Picture.read(self.photos[photo], self.max_pixels)
        truth = None
        if self.truths:
            truth = Picture.read(self.truths[photo], self.max_pixels)
            check_truth(picture.size, truth.size, str(self.truths[photo]))
        return _Open(photo, files, picture, truth, {})

    def _shown(self, method: int) -> Shown | None:
        return self.models[method - 2] if self._kinds[method] == "model" else None

    def _layer(self, method: int) -> Layer:
        found, shown = self._open, self._shown(method)
        if shown is None:
            return self._interpolated(method, found)
        if method not in found.layers:
            found.layers[method] = Enlarged(found.picture, shown.model, shown.dtype, self._features)
        return found.layers[method]

    def _interpolated(self, method: int, found: _Open) -> Interpolated:
        kind = self._kinds[method]
        if kind != "truth":
            return Interpolated(found.picture, getattr(interpolation, kind))
        assert found.truth is not None
        return Interpolated(found.truth, interpolation.bicubic)


def _which(file: Path) -> tuple[str, int, int, int]:
    """Another for a file that has been replaced or written anew."""
    try:
        found = file.stat()
    except OSError:  # whoever reads it says why
        return str(file), 0, 0, 0
    return str(file), found.st_ino, found.st_size, found.st_mtime_ns


def _place(view: View, picture: Picture) -> Place:
    height, width = (sampling.snapped(n * view.scale) for n in picture.size)  # as those of a window are
    return Place((height, width), (view.y, view.x), (view.height, view.width))


def _opaque(found: _Open) -> bool:
    return all(picture is None or picture.photo.alpha is None for picture in (found.picture, found.truth))


def _facts(found: _Open) -> dict[str, Any]:
    truth = None if found.truth is None or not _opaque(found) else _sides(found.truth)
    return {**_sides(found.picture), "notes": found.picture.notes, "truth": truth}


def _sides(picture: Picture) -> dict[str, int]:
    return {"height": picture.size[0], "width": picture.size[1]}
