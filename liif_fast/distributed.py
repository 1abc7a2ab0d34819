"""Who this process is among those that torchrun started, and what they tell each other. Alone: rank 0 of 1.

The numbers need no torch, so that the command can ask for them while it parses its arguments.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class PeerError(RuntimeError):
    """Another process could not go on."""

    def __init__(self) -> None:
        super().__init__("another process could not go on; its own message says why")


def rank() -> int:
    """Number of this process, from 0; torchrun's variable RANK."""
    return _variable("RANK", 0)


def world() -> int:
    """Number of processes; torchrun's variable WORLD_SIZE."""
    return _variable("WORLD_SIZE", 1)


def local_rank() -> int:
    """Number of this process on its machine, which is also the number of its GPU."""
    return _variable("LOCAL_RANK", 0)


def local_world() -> int:
    """Number of processes on this machine."""
    return _variable("LOCAL_WORLD_SIZE", 1)


def connected() -> bool:
    """Whether the processes can talk to each other: there are several, and ``connect`` has been called."""
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def connect(device: torch.device) -> None:
    """Let the processes meet: NCCL for CUDA devices, gloo for others. Nothing to do for a single process.

    Raises:
        RuntimeError: torch was built without distributed.
    """
    import torch
    import torch.distributed as dist

    if world() == 1 or connected():
        return
    if not dist.is_available():
        raise RuntimeError("this torch has no torch.distributed, so only one process can be used; do without torchrun")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def disconnect() -> None:
    """The end of what ``connect`` began."""
    import torch.distributed as dist

    if connected():
        dist.destroy_process_group()


def gather(value: Any) -> list[Any]:
    """``value`` of every process, in the order of their ranks, in each of them."""
    import torch.distributed as dist

    if not connected():
        return [value]
    values = [None] * world()
    dist.all_gather_object(values, value)
    return values


def sum_(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over the processes, in place."""
    import torch.distributed as dist

    if connected():
        dist.all_reduce(tensor)
    return tensor


@contextlib.contextmanager
def first_here() -> Iterator[None]:
    """The machine's first process runs the block before its others do, so that what it writes is there for them."""
    import torch.distributed as dist

    if connected() and local_rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if connected() and local_rank() == 0:
            dist.barrier()


def _variable(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
