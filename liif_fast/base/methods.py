"""Which methods of a class a subclass, or an instance of its own, has replaced."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from torch import nn

_SAVING = ("__init__", "__getstate__", "save", "save_pretrained", "push_to_hub")


def replaced(module: nn.Module, base: type, names: Iterable[str] | None = None) -> list[str]:
    """Those of base's methods that the module's class, or the module itself, has replaced.

    Args:
        names: which to look at; None: all that base and its own bases define, but for those that build and save.
    """
    kind, instance = type(module), vars(module)
    names = _methods(base) if names is None else names
    return [name for name in names if name in instance or getattr(kind, name) is not getattr(base, name)]


def _methods(base: type) -> list[str]:
    return sorted(
        {
            name
            for kind in base.__mro__
            if kind not in nn.Module.__mro__
            for name, function in vars(kind).items()
            if inspect.isfunction(function) and name not in _SAVING
        }
    )
