"""Whether several of torch's operations may be done as one: nobody sees them one by one, or means others by them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from . import transforms

_PLAIN = (Tensor, nn.Parameter, nn.Buffer)


def plain(tensors: Iterable[Tensor | None]) -> bool:
    """No subclasses of Tensor, whose products may be others than those of the numbers they hold."""
    return all(t is None or type(t) in _PLAIN for t in tensors)


def unwatched(x: Tensor) -> bool:
    """Whether what is done with x ``[B, C, H, W]`` is just computed, in its own dtype."""
    if torch.compiler.is_compiling() or transforms.active():
        return False
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # torch.jit has it from elsewhere
        return False
    if not plain([x]) or x.ndim != 4 or not x.numel() or is_in_torch_dispatch_mode():
        return False
    device = x.device.type
    return not torch.is_autocast_enabled(device) or torch.get_autocast_dtype(device) == x.dtype
