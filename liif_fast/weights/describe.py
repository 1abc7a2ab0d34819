"""What a checkpoint holds, for people: architecture, size, normalisation, how far it was trained."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from . import checkpoints, hub, pretrained
from . import checks as weight_checks
from . import files as weight_files
from .state_dicts import CheckpointError, default_norm

FLAGS = ("local_ensemble", "feat_unfold", "cell_decode")


def describe(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """Facts of a checkpoint that JSON can hold: it is built and checked as ``checkpoints.load`` does, and fetched only
    from the Hugging Face Hub (``hf://``).

    Returns:
        ``class``, ``spec``, ``parameters`` (their number), ``dtype``, ``bytes`` (of the file), ``data_norm``,
        ``training`` (epoch, iteration, optimizer: what of it the file says), ``credit``, ``version`` (of the
        liif_fast that wrote it) and ``notes``; for a LIIF ``encoder``, ``channels``, ``receptive_field``, ``imnet``
        (outputs of its layers) and its flags.

    Raises:
        CheckpointError: no such file or name, one that has not been fetched yet, or one that ``load`` refuses.
    """
    path = _path(name_or_path)
    model, notes = checkpoints.load_with_notes(path)
    raw, metadata = weight_files.read(path)
    own = json.loads((metadata or {}).get(weight_checks.ABOUT, "{}"))  # which has been read without an error
    states = list(model.state_dict().values())
    floats = sorted({str(t.dtype).removeprefix("torch.") for t in states if t.is_floating_point()})
    return {
        "class": type(model).__name__,
        "spec": getattr(model, "spec", None),
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": ", ".join(floats),
        "bytes": path.stat().st_size,
        "data_norm": getattr(model, "data_norm", None) or default_norm(),
        **_of_liif(model),
        "training": _training(raw) if not own and isinstance(raw, Mapping) else {},
        "credit": own.get("credit"),
        "version": own.get("version"),
        "notes": [note.removeprefix(f"{path}: ") for note in notes],
    }


def _path(name_or_path: str | os.PathLike[str]) -> Path:
    if isinstance(name_or_path, str) and hub.is_address(name_or_path):
        return hub.find_address(name_or_path)
    if name_or_path not in pretrained.names():
        return Path(name_or_path)
    about = next(a for a in pretrained.about() if a.name == name_or_path)
    if about.path is None:
        raise CheckpointError(f"{about.name}: its weights are not here yet, the first use fetches them; give a file")
    return about.path


def _of_liif(model: Any) -> dict[str, Any]:
    encoder, imnet = getattr(model, "encoder", None), getattr(model, "imnet", None)
    if encoder is None:
        return {}
    layers = [m for m in imnet.modules() if isinstance(m, torch.nn.Linear)] if imnet is not None else []
    return {
        "encoder": type(encoder).__name__,
        "channels": getattr(encoder, "out_dim", None),
        "receptive_field": getattr(encoder, "receptive_field", None),
        "imnet": [layer.out_features for layer in layers],
        **{name: bool(getattr(model, name)) for name in FLAGS if hasattr(model, name)},
    }


def _training(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint of a training program says beside its weights."""
    found: dict[str, Any] = {k: raw[k] for k in ("epoch", "iteration", "iter", "step") if isinstance(raw.get(k), int)}
    optimizer = raw.get("optimizer")
    if isinstance(optimizer, Mapping) and isinstance(optimizer.get("name"), str):
        args = optimizer.get("args")
        plain = args if isinstance(args, Mapping) else {}
        found["optimizer"] = {
            "name": optimizer["name"],
            **{str(k): v for k, v in plain.items() if isinstance(v, int | float | str)},
        }
    return found
