"""Things that are kept as long as there is room for them, counted in bytes; those not used for longest go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class Room:
    """Not for several threads at a time.

    Attributes:
        size: bytes that are kept at most. held: those that are kept now.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self._things: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, name: Hashable) -> Any:
        """What is kept under this name, as the one that was used last; None: nothing is."""
        if name not in self._things:
            return None
        self._things.move_to_end(name)
        return self._things[name][0]

    def put(self, name: Hashable, thing: Any, size: int) -> None:
        """Keep ``thing``, of ``size`` bytes; what is larger than all the room is not kept."""
        if name in self._things:
            self.held -= self._things.pop(name)[1]
        if size > self.size:
            return
        while self.held + size > self.size:
            _, (_, freed) = self._things.popitem(last=False)
            self.held -= freed
        self._things[name] = thing, size
        self.held += size

    def drop(self, which: Callable[[Any], bool]) -> None:
        """Forget those whose names are such."""
        for name in [name for name in self._things if which(name)]:
            self.held -= self._things.pop(name)[1]
