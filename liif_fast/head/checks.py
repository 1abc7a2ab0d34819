"""Whether queries can be asked: what is wrong with them, by the name of the argument."""

from __future__ import annotations

import torch
from torch import Tensor

from . import transforms


def check_queries(coord: Tensor, cell: Tensor | None, batch: int, device: torch.device) -> None:
    """Raise TypeError or ValueError, naming the argument, unless coord and cell can be queried.

    NaN and infinity are looked for on the CPU only: elsewhere it would wait for the device, and there NaN coordinates
    give NaN colours.
    """
    for name, t in (("coord", coord), ("cell", cell)):
        if t is None and name == "cell":
            continue
        if not isinstance(t, Tensor) or not t.is_floating_point():
            got = t.dtype if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(f"{name}: a floating-point tensor [B, Q, 2] is wanted, got {got}")
        if t.ndim != 3 or t.shape[-1] != 2 or t.shape[0] != batch:
            raise ValueError(f"{name}: shape [B, Q, 2] with B = {batch} is wanted, got {list(t.shape)}")
        if t.device != device:
            raise ValueError(
                f"{name} is on {t.device} but the features are on {device}: move it with .to({str(device)!r})"
            )
        if _looked_at(t) and not t.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity: coordinates are (y, x) in [-1, 1], see make_coord")
    if cell is not None and cell.shape != coord.shape:
        raise ValueError(f"cell: the shape of coord, {list(coord.shape)}, is wanted, got {list(cell.shape)}")


def _looked_at(t: Tensor) -> bool:
    """Whether Python may ask for values: not in compilers or ``torch.func``; other devices would be waited for."""
    return t.device.type == "cpu" and not torch.compiler.is_compiling() and not transforms.active()
