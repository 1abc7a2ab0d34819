"""Files made to cost memory or time, or to pass for weights that they do not hold: refused at once, in one line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import time
import zipfile

import checkpoint_mutants
import pytest
import safetensors.torch
import torch
from torch import nn

import liif_fast
from liif_fast import CheckpointError
from liif_fast.weights import pickles

SPEC = checkpoint_mutants.SPEC
SECONDS = 10  # of the processor, against a hang; each takes a few hundredths


@contextlib.contextmanager
def little_memory(room=500_000_000):
    """Allocations above what the process has plus ``room`` bytes fail."""
    resource = pytest.importorskip("resource")
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no way to see the address space")
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def refused(path, words, **args):
    begun = time.process_time()
    with little_memory(), pytest.raises(CheckpointError, match=words) as caught:
        liif_fast.load(path, **args)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 600
    assert time.process_time() - begun < SECONDS
    return text


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return liif_fast.make(SPEC).state_dict()


# --- a spec that asks for more than the file has ---


def edsr(name="edsr-baseline", **args):
    return {"name": "liif", "args": {"encoder_spec": {"name": name, "args": args}, "imnet_spec": None}}


def mlp(hidden):
    return {
        "name": "liif",
        "args": {**SPEC["args"], "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": hidden}}},
    }


def nested(depth):
    spec = {"name": "edsr-baseline"}
    for _ in range(depth):
        spec = {"name": "liif", "args": {"encoder_spec": spec}}
    return spec


LARGE = {
    "10^9 blocks": edsr(n_resblocks=10**9),
    "10^6 blocks": edsr(n_resblocks=10**6),
    "60000 blocks": edsr(n_resblocks=60_000),
    "60000 empty blocks": edsr(n_resblocks=60_000, n_feats=0),
    "9000 channels": edsr(n_feats=9000),
    "a million channels": edsr(n_feats=10**6, n_resblocks=0),
    "groups times blocks": edsr("rcan", n_resgroups=1000, n_resblocks=1000),
    "groups without blocks": edsr("rcan", n_resgroups=60_000, n_resblocks=0),
    "kernel": edsr("rdn", RDNkSize=20_001),
    "scale": edsr(n_resblocks=1, n_feats=2, scale=2**60, no_upsampling=False),
    "30000 hidden": mlp([30_000] * 8),
    "9000 layers": mlp([1] * 9000),
    "10^5 layers": mlp([1] * 100_000),
    "metasr": {"name": "metasr", "args": {"encoder_spec": {"name": "edsr", "args": {"n_feats": 4000}}}},
    "srcnn": {"name": "srcnn", "args": {"kernels": [9, 5, 99_999]}},
    "srresnet": {"name": "srresnet", "args": {"n_resblocks": 60_000}},
    "discriminator": {"name": "srgan-discriminator", "args": {"hidden": 60_000}},
    "deep": nested(100),
    "text": edsr(n_resblocks="1" * 100_000),
    "digits": edsr(n_resblocks=10**4000),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_spec_larger_than_the_file(case, state, tmp_path):
    path = tmp_path / "m.pth"
    torch.save({"model": {**LARGE[case], "sd": state}}, path)
    refused(path, r"file's \d+ tensors|number above|too long|list of|text of|spec cannot be built")
    if case in ("10^9 blocks", "9000 channels", "30000 hidden"):
        about = {"format": 1, "version": "1", "spec": LARGE[case], "data_norm": None}
        safetensors.torch.save_file(state, path, {"liif_fast": json.dumps(about)})
        refused(path, r"file's \d+ tensors|number above")


class Ramp(nn.Module):
    """Computes with numbers while it is built, keeps a buffer out of the state dict, has a position in it."""

    def __init__(self, depth=3, width=5) -> None:
        super().__init__()
        self.out_dim = width
        self.rates = [x.item() for x in torch.linspace(0, 0.1, depth)]
        self.register_buffer("ramp", torch.arange(100.0).repeat(3) + 1, persistent=False)
        self.register_buffer("index", torch.stack(torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")))
        self.convs = nn.Sequential(*(nn.Conv2d(3 if not i else width, width, 3, padding=1) for i in range(depth)))

    def forward(self, x):
        return self.convs(x) * self.ramp[2]


def test_registered_encoders_are_built_as_they_are(tmp_path):
    """With values that only a real constructor computes; and no larger than the file, whoever wrote the class."""
    liif_fast.register("test-ramp")(Ramp)
    model = liif_fast.LIIF({"name": "test-ramp", "args": {"depth": 4}}, SPEC["args"]["imnet_spec"]).eval()
    path = tmp_path / "m.safetensors"
    model.save(path)
    loaded = liif_fast.load(path)
    assert torch.equal(loaded.encoder.ramp, model.encoder.ramp)
    assert loaded.encoder.rates == model.encoder.rates
    x, coord = torch.rand(1, 3, 5, 4), torch.rand(1, 9, 2) - 0.5
    assert torch.equal(loaded(x, coord, coord.abs()), model(x, coord, coord.abs()))
    for args in ({"depth": 10**6}, {"width": 30_000}):
        spec = {"name": "liif", "args": {**model.spec["args"], "encoder_spec": {"name": "test-ramp", "args": args}}}
        torch.save({"model": {**spec, "sd": model.state_dict()}}, tmp_path / "bad.pth")
        refused(tmp_path / "bad.pth", r"file's \d+ tensors")


# --- pickles and archives ---


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
