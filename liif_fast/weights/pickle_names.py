"""What the names in a checkpoint's pickle stand for: tensors over the file's bytes, containers, inert objects; no code.

``known`` gives what a global is, ``call`` what a call of it gives. Only what is in the tables here is known.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

_VIEWS = 4096  # elements that a tensor may have above its storage's, as one that was expanded has


class NeedsCodeError(ValueError):
    """A pickle of more than tensors and plain values."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"it is a pickle that needs {name[:200]}, that is, code to be run, which liif_fast never does: have it "
            "saved as a state dict or as safetensors by the program that made it, or get it from a source that has one"
        )
        self.name = name


class Inert:
    """Stands in for what a training program logged: takes anything, does nothing."""


@dataclass(frozen=True)
class Storage:
    """Bytes of the file, or ones that will be filled from it, for the tensors over them."""

    buffer: Any  # writable, of ``numel`` elements, from ``offset`` on
    dtype: torch.dtype
    numel: int
    offset: int = 0
    checked: bool = True  # the pickle has a checksum; without one a wrong stride would show in nothing else

    def part(self, first: int, numel: int) -> Storage:
        if not 0 <= first <= first + numel <= self.numel:
            raise ValueError(f"a view of elements {first} to {first + numel} in a storage of {self.numel}")
        return replace(self, numel=numel, offset=self.offset + first * self.dtype.itemsize)

    def tensor(self, first: int, size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A view; ValueError if it reaches beyond the storage, or has many more elements."""
        numbers = (first, *size, *stride)
        if len(size) != len(stride) or len(size) > 64 or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("a tensor without a proper size")
        numel, most = math.prod(size), self.numel * self.dtype.itemsize // dtype.itemsize
        if numel == 0:
            return torch.empty(size, dtype=dtype)
        last = first + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if last >= most or numel > max(most, _VIEWS):
            raise ValueError(f"a tensor of {numel} elements up to number {last} over {most} in the file")
        if not self.checked and numel <= most and _overlaps(size, stride):
            raise ValueError(f"a tensor of size {size} with strides {stride}")
        flat = torch.frombuffer(self.buffer, dtype=dtype, count=most, offset=self.offset)
        return flat.as_strided(size, stride, first)


def _overlaps(size: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether two elements may be one."""
    reach = 1
    for s, n in sorted((s, n) for n, s in zip(size, stride, strict=True) if n > 1):
        if s < reach:
            return True
        reach += (n - 1) * s
    return False


_DTYPES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
    "QUInt8": torch.uint8, "QInt8": torch.int8, "QInt32": torch.int32, "Untyped": torch.uint8,
}  # fmt: skip
_LOGGED = {
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.logging.log_buffer.LogBuffer",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    "argparse.Namespace",  # timm's arguments
    *(f"pathlib.{name}" for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path")),
    *(f"pathlib._local.{name}" for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path")),
    *(f"{lightning}.utilities.{name}" for lightning in ("lightning_fabric", "lightning.fabric", "pytorch_lightning")
      for name in ("data.AttributeDict", "parsing.AttributeDict")),
}  # fmt: skip


class _Name(str):
    """A global, by its name."""


def _no_values(*args: Any) -> Tensor:
    """A tensor without data in place of a sparse, quantised or otherwise unusual one."""
    return torch.empty(0, device="meta")


def _tensor(storage: Any, first: Any, size: Any, stride: Any, *others: Any) -> Tensor:
    metadata = others[2] if len(others) > 2 else None  # conjugate and negative bits
    if metadata:
        return _no_values()
    return storage.tensor(first, tuple(size), tuple(stride), storage.dtype)


def _tensor_v3(
    storage: Any, first: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *others: Any
) -> Tensor:
    if any(others):
        return _no_values()
    return storage.tensor(first, tuple(size), tuple(stride), dtype)


def _from_type(function: Any, kind: Any, args: Any, state: Any) -> Tensor:
    if kind not in ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter"):
        raise NeedsCodeError(str(kind))
    return call(function, args)


def _bytearray(*args: Any) -> bytearray:
    if args and isinstance(args[0], str):
        return bytearray(_encode(*args))
    if args and not isinstance(args[0], bytes | bytearray | list | tuple):
        raise ValueError("a bytearray that is made from a number, not from bytes")
    return bytearray(*args[:1])


def _encode(text: str, codec: str = "latin1") -> bytes:
    if codec not in ("latin1", "latin-1", "utf-8", "utf8"):
        raise ValueError(f"bytes encoded as {str(codec)[:40]}")
    return text.encode(codec)


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    made: dict[Any, Any] = collections.OrderedDict()
    for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
        made[hashable(key)] = value
    return made


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": lambda data, *others: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *others: data,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    **{
        f"torch._utils._rebuild_{kind}": _no_values
        for kind in ("sparse_tensor", "qtensor", "meta_tensor_no_storage", "nested_tensor")
    },
    "torch.Size": lambda values=(): torch.Size(values),
    "torch.device": lambda *args: "cpu",
    "torch.serialization._get_layout": lambda name: name,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _ordered,
    "collections.defaultdict": lambda *args: {},  # of the factory nothing is kept
    "builtins.set": lambda items=(): {hashable(item) for item in items},
    "builtins.frozenset": lambda items=(): frozenset(hashable(item) for item in items),
    "builtins.complex": lambda *parts: complex(*(float(part) for part in parts)),
    "builtins.bytearray": _bytearray,
    "_codecs.encode": _encode,
}
_TYPES = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "builtins.list", "builtins.dict",
          "builtins.int", "builtins.float")  # fmt: skip
_QUANTISED = tuple(
    f"torch.per_{kind}" for kind in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric",
                                     "channel_affine_float_qparams")
)  # fmt: skip


def known(name: str) -> Any:
    """What a name stands for: a dtype, or the name itself if ``call`` knows it."""
    name = name.replace("__builtin__.", "builtins.", 1)
    if name in _CALLS or name in _LOGGED or name in _TYPES or name in _QUANTISED:
        return _Name(name)
    module, _, last = name.rpartition(".")
    kind = last.removesuffix("Storage")
    if module in ("torch", "torch.cuda", "torch.storage") and last.endswith("Storage") and kind in _DTYPES:
        return _DTYPES[kind]  # of a storage's class only the dtype counts
    if module == "torch" and isinstance(dtype := getattr(torch, last, None), torch.dtype):
        return dtype
    raise NeedsCodeError(name.removeprefix("builtins."))


def call(function: Any, args: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(args, tuple):
        raise ValueError("a call of what is no function")
    if function in _LOGGED:
        return Inert()
    if function not in _CALLS:
        raise NeedsCodeError(function)
    return _CALLS[function](*args)


def hashable(value: Any) -> Any:
    """The same, if it can be hashed at once (nested tuples that share their parts take for ever)."""
    flat = value if type(value) is tuple else (value,)
    if not all(isinstance(v, str | int | float | complex | bytes | torch.dtype | None) for v in flat):
        raise ValueError(f"a {type(value).__name__} as a key")
    return value
