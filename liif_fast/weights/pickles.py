"""Pickles read as data. Every opcode is interpreted here: nothing is imported, nothing that a pickle names is called.

What a checkpoint needs is known by name (``pickle_names``); any other name is refused. Sizes that stand in a pickle
allocate nothing: a tensor is a view of bytes that are in the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from .pickle_names import Inert, Storage, call, hashable, known

OPCODES = 1 << 21  # at most: each may make an object of 200 bytes. A thousand tensors take 50,000


def load(file: Any, storage: Callable[[Any], Storage]) -> Any:
    """One pickle from where ``file`` stands; it stands behind it afterwards.

    Args:
        file: has ``read`` and ``readline``, which give what is there when more is asked for.
        storage: gives the storage of a persistent id.

    Raises:
        NeedsCodeError: it names what is not data. ValueError, and others: damaged.
    """
    return _Machine(storage).run(file)


_LITERAL = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The pickle machine: a stack, marks in it, a memo."""

    def __init__(self, storage: Callable[[Any], Storage]) -> None:
        self.storage = storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[Any, Any] = {}

    def run(self, file: Any) -> Any:
        stack = self.stack
        for count, (opcode, arg, _) in enumerate(pickletools.genops(file)):
            if count >= OPCODES:
                raise ValueError(f"a pickle of more than {OPCODES} steps")
            name = opcode.name
            if name in _LITERAL:
                stack.append(arg)
            elif name in _MADE:
                stack.append(_MADE[name]())
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(self.memo[arg])
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                self.memo[arg] = stack[-1]
            elif name == "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            elif name == "MARK":
                self.marks.append(len(stack))
            elif name in _TUPLES:
                stack.append(tuple(self._take(_TUPLES[name])))
            elif name not in ("PROTO", "FRAME", "STOP"):
                getattr(self, f"_{name.lower()}", self._unknown(name))(*([] if arg is None else [arg]))
        if len(stack) != 1:
            raise ValueError("a pickle that leaves nothing or too much")
        return stack.pop()

    def _unknown(self, name: str) -> Callable[..., Any]:
        def refuse(*args: Any) -> None:
            raise ValueError(f"the opcode {name}, which no checkpoint has")

        return refuse

    def _take(self, n: int) -> list[Any]:
        if not 0 <= n <= len(self.stack):
            raise ValueError("a pickle that takes more than it has")
        items = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return items

    def _marked(self) -> list[Any]:
        return self._take(len(self.stack) - self.marks.pop())

    # --- one method for each opcode that is not a literal ---

    def _global(self, names: str) -> None:
        self.stack.append(known(names.replace(" ", ".", 1)))

    def _stack_global(self) -> None:
        module, name = self._take(2)
        self.stack.append(known(f"{module}.{name}"))

    def _reduce(self) -> None:
        function, args = self._take(2)
        self.stack.append(call(function, args))

    _newobj = _reduce  # an object made from its class is what a call of the class gives, for all that are known

    def _newobj_ex(self) -> None:
        function, args, _ = self._take(3)
        self.stack.append(call(function, args))

    def _build(self) -> None:
        self._take(1)
        if not isinstance(self.stack[-1], Inert | dict):  # what a state dict carries beside its items
            raise ValueError(f"a state for a {type(self.stack[-1]).__name__}")

    def _binpersid(self) -> None:
        self.stack.append(self.storage(self._take(1)[0]))

    def _tuple(self) -> None:
        self.stack.append(tuple(self._marked()))

    def _list(self) -> None:
        self.stack.append(self._marked())

    def _dict(self) -> None:
        items = self._marked()
        self.stack.append({})
        self._put(items)

    def _append(self) -> None:
        self._extend(self._take(1))

    def _appends(self) -> None:
        self._extend(self._marked())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Inert):
            raise ValueError(f"items for a {type(self.stack[-1]).__name__}")

    def _setitem(self) -> None:
        self._put(self._take(2))

    def _setitems(self) -> None:
        self._put(self._marked())

    def _put(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], Inert):
            return
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise ValueError(f"keys for a {type(self.stack[-1]).__name__}")
        self.stack[-1].update((hashable(name), value) for name, value in zip(items[::2], items[1::2], strict=True))

    def _additems(self) -> None:
        items = self._marked()
        if not isinstance(self.stack[-1], set):
            raise ValueError(f"items for a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(hashable, items))

    def _frozenset(self) -> None:
        self.stack.append(frozenset(map(hashable, self._marked())))
