"""Errors that mean there is not enough memory. PyTorch says it on a CPU with a plain RuntimeError."""

from __future__ import annotations

import torch

_WORDS = (
    "allocate memory",  # DefaultCPUAllocator
    "DefaultCPUAllocator: not enough memory",
    "std::bad_alloc",
    "could not create a primitive",  # oneDNN, which has no memory for its code
    "could not create a memory object",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether this error, of Python, PyTorch or a library of its, says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
