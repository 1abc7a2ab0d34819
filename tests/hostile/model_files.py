"""Checkpoint files: whole ones of every form, damaged ones, and ones that want more than to be read."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path

import mutations
import numpy as np
import safetensors.torch
import torch
from identity_model import NORM, SPEC, identity, official, ours, torch_bytes


def make(rng: random.Random, canary: Path) -> tuple[str, bytes, bool]:
    """Kind, bytes, and whether a file that is accepted must be the identity."""
    kind = rng.choice([*WHOLE, *WHOLE, "code", "code", "code", *SPECIAL])
    if kind in WHOLE:
        data, checked = WHOLE[kind](), True
        if rng.random() < 0.8:
            kind += "-damaged"
            checked = data[:2] == b"PK" or data == ours()  # other forms have no checksums
            data = mutations.mutate(data, rng)
        return kind, data, checked
    if kind == "code":
        return kind, with_code(rng, canary), True
    return kind, SPECIAL[kind](rng), kind in ("loop", "many-keys")


WHOLE = {
    "official": lambda: torch_bytes(official()),
    "legacy": lambda: torch_bytes(official(), _use_new_zipfile_serialization=False),
    "ours": ours,
    "training": lambda: torch_bytes({**official(), "epoch": 3, "optimizer": {"name": "adam", "sd": {"state": {}}}}),
}


def with_code(rng: random.Random, canary: Path) -> bytes:
    """A pickle that would leave the canary file behind if anything in it were called."""
    command = f"touch '{canary}'"
    python = f"open({str(canary)!r}, 'w').close()"
    name, args = rng.choice(
        (
            ("os system", (command,)),
            ("posix system", (command,)),
            ("subprocess call", (["touch", str(canary)],)),
            ("subprocess Popen", (["touch", str(canary)],)),
            ("subprocess check_output", (["touch", str(canary)],)),
            ("builtins eval", (f"__import__('os').system({command!r})",)),
            ("builtins exec", (python,)),
            ("builtins open", (str(canary), "w")),
            ("__builtin__ eval", (f"__import__('os').system({command!r})",)),
            ("io open", (str(canary), "w")),
            ("_io FileIO", (str(canary), "w")),
            ("os mknod", (str(canary),)),
            ("os mkdir", (str(canary),)),
            ("timeit timeit", (python,)),
            ("code InteractiveInterpreter", ()),
            ("shutil copy", ("/etc/hostname", str(canary))),
            ("logging FileHandler", (str(canary),)),
            ("zipfile ZipFile", (str(canary), "w")),
            ("torch.utils.collect_env run", (command,)),
            ("torch.serialization load", (str(canary.parent / "second.pth"), None, pickle, False)),
            ("numpy save", (str(canary), [1])),
            ("numpy.lib._npyio_impl save", (str(canary), [1])),
            ("torch save", (1, str(canary))),
            ("torch._utils._rebuild_tensor_v2 __globals__", ()),
            ("torch.nn.modules.linear Linear", (1, 1)),
            ("liif_fast.weights.files write", (str(canary), b"x")),
            ("pathlib Path.touch", (str(canary),)),
        )
    )
    module, attribute = name.rsplit(" ", 1)
    body = pickle.dumps(args, protocol=2)[2:-1]
    style = rng.randrange(4)
    if style == 0:
        call = b"c" + f"{module}\n{attribute}\n".encode() + body + b"R"
    elif style == 1:
        call = _text(module) + _text(attribute) + b"\x93" + body + b"R"  # STACK_GLOBAL
    elif style == 2:
        call = b"(" + b"".join(pickle.dumps(a, 2)[2:-1] for a in args) + f"i{module}\n{attribute}\n".encode()  # INST
    else:
        call = b"c" + f"{module}\n{attribute}\n".encode() + body + b"\x81"  # NEWOBJ
    place = rng.randrange(3)
    if place == 0:
        program = b"\x80\x04" + call + b"."
    elif place == 1:  # as an entry beside the weights
        program = b"\x80\x04}" + _text("model") + call + b"s."
    else:  # with the state of an object
        program = b"\x80\x04ccollections\nOrderedDict\n)R}" + _text("k") + call + b"sb."
    if rng.random() < 0.3:
        return program
    return with_pickle(program) if rng.random() < 0.8 else with_pickle(program, zipfile.ZIP_DEFLATED)


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def with_pickle(program: bytes, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    """A file of torch.save whose description of the contents is another one."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(torch_bytes(official()))) as old,
        zipfile.ZipFile(stream, "w", compression) as new,
    ):
        for item in old.namelist():
            data = program if item.endswith("data.pkl") else old.read(item)
            new.writestr(item, entries.get(item.rsplit("/")[-1], data))
    return stream.getvalue()


def _spec_of(rng: random.Random) -> bytes:
    """A spec that asks for far more than the file holds."""
    spec = json.loads(json.dumps(SPEC))
    args = spec["args"]
    encoder, imnet = args["encoder_spec"]["args"], args["imnet_spec"]["args"]
    huge = rng.choice((10**9, 2**31, 2**63, 10**30, 9000, -1, 0, 1e9, float("nan"), "8", None, [8], True))
    change = rng.randrange(8)
    if change == 0:
        encoder["n_resblocks"] = huge
    elif change == 1:
        encoder["n_feats"] = huge
    elif change == 2:
        imnet["hidden_list"] = rng.choice(([30000] * 8, [huge], [4] * 100000, huge))
    elif change == 3:
        imnet["out_dim"] = huge
    elif change == 4:
        args["encoder_spec"] = rng.choice((spec, None, {}, {"name": 1}, {"name": "rdn", "args": {"RDNconfig": huge}}))
    elif change == 5:
        encoder["scale"], encoder["no_upsampling"] = huge, False
    elif change == 6:
        for _ in range(rng.choice((10, 300, 3000))):
            args["encoder_spec"] = {"name": "liif", "args": {"encoder_spec": args["encoder_spec"]}}
    else:
        spec["name"] = rng.choice(("os.system", "edsr", "rcan", "srgan", "", 7, "liif\nliif", "x" * 100000))
    try:
        return torch_bytes({"model": {**spec, "sd": identity()}, "data_norm": NORM})
    except RecursionError:
        return torch_bytes(official())


