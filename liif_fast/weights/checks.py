"""What must hold before a file's weights are used: its hash, and a model that is no larger than the file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from torch.overrides import TorchFunctionMode

ABOUT = "liif_fast"  # keys of the metadata of safetensors: what liif_fast says of the model,
HASH = "liif_fast_sha256"  # and the hash
_CHUNK = 1 << 22


def weights_hash(file: BinaryIO) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all tensors of a safetensors file, in the order of the names."""
    return _hash(file)[0].hexdigest()


def file_hash(file: BinaryIO) -> str:
    """The hash that stands in files of liif_fast: of the tensors, then of what the metadata say of the model."""
    digest, metadata = _hash(file)
    digest.update(metadata.get(ABOUT, "").encode())
    return digest.hexdigest()


def _hash(file: BinaryIO) -> tuple[Any, Mapping[str, str]]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")  # it is as safetensors found it right
    header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", None) or {}
    digest = hashlib.sha256()
    for name in sorted(header):
        entry = header[name]
        digest.update(json.dumps([name, entry["dtype"], entry["shape"]]).encode())
        begin, end = entry["data_offsets"]
        file.seek(8 + length + begin)
        while begin < end:
            chunk = file.read(min(_CHUNK, end - begin))
            if not chunk:
                raise ValueError(f"{name} is cut short")
            digest.update(chunk)
            begin += len(chunk)
    return digest, metadata


# --- the size of a model ---

_NUMBER = 1 << 20  # of a spec, if no dimension of the file's tensors is larger; sizes of images may stand there too
_ENTRIES, _DEPTH, _TEXT = 10_000, 16, 1_000  # of a spec; characters of one text in it
_CALLS, _CALLS_A_KEY = 10_000, 200  # of torch's functions while a model is built; the encoders here take 9 a key
_COPIES, _SMALL = 8, 1 << 20  # of the same memory, under several names; and bytes that do not matter
_ELEMENTS = 1 << 24  # beside those of the file: buffers that are not saved, and what a constructor computes


def check_spec(spec: Any, state: Mapping[str, torch.Tensor]) -> None:
    """A file's spec, before any constructor sees it: not long, not deep, no number far above the sizes of ``state``.

    Raises:
        ValueError: it is. It names the place.
    """
    most = max(_NUMBER, *(n for t in state.values() for n in t.shape), 0)
    left, todo = _ENTRIES, [("spec", spec, 0)]
    while todo:
        where, value, depth = todo.pop()
        left -= 1
        if left < 0 or depth > _DEPTH:
            raise ValueError("its spec is too long or too deeply nested; give the model's own spec")
        if isinstance(value, Mapping):
            todo += [(f"{where}.{str(key)[:40]}", item, depth + 1) for key, item in _few(value.items())]
        elif isinstance(value, list | tuple | set | frozenset):
            todo += [(where, item, depth + 1) for item in _few(value)]
        elif isinstance(value, int) and abs(value) > (most if "seed" not in where.rpartition(".")[2] else 1 << 64):
            raise ValueError(f"{where[:200]} is a number above {most}; give the model's own spec if that is right")
        elif isinstance(value, str | bytes | bytearray) and len(value) > _TEXT:
            raise ValueError(f"{where[:200]} is a text of {len(value)} characters; give the model's own spec")


def _few(items: Any) -> list[Any]:
    if len(items) > _ENTRIES:
        raise ValueError(f"its spec has a list of {len(items)} entries; give the model's own spec")
    return list(items)


def check_sharing(state: Mapping[str, torch.Tensor]) -> None:
    """Each tensor will be copied, so those that share memory must not be many times the memory that they share.

    Raises:
        ValueError: they are.
    """
    shared = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in state.values() if _dense(t)}
    copied = sum(t.nbytes for t in state.values() if _dense(t))
    if copied > _COPIES * sum(shared.values()) + _SMALL:
        raise ValueError(f"its tensors are {copied} bytes, copies of {sum(shared.values())} in the file; save it again")


def _dense(t: torch.Tensor) -> bool:
    return t.layout is torch.strided and not t.is_meta


class TooLargeError(ValueError):
    """A model that has more than the file can fill."""


class Bounded(TorchFunctionMode):
    """``with Bounded(keys, elements):`` a constructor that makes more than a state dict holds is stopped while it does.

    Of this thread only. Both limits leave room for what is no weight. A tensor that is too large is never allocated.

    Args:
        keys, elements: the number of the state dict's tensors, and of their elements.
    """

    def __init__(self, keys: int, elements: int) -> None:
        super().__init__()
        self.keys, self.elements = keys, elements
        self.calls_left = _CALLS + _CALLS_A_KEY * keys
        self.elements_left = _ELEMENTS + 2 * elements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled:  # an error in the end of a no_grad block would leave gradients off
            return func(*args, **(kwargs or {}))
        self.calls_left -= 1
        if func in _SPLITS and args and isinstance(args[0], torch.Tensor):
            self.calls_left -= max(args[0].shape, default=0)
        if func in _FACTORIES:
            self.elements_left -= _numel(func, args, kwargs or {})
        if self.calls_left < 0 or self.elements_left < 0:
            raise TooLargeError(
                f"the model has more than the file's {self.keys} tensors of {self.elements} elements can fill"
            )
        return func(*args, **(kwargs or {}))


_SPLITS = (torch.Tensor.__iter__, torch.Tensor.unbind, torch.unbind, torch.Tensor.split, torch.split)  # many at once
_RANGES = (torch.arange, torch.range, torch.linspace, torch.logspace)
_FACTORIES = {
    *_RANGES, torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint, torch.eye,
    torch.empty_strided, torch.randperm, torch.tril_indices, torch.triu_indices,
}  # fmt: skip


def _numel(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """At least how many elements a factory function makes."""
    size = kwargs.get("size", next((a for a in args if isinstance(a, list | tuple)), None))
    if size is not None and func not in _RANGES:
        return math.prod(n for n in size if isinstance(n, int))
    named = (kwargs.get(key) for key in ("end", "steps", "n"))
    numbers = [n for n in (*args, *named) if isinstance(n, int | float)]
    if func in _RANGES:
        return int(max(numbers, default=0))
    return math.prod(n for n in numbers if isinstance(n, int)) ** (2 if func is torch.eye and len(numbers) == 1 else 1)
