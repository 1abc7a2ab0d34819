"""Modules that are known by a second name as well: the public ones, as ``liif_fast.NAME``, wherever they live."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class Aliases(MetaPathFinder, Loader):
    """Import statements with a second name, or with a part of one, give the very module of the first.

    Args:
        names: second names to first ones, both whole.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self._specs: dict[str, ModuleSpec | None] = {}

    def install(self) -> None:
        """Be asked before all others: a part of a package would be found in its folder, and there twice."""
        sys.meta_path[:] = [self, *(finder for finder in sys.meta_path if not isinstance(finder, Aliases))]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for second, first in self.names.items():
            if fullname == second or fullname.startswith(f"{second}."):
                return ModuleSpec(fullname, self, loader_state=first + fullname[len(second) :])
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.loader_state)
        self._specs[module.__name__] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._specs[module.__name__]  # which has been replaced by that of the second name
