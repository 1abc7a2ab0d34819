"""What torch keeps for each thread, for threads that work for a caller."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

State = Callable[[], contextlib.AbstractContextManager[None]]


def state(device: torch.device | None) -> State:
    """A context in which another thread computes as this one does here: its autocast, gradient and inference mode, and
    its streams of the current CUDA device and of ``device``, so that what it has begun there is waited for."""
    autocast = [
        (kind, torch.get_autocast_dtype(kind), torch.is_autocast_cache_enabled())
        for kind in dict.fromkeys(("cpu", "cuda", "cpu" if device is None else device.type))
        if torch.is_autocast_enabled(kind)
    ]
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    streams = []
    if torch.cuda.is_initialized():
        streams = [torch.cuda.current_stream()]
        if device is not None and device.type == "cuda":
            streams.append(torch.cuda.current_stream(device))

    @contextlib.contextmanager
    def same() -> Iterator[None]:
        with contextlib.ExitStack() as held:
            for stream in streams:
                held.enter_context(torch.cuda.stream(stream))
            for kind, dtype, cached in autocast:
                held.enter_context(torch.autocast(kind, dtype, cache_enabled=cached))
            held.enter_context(torch.inference_mode(inference))
            held.enter_context(torch.set_grad_enabled(gradients))
            yield

    return same
