"""``liif_fast.load`` as type checkers see it; weights, below, know nothing of the classes that they are of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import torch

from ..weights import checkpoints

if TYPE_CHECKING:
    from .baselines import SRCNN, SRResNet
    from .liif import LIIF


class Load(Protocol):
    """A LIIF (an LTE is one), but for the baselines that are in the package: a name decides.

    Of a checkpoint of a baseline its user says what it is: ``typing.cast(SRCNN, liif_fast.load("srcnn.pth"))``.
    """

    # mypy warns that the same name may come as no more than a str: then it is called a LIIF, as any checkpoint
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, name_or_path: Literal["small-srcnn-x4", "srcnn-x4-open"], device: torch.device | str | None = None
    ) -> SRCNN: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        name_or_path: Literal["small-srgan-x4", "srgan-x4-open", "srresnet-x4-open"],
        device: torch.device | str | None = None,
    ) -> SRResNet: ...

    @overload
    def __call__(
        self,
        name_or_path: str | os.PathLike[str],
        device: torch.device | str | None = None,
        *,
        spec: Mapping[str, Any] | None = None,
    ) -> LIIF: ...


load: Load = checkpoints.load
