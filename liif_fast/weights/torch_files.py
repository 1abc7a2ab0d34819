"""Files of ``torch.save``, old and new, read without torch's unpickler and with their checksums.

The new form is a zip archive whose members are stored as they are: ``data.pkl`` and one member for each storage. Its
CRC-32 of each member is verified (torch writes it, but does not look at it). The form before PyTorch 1.6 is a row of
pickles, then the storages; it has no checksums, so that only its structure can be verified.
"""

from __future__ import annotations

import mmap
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import pickles
from .pickle_names import NeedsCodeError, Storage

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DAMAGED = "fetch it again, or save a state dict"


def read(path: Path) -> Any:
    """What ``torch.save`` wrote, on the CPU; sparse, quantised and other unusual tensors come without their values.

    Raises:
        ValueError: damaged, cut short, no file of torch, compressed, or a pickle that needs code. OSError: cannot be
            read.
    """
    size = path.stat().st_size
    data = mmap.mmap(-1, size)  # memory of our own that reads like a file; the file itself might change meanwhile
    with path.open("rb") as file:
        if file.readinto(memoryview(data)) != size:
            raise ValueError("it became shorter while it was read; fetch it again")
    try:
        return _read_zip(data) if data[:4] == ZIP else _read_legacy(data)
    except (NeedsCodeError, MemoryError, _Refused):
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
        raise ValueError(f"it is cut short, damaged or no checkpoint ({reason}); {_DAMAGED}") from error


class _Refused(ValueError):
    """A message that says all."""


def _read_zip(data: mmap.mmap) -> Any:
    try:
        infos = zipfile.ZipFile(data).infolist()  # type: ignore[call-overload]  # seek() gives None before Python 3.13
    except zipfile.BadZipFile as error:
        raise _Refused(f"it is cut short or damaged: the archive's table at its end is missing; {_DAMAGED}") from error
    members = {info.filename: info for info in infos}
    if any(name.rpartition("/")[2] == "constants.pkl" for name in members):
        raise _Refused("it is a TorchScript program, which is code; save model.state_dict() and give that file")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
        raise _Refused("its parts are compressed or encrypted, which PyTorch never does; unpack it, or save it again")
    if len(members) != len(infos) or sum(info.file_size for info in infos) > len(data):
        raise _Refused(f"it is damaged: its parts overlap; {_DAMAGED}")
    roots = [name.removesuffix("data.pkl") for name in members if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(roots) != 1:
        raise _Refused("it is a zip archive, but no checkpoint of PyTorch; give the .pth, .ckpt or .safetensors file")
    root = roots[0]
    checked = any(info.CRC for info in infos)  # torch.serialization.set_crc32_options(False) leaves all at 0
    places = {name: _place(data, info, checked) for name, info in members.items()}
    order = data[slice(*places[f"{root}byteorder"])].decode() if f"{root}byteorder" in places else "little"
    if order != sys.byteorder:
        raise _Refused(f"it was written on a {order}-endian machine; save it again on one like this")
    data.seek(places[f"{root}data.pkl"][0])
    raw = pickles.load(data, _storages(data, root, places))
    if data.tell() > places[f"{root}data.pkl"][1]:
        raise ValueError("the pickle does not end where it should")
    return raw


def _place(data: mmap.mmap, info: zipfile.ZipInfo, checked: bool) -> tuple[int, int]:
    """Where a member begins and ends; its header and checksum are verified."""
    at = info.header_offset
    signature, length, extra = struct.unpack_from("<4s22xHH", data, at)
    begin = at + 30 + length + extra
    end = begin + info.file_size
    name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    header = signature == ZIP and data[at + 30 : at + 30 + length] == name
    if not header or info.compress_size != info.file_size or end > len(data):
        raise _Refused(f"it is damaged: {info.filename[:80]!r} in it is not where it should be; {_DAMAGED}")
    if checked and zlib.crc32(memoryview(data)[begin:end]) != info.CRC:
        raise _Refused(f"it is damaged: the checksum of {info.filename[:80]!r} in it is wrong; {_DAMAGED}")
    return begin, end


def _storages(data: mmap.mmap, root: str, places: dict[str, tuple[int, int]]) -> Callable[[Any], Storage]:
    def storage(key: Any) -> Storage:
        kind, dtype, name, _, numel = key
        begin, end = places[f"{root}data/{_text(name)}"]
        if _text(kind) != "storage" or not 0 <= numel * dtype.itemsize <= end - begin < (numel + 1) * dtype.itemsize:
            raise ValueError(f"a storage of {numel} elements in {end - begin} bytes")
        return Storage(data, dtype, numel, begin)

    return storage


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _read_legacy(data: mmap.mmap) -> Any:
    made: dict[str, Storage] = {}
    left = len(data)

    def storage(key: Any) -> Storage:
        nonlocal left
        kind, dtype, name, _, numel, view = key
        if _text(kind) != "storage":
            raise NeedsCodeError(f"a whole {_text(kind)}")
        if name not in made:
            left -= numel * dtype.itemsize
            if numel < 0 or left < 0:
                raise ValueError(f"a storage of {numel} elements, more than the file has")
            made[name] = Storage(bytearray(numel * dtype.itemsize), dtype, numel, checked=False)
        if made[name].dtype != dtype or made[name].numel != numel:
            raise ValueError("two sizes of one storage")
        return made[name] if view is None else made[name].part(*view[1:])

    def nothing(key: Any) -> Storage:
        raise ValueError("a storage where none is")

    if pickles.load(data, nothing) != _MAGIC or pickles.load(data, nothing) != _PROTOCOL:
        raise ValueError("its beginning is not that of torch.save")
    about = pickles.load(data, nothing)
    if sys.byteorder != ("little" if about.get("little_endian", True) else "big"):
        raise _Refused("it was written on a machine of the other byte order; save it again on one like this")
    raw = pickles.load(data, storage)
    names = pickles.load(data, nothing)
    if sorted(names) != sorted(made):
        raise ValueError("the list of its storages is another than that of its tensors")
    for name in names:
        part, count = made[name], data.read(8)
        if len(count) != 8 or int.from_bytes(count, "little", signed=True) != part.numel:
            raise ValueError("a storage's length is missing or wrong")
        if len(content := data.read(len(part.buffer))) != len(part.buffer):
            raise ValueError("a storage is missing or cut short")
        part.buffer[:] = content
    if data.read(1):
        raise ValueError("there is more than there should be")
    return raw