def _wrong_state(rng: random.Random) -> bytes:
    state = dict(identity())
    key = rng.choice([k for k in state if "mean" not in k])
    t = state[key]
    state[key] = rng.choice(
        (
            t * float("nan"),
            t + float("inf"),
            t.to(torch.int32),
            t.to(torch.complex64),
            t.reshape(-1),
            t[:0],
            t.to_sparse(),
            torch.zeros(1).expand(10**10),
            t.to(torch.float64) * 1e300,
            None,
            3,
            "x",
            [t],
            {"a": t},
        )
    )
    return torch_bytes({"model": {**SPEC, "sd": state}, "data_norm": NORM})


def _norm_of(rng: random.Random) -> bytes:
    value = rng.choice(
        (0, [], "x", {"inp": 3}, {"inp": {"sub": ["a"], "div": [1]}, "gt": None}, {"inp": {"sub": [0], "div": [0]}})
    )
    if rng.random() < 0.5:
        value = {p: {"sub": [rng.choice((float("nan"), 1e300, 0.0))], "div": [rng.choice((0.0, 1e-300))]} for p in NORM}
    return torch_bytes({"model": {**SPEC, "sd": identity()}, "data_norm": value})


def _bytearray(rng: random.Random) -> bytes:
    size = rng.choice((10**8, 10**9, 10**10, 10**12, 2**63 - 1))
    program = b"\x80\x04c" + rng.choice((b"builtins\nbytearray\n", b"__builtin__\nbytearray\n"))
    program += pickle.dumps((size,), 2)[2:-1] + b"R."
    return with_pickle(program) if rng.random() < 0.5 else program


def _deflated(rng: random.Random) -> bytes:
    """A storage of many zeros in a small file."""
    size = 300_000_000 if rng.random() < 0.3 else 40_000_000
    return with_pickle(_data_pkl(), zipfile.ZIP_DEFLATED, **{rng.choice(("0", "1", "9", "version")): bytes(size)})


def _data_pkl() -> bytes:
    with zipfile.ZipFile(io.BytesIO(torch_bytes(official()))) as file:
        return next(file.read(name) for name in file.namelist() if name.endswith("data.pkl"))


def _deep(rng: random.Random) -> bytes:
    depth = rng.choice((50, 900, 100_000))
    kind = rng.choice((b"]", b"}"))
    step = (b"a" if kind == b"]" else b"s") * depth
    body = (kind if kind == b"]" else kind + _text("model")) * depth + b"N" + step
    return with_pickle(b"\x80\x04" + body + b".")


def _loop(rng: random.Random) -> bytes:
    """A mapping that holds itself."""
    return with_pickle(b"\x80\x04}q\0" + _text(rng.choice(("model", "state_dict", "params"))) + b"h\0s.")


def _many_keys(rng: random.Random) -> bytes:
    return torch_bytes({"state_dict": {f"encoder.body.{i}.weight": torch.zeros(1) for i in range(3000)}})


def _header(rng: random.Random) -> bytes:
    """safetensors: a header that does not fit what follows."""
    size = struct.unpack("<Q", ours()[:8])[0]
    text, body = ours()[8 : 8 + size].decode(), ours()[8 + size :]
    change = rng.randrange(6)
    if change == 0:
        text = text.replace("edsr-baseline", "edsr-b" + "x" * rng.choice((1, 10**6)))
    elif change == 1:
        text = text.replace('\\"n_feats\\": 4', '\\"n_feats\\": 1000000000')
    elif change == 2:
        text = text.replace("F32", rng.choice(("F64", "I8", "BF16", "BOOL", "X9")), 1)
    elif change == 3:
        text = "[" * 100_000
    elif change == 4:
        text = text.replace('\\"spec\\": ', '\\"spec\\": ' + "[" * 5000 + "]" * 5000 + ', \\"x\\": ')
    else:
        return struct.pack("<Q", rng.choice((2**63, 10**8, 0, 7))) + text.encode() + body
    return struct.pack("<Q", len(text.encode())) + text.encode() + body


def _bare(rng: random.Random) -> bytes:
    """A bare state dict; whether the ensemble was on cannot be seen, so the result is not the identity."""
    prefix = rng.choice(("", "module.", "_orig_mod.", "model.", "generator."))
    state = {prefix + key: t.contiguous() for key, t in identity().items()}
    if rng.random() < 0.5:
        return safetensors.torch.save(state)
    return torch_bytes(rng.choice((state, {"state_dict": state}, {"params_ema": state}, {"a": {"b": state}})))


def _other(rng: random.Random) -> bytes:
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    return rng.choice(
        (b"", b"\x80", b"PK", b"PK\3\4", b"hello", array.getvalue(), bytes(10**6), b"version https://git-lfs")
    )


SPECIAL = {
    "spec": _spec_of,
    "spec-again": _spec_of,
    "state": _wrong_state,
    "norm": _norm_of,
    "bytearray": _bytearray,
    "deflated": _deflated,
    "deep": _deep,
    "loop": _loop,
    "many-keys": _many_keys,
    "header": _header,
    "bare": _bare,
    "other": _other,
}
