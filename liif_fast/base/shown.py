"""Values of any size and depth in the few characters that a message has room for."""

from __future__ import annotations

import reprlib
from typing import Any

_NUMBER_BITS = 4096  # Python refuses to write integers of more than 4300 digits


class _Short(reprlib.Repr):
    """``repr`` that looks at the beginning of a value only: a nest of shared lists, which written out has 10^9 parts,
    costs no more than a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = 4
        self.maxarray = self.maxstring = self.maxlong = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() <= _NUMBER_BITS else f"a number of {x.bit_length()} bits"

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if not x or level <= 0:
            return "{...}" if x else "{}"
        items = (next_ for next_, _ in zip(x.items(), range(self.maxdict), strict=False))
        parts = [f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in items]
        return "{" + ", ".join(parts + ["..."] * (len(x) > self.maxdict)) + "}"

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x) if len(x) <= self.maxother else f"{x[: self.maxother]!r}..."

    repr_bytearray = repr_bytes


_SHORT = _Short()


def shown(value: Any, most: int = 120) -> str:
    """``repr(value)`` on one line, in at most so many characters, without building more than about as many."""
    return _cut(_SHORT.repr(value), most)


def named(value: Any, most: int = 120) -> str:
    """As ``shown``; text stands as it is, without quotes: for keys and names."""
    return _cut(value[: 4 * most] if isinstance(value, str) else _SHORT.repr(value), most)


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
