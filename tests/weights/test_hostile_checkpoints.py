"""Files made to cost memory or time, or to pass for weights that they do not hold: refused at once, in one line."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from checkpoint_mutants import SPEC
from refusals import refused
from torch import nn

import liif_fast
from liif_fast.weights import pickles


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return liif_fast.make(SPEC).state_dict()


def archive(program, storages=(), compression=zipfile.ZIP_STORED):
    """A file of the new form from the bytes of its pickle and of its storages."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as out:
        out.writestr("archive/data.pkl", program)
        for i, content in enumerate(storages):
            out.writestr(f"archive/data/{i}", content)
    return data.getvalue()


def legacy(program):
    """One of the old form, without storages."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(x, 2) for x in head) + program + pickle.dumps([], 2)


DOUBLED = b")q\0" + b"h\0h\0\x86q\0" * 60  # a tuple of 2^60 parts, each of which is one and the same
PICKLES = {
    "bytearray of a number": b"cbuiltins\nbytearray\n\x8a\x05" + (10**10).to_bytes(5, "little") + b"\x85R.",
    "more bytes than there are": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
    "a longer text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b".",
    "a longer number": b"\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "a longer array": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".",
    "a longer frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "a memo far away": b")r\xff\xff\xff\xff.",
    "a deep tuple": b")" + b"\x85" * 100_000 + b".",
    "a dictionary in itself": b"}q\0X\1\0\0\0ah\0s.",
    "a key of 2^60 parts": b"}" + DOUBLED + b"K\1s.",
    "a set of 2^60 parts": b"cbuiltins\nset\n]" + DOUBLED + b"a\x85R.",
    "an ordered dictionary of them": b"ccollections\nOrderedDict\n]" + DOUBLED + b"K\1\x86a\x85R.",
    "data_norm of 2^60 parts": b"}X\x09\0\0\0data_norm" + DOUBLED + b"s.",
    "a spec of 2^60 parts": b"}X\5\0\0\0model}(X\4\0\0\0nameX\4\0\0\0liifX\2\0\0\0sd}X\4\0\0\0args}X\1\0\0\0a"
    + DOUBLED
    + b"sus.",
    "a state for a tuple": b")}b.",
    "nothing on the stack": b"0.",
    "no end": b"}" * 1000,
    "a file that is opened": b"cbuiltins\nopen\nX\1\0\0\0x\x85R.",
}


@pytest.mark.parametrize("form", [archive, legacy])
@pytest.mark.parametrize("case", PICKLES)
def test_pickles_that_cost(case, form, tmp_path):
    path = tmp_path / "m.pth"
    program = PICKLES[case]
    path.write_bytes(form(program if program.startswith(b"\x80") else b"\x80\x02" + program))
    refused(path, "damaged|spec is too|data_norm|code to be run|is wanted|no tensors")


def test_many_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "OPCODES", 1000)
    path = tmp_path / "m.pth"
    path.write_bytes(archive(b"\x80\x02(" + b"}" * 2000 + b"l."))
    refused(path, "more than 1000 steps")


def repacked(raw, change=lambda program: program, compression=zipfile.ZIP_STORED):
    """What torch.save writes, with another pickle, under right checksums."""
    data, out = io.BytesIO(), io.BytesIO()
    torch.save(raw, data)
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(out, "w", compression) as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, change(content) if info.filename.endswith("data.pkl") else content)
    return out.getvalue()


def test_tensors_larger_than_their_storage(state, tmp_path):
    path = tmp_path / "m.pth"
    torch.save({"model": {**SPEC, "sd": {**state, "x": torch.zeros(1).expand(10**5, 10**5)}}}, path)
    refused(path, "10000000000 elements")
    view = torch.zeros(99)[:77]  # the size alone is changed, then that of the storage
    for old, number in ((b"K\x4d", 2**31 - 1), (b"K\x63", 2**31 - 1), (b"K\x4d", 100), (b"K\x4d", -1)):
        path.write_bytes(
            repacked({"w": view}, lambda p, old=old, n=number: p.replace(old, b"J" + struct.pack("<i", n)))
        )
        refused(path, "damaged")
    # many names for one piece of memory
    shared = torch.zeros(200_000)
    torch.save({f"encoder.{i}": shared.view(1, -1) for i in range(3000)}, path)
    refused(path, "copies of 800000 in the file", spec=SPEC)


def test_small_expanded_tensors_and_shared_ones_are_fine(state, tmp_path):
    path = tmp_path / "m.pth"
    bias = torch.full((1,), 0.5).expand(4)
    torch.save({"model": {**SPEC, "sd": {**state, "imnet.layers.0.bias": bias}}}, path)
    assert torch.equal(liif_fast.load(path).imnet.layers[0].bias, bias)
    first = state["encoder.body.0.body.0.weight"]
    torch.save({"model": {**SPEC, "sd": {**state, "encoder.body.0.body.2.weight": first}}}, path)
    assert torch.equal(liif_fast.load(path).encoder.body[0].body[2].weight, first)


def test_archives(state, tmp_path):
    path = tmp_path / "m.pth"
    raw = {"model": {**SPEC, "sd": {**state, "x": torch.zeros(10**6)}}}
    path.write_bytes(repacked(raw, compression=zipfile.ZIP_DEFLATED))  # 4 MB of zeros in a small file
    refused(path, "compressed")
    path.write_bytes(archive(b"\x80\x02}.").replace(b"archive", b"another"))
    refused(path, "no tensors")
    path.write_bytes(repacked(raw).replace(b"data.pkl", b"data.txt"))
    refused(path, "zip archive, but no checkpoint")
    path.write_bytes(repacked(raw).replace(b"data/1", b"data/0"))
    refused(path, "overlap")
    torch.jit.save(torch.jit.script(nn.ReLU()), path)
    refused(path, "TorchScript")
    path.write_bytes(b"storages".ljust(257, b"\0") + b"ustar" + bytes(250))
    refused(path, "tar archive")


def test_without_checksums(state, tmp_path):
    """torch leaves them out when it is told to; the file is then read as it is."""
    path, before = tmp_path / "m.pth", torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": {**SPEC, "sd": state}}, path)
    finally:
        torch.serialization.set_crc32_options(before)
    assert all(torch.equal(t, state[key]) for key, t in liif_fast.load(path).state_dict().items())


def test_headers_of_safetensors(tmp_path):
    path = tmp_path / "m.safetensors"

    def header(entries, length=None, data=bytes(16)):
        text = json.dumps(entries).encode() if isinstance(entries, dict) else entries
        path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)

    whole = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    for entries, length in (
        ({"a": whole, "b": whole}, None),  # overlapping
        ({"a": {**whole, "shape": [2**31, 2**31]}}, None),
        ({"a": {**whole, "shape": [2**63, 2]}}, None),
        ({"a": {**whole, "data_offsets": [0, 2**50]}}, None),
        ({"a": {**whole, "data_offsets": [8, 16]}}, None),
        ({"a": whole}, 2**40),
        ({"a": whole}, 2**63),
        (b'{"a":' * 100_000, None),
        (b"{" * 30, 10**9),
    ):
        header(entries, length)
        refused(path, "damaged|cut short")


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        refused(path, "no regular file")
