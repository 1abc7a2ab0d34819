"""``liif_fast.load`` with the type of what it gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, Protocol, overload

import torch

from ..weights import checkpoints
from .baselines.common import ImageModel
from .liif import LIIF


class _Load(Protocol):
    """A file can hold a baseline too (SRCNN, ...), which no type checker knows: annotate it, or ``typing.cast``."""

    @overload  # a name that comes as a variable is known as LIIF: one of the two must be
    def __call__(  # type: ignore[overload-overlap]
        self,
        name_or_path: Literal["small-srcnn-x4", "small-srgan-x4", "srcnn-x4-open", "srresnet-x4-open", "srgan-x4-open"],
        device: torch.device | str | None = None,
        *,
        spec: Mapping[str, Any] | None = None,
    ) -> ImageModel: ...
    @overload
    def __call__(
        self,
        name_or_path: str | os.PathLike[str],
        device: torch.device | str | None = None,
        *,
        spec: Mapping[str, Any] | None = None,
    ) -> LIIF: ...


load: _Load = checkpoints.load
