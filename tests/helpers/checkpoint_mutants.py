"""Small checkpoints of the three forms, and damaged copies of them from a seed."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import torch

import liif_fast

SPEC = {
    "name": "liif",
    "args": {
        "encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 2, "no_upsampling": True}},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [4]}},
    },
}
FORMS = ("zip", "legacy", "safetensors")
_NUMBERS = (0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 10**10, 2**40, 2**63 - 1, 2**64 - 1)


def content(form: str, folder) -> bytes:
    """A whole checkpoint, official if it is torch's."""
    torch.manual_seed(1)
    model = liif_fast.make(SPEC)
    if form == "safetensors":
        model.save(folder / "whole")
        return (folder / "whole").read_bytes()
    raw = {"model": {**SPEC, "sd": model.state_dict()}, "optimizer": {"lr": 1e-4}, "epoch": 7}
    data = io.BytesIO()
    torch.save(raw, data, _use_new_zipfile_serialization=form == "zip")
    return data.getvalue()


def mutants(data: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """Without end: what was done, and the damaged bytes."""
    rng = random.Random(seed)
    n = len(data)
    while True:
        at, kind = (
            rng.randrange(n),
            rng.choice(("bit", "bit", "bit", "byte", "cut", "swap", "number", "zeros", "drop", "twice")),
        )
        if rng.random() < 0.5 and kind != "cut":  # most of what decides lies near both ends
            at = rng.choice((at % 600, n - 1 - at % 1200)) % n
        end = min(n, at + rng.choice((1, 2, 4, 8, 64, 512)))
        out = bytearray(data)
        if kind == "bit":
            out[at] ^= 1 << rng.randrange(8)
        elif kind == "byte":
            out[at] = rng.randrange(256)
        elif kind == "cut":
            del out[at:]
        elif kind == "swap":
            other = rng.randrange(n)
            out[at], out[other] = out[other], out[at]
        elif kind == "number":
            width = rng.choice((2, 4, 8))
            number = rng.choice(_NUMBERS) % 256**width
            out[at : at + width] = number.to_bytes(width, "little")
        elif kind == "zeros":
            out[at:end] = bytes(end - at)
        elif kind == "drop":
            del out[at:end]
        else:
            out[at:at] = data[at:end]
        if bytes(out) != data:
            yield f"{kind} at {at} to {end}", bytes(out)
