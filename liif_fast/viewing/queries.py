"""What requests ask for, read strictly: each parameter once, none that is unknown, plain numbers only."""

from __future__ import annotations

import re

from ..base.shown import named
from .view import LARGEST_SCALE, LARGEST_TILE, View, ViewError

LONGEST = 1024  # characters of a query
LARGEST_SAVE = 1 << 26  # pixels of a file
LARGEST_SIDE = 1 << 16  # of it: Pillow has 48 bytes for each column and row
VIEW = ("photo", "method", "scale", "x", "y", "width", "height")
SIZE = ("columns", "rows")
_WHOLE = re.compile(r"[0-9]{1,12}")
_REAL = re.compile(r"[0-9]+(\.[0-9]+)?(e[+-]?[0-9]{1,3})?")  # as JavaScript's String() writes numbers


def photo(query: bytes) -> int:
    """Of ``/photo``; ViewError, as all here, where something is wrong with the query."""
    return _whole(_parameters(query, ("photo",)), "photo")


def tile(query: bytes) -> View:
    """Of ``/tile``."""
    return _view(_parameters(query, VIEW), LARGEST_TILE)


def view(query: bytes) -> View:
    """Of a visible part, whose size the photo's extent bounds: ``/psnr``."""
    return _view(_parameters(query, VIEW))


def file(query: bytes) -> tuple[View, tuple[int, int]]:
    """Of ``/save`` and ``/command``: a visible part, and the (rows, columns) of the file."""
    given = _parameters(query, VIEW + SIZE)
    part, columns, rows = _view(given), _whole(given, "columns", 1), _whole(given, "rows", 1)
    if max(rows, columns) > LARGEST_SIDE:
        raise ViewError(f"columns={columns}, rows={rows}: at most {LARGEST_SIDE} are wanted")
    if rows * columns > LARGEST_SAVE:
        raise ViewError(f"columns={columns}, rows={rows}: at most {LARGEST_SAVE} pixels are wanted")
    return part, (rows, columns)


def nothing(query: bytes) -> None:
    """Of paths without parameters."""
    _parameters(query, ())


def _view(given: dict[str, str], largest: int | None = None) -> View:
    place = {name: _whole(given, name) for name in ("photo", "method", "x", "y")}
    size = {name: _whole(given, name, 1, largest) for name in ("width", "height")}
    return View(scale=_scale(given["scale"]), **place, **size)


def _parameters(query: bytes, names: tuple[str, ...]) -> dict[str, str]:
    if len(query) > LONGEST:
        raise ViewError(f"query: at most {LONGEST} characters are wanted, got {len(query)}")
    given: dict[str, str] = {}
    for part in query.decode("latin-1").split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in names:
            wanted = f"wanted: {', '.join(names)}" if names else "none is wanted"
            raise ViewError(f"{named(name, 40) or 'a part without a name'}: no such parameter; {wanted}")
        if name in given:
            raise ViewError(f"{name}: is given twice, once is wanted")
        given[name] = value
    for name in names:
        if name not in given:
            raise ViewError(f"{name}: is missing; wanted: {', '.join(names)}")
    return given


def _whole(given: dict[str, str], name: str, least: int = 0, most: int | None = None) -> int:
    text = given[name]
    number = int(text) if _WHOLE.fullmatch(text) else -1
    if number < least or (most is not None and number > most):
        wanted = f"from {least} to {most}" if most is not None else f"from {least} on, of at most 12 digits,"
        raise ViewError(f"{name}={named(text, 40)}: a whole number {wanted} is wanted")
    return number


def _scale(text: str) -> float:
    number = float(text) if len(text) <= 32 and _REAL.fullmatch(text) else 0.0
    if not 0 < number <= LARGEST_SCALE:
        raise ViewError(f"scale={named(text, 40)}: a number above 0, at most {LARGEST_SCALE:g}, is wanted, e.g. 2.5")
    return number
