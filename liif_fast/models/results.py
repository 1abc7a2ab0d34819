"""Enlarged frames on their way from the thread that computes them to their caller, while a GPU goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .moving import Result


def handed(
    result: Result,
    device: torch.device,
    again: Callable[[], Tensor],
    down: Any,
    back: Callable[[Tensor], Any] = lambda image: image,
) -> Callable[[], Any]:
    """What gives a result to its caller, who may write to it: begins to copy, and waits for that when it is called.

    Args:
        device: where it is wanted.
        again: computes it otherwise, if it is not finite.
        down: CUDA stream that copies results to the host; None: that is waited for here.
        back: makes of the image what is wanted.
    """
    image, finite, event = result.image, result.finite, None
    if down is None:
        copied = image.to(device, copy=True)
    else:
        if device.type == "cuda":
            copied = image.to(device, copy=True)
        down.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(down):
            if device.type != "cuda":
                copied = _to_host(image)
            # asked for on the device it would come after the frames that were begun since
            finite = None if finite is None else _to_host(finite)
            event = torch.cuda.Event()
            event.record()

    def hand() -> Any:
        if event is not None:
            event.synchronize()
        if finite is not None and not finite:
            return back(again().to(device))
        return back(copied)

    return hand


def _to_host(t: Tensor) -> Tensor:
    """Begins to copy a tensor, in the current stream."""
    copied = torch.empty_like(t, device="cpu", pin_memory=True)
    t.record_stream(torch.cuda.current_stream())
    return copied.copy_(t, non_blocking=True)
