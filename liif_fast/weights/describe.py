"""What a checkpoint holds, for people: architecture, size, normalisation, how far it was trained."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

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
        liif_fast that wrote it) and ``notes``; of a model with an encoder ``encoder``, ``channels``,
        ``receptive_field``, ``halo`` (of exact tiles: pixels of the input around one; None: there are none) and
        ``pad_to`` (of a LIIF and its kin: at whose multiples tiles begin), ``hidden_dim`` (of an LTE), ``imnet`` or, of
        LTE+, ``layers`` (outputs of each), and the flags that its class has.

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
    radius = getattr(encoder, "receptive_field", None)
    found = {
        "encoder": type(encoder).__name__,
        "channels": getattr(encoder, "out_dim", None),
        "receptive_field": radius,
    }
    own = model._own("gen_feat", "query_rgb", "query", "forward", "render") if hasattr(model, "_own") else []
    if own:  # its colours are another matter than its layers say
        return found | {"own": own, "halo": None}
    if hasattr(model, "reach"):
        found |= {"halo": None if radius is None else radius + model.reach, "pad_to": getattr(model, "pad_to", 1)}
    if isinstance(coef := getattr(model, "coef", None), nn.Conv2d):
        found["hidden_dim"] = coef.out_channels
    plus = imnet is None and isinstance(getattr(model, "layers", None), nn.Module)
    found["layers" if plus else "imnet"] = _outputs(model.layers if plus else imnet)
    spec = getattr(model, "spec", None)
    # LTE has LIIF's attributes, not its arguments
    given = spec.get("args") or {} if isinstance(spec, Mapping) else vars(model)
    return found | {name: bool(getattr(model, name)) for name in FLAGS if name in given}


def _outputs(mlp: nn.Module | None) -> list[int]:
    """Of each of its layers; LTE+'s are convolutions."""
    layers = mlp.modules() if mlp is not None else ()
    return [t.weight.shape[0] for t in layers if isinstance(t, nn.Linear | nn.Conv2d)]


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
