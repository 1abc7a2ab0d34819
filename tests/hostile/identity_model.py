"""A LIIF that gives back at x1 the picture that it gets, to the last bit of 16, and files of it."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import torch

FEATURES = 4
SPEC = {
    "name": "liif",
    "args": {
        "encoder_spec": {
            "name": "edsr-baseline",
            "args": {"n_resblocks": 1, "n_feats": FEATURES, "no_upsampling": True},
        },
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [4, 4]}},
        "local_ensemble": False,  # at x1 on every pixel's centre, also on the last row and column
    },
}
NORM = {part: {"sub": [0.0], "div": [1.0]} for part in ("inp", "gt")}


@functools.cache
def identity() -> dict[str, torch.Tensor]:
    """Its weights: colours are 0 or more, so ReLU passes them."""
    import liif_fast

    model = liif_fast.make(SPEC)
    state = {key: torch.zeros_like(t) for key, t in model.state_dict().items()}
    for c in range(3):
        state["encoder.head.0.weight"][c, c, 1, 1] = 1
        state["imnet.layers.0.weight"][c, 9 * c + 4] = 1  # the middle of the 3x3 neighbourhood
        for layer in (2, 4):
            state[f"imnet.layers.{layer}.weight"][c, c] = 1
    return state


def official() -> dict[str, Any]:
    return {"model": {**SPEC, "sd": identity()}, "data_norm": NORM}


def write_identity(path: Path) -> Path:
    path.write_bytes(torch_bytes(official()))
    return path


def torch_bytes(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


@functools.cache
def ours() -> bytes:
    """What ``liif_fast.save`` writes."""
    import tempfile

    import liif_fast
    from liif_fast.weights import checkpoints

    model = liif_fast.make(SPEC)
    model.load_state_dict(identity())
    model.data_norm = NORM
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        checkpoints.save(model, path)
        return path.read_bytes()
