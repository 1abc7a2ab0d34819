"""Models in folders and repositories of the Hugging Face Hub: ``from_pretrained``, ``save_pretrained``, their card."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..base.shown import shown
from . import checkpoints, hub
from .state_dicts import default_norm

Figures = Mapping[str, float | str]


def load(
    name: str | os.PathLike[str],
    device: torch.device | str | None = None,
    wanted: type = nn.Module,
    revision: str | None = None,
    **options: Any,
) -> Any:
    """The model of a folder or a repository; see ``ImageInterface.from_pretrained``."""
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"from_pretrained: 'user/name' or a folder is wanted, got a {type(name).__name__}")
    if not isinstance(revision, str | None):
        raise TypeError(f"revision: a text is wanted, got {shown(revision)}")
    if os.path.isdir(name):
        if revision is not None:
            raise ValueError(f"revision: {os.fspath(name)} is a folder, which has none; leave {shown(revision)} out")
        folder = Path(name)
    elif isinstance(name, str):
        if hub.is_address(name):
            raise checkpoints.UnknownModelError(
                f"{name}: 'user/name' is wanted here, without hf://, and revision=...; liif_fast.load takes addresses"
            )
        folder = hub.fetch(name, revision=revision, **options)
    else:
        raise checkpoints.UnknownModelError(f"{os.fspath(name)}: there is no such folder")
    model, notes = checkpoints.load_with_notes(hub.find(folder), device)
    for note in notes:
        warnings.warn(note, checkpoints.CheckpointNote, stacklevel=3)
    if not isinstance(model, wanted):
        kind = type(model).__name__
        raise checkpoints.CheckpointError(f"{name}: a {wanted.__name__} is wanted, it holds a {kind}; use that class")
    return model


def save(model: nn.Module, folder: str | os.PathLike[str], **about: Any) -> None:
    """See ``ImageInterface.save_pretrained``."""
    writing = _writing(model, "USER/NAME", **about)
    folder = Path(folder)
    if (folder / hub.CARD).exists():
        warnings.warn(
            f"{folder / hub.CARD} is there and stays as it is; delete it first for a card of this model",
            checkpoints.CheckpointNote,
            stacklevel=3,
        )
    hub.save(folder, writing)


def push(model: nn.Module, name: str, about: Mapping[str, Any], **options: Any) -> str:
    """See ``ImageInterface.push_to_hub``."""
    return hub.push(name, _writing(model, name, **about), **options)


def _writing(
    model: nn.Module, name: str, license: str | None = None, figures: Figures | None = None, credit: str | None = None
) -> hub.Writing:
    for key, value in (("license", license), ("credit", credit)):
        if not isinstance(value, str | None):
            raise TypeError(f"{key}: a text is wanted, got {shown(value)}")
    about = json.loads(checkpoints.about_of(model, credit))  # before a file or a repository is made
    spec, data_norm = about["spec"], about["data_norm"]
    kind = type(model).__name__
    config = {"library_name": "liif_fast", "architectures": [kind], "spec": spec, "data_norm": data_norm}
    return hub.Writing(
        write=lambda path: checkpoints.save(model, path, credit=credit),
        config=config,
        card=_card(model, about, name, _rows(figures or {})),
        tags=[str(spec["name"])],
        licence=license,
    )


def _card(model: nn.Module, about: Mapping[str, Any], name: str, figures: list[str]) -> str:
    spec = about["spec"]
    state = list(model.state_dict().values())
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in state if t.is_floating_point()})
    encoder = (spec.get("args") or {}).get("encoder_spec")
    title = f"{type(model).__name__} on {encoder['name']}" if isinstance(encoder, Mapping) else type(model).__name__
    facts = {
        "spec": f"`{json.dumps(spec)}`",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "dtype": ", ".join(dtypes),
        "normalisation": f"`{json.dumps(about['data_norm'] or default_norm())}`",
        "written by": f"liif_fast {about['version']}",
        **({"credit": about["credit"]} if "credit" in about else {}),
    }
    lines = [
        f"# {title}",
        "",
        f"A model of liif_fast that upscales images; weights, architecture and normalisation are in `{hub.WEIGHTS}`.",
        "",
        "```python",
        "import liif_fast  # with its extra `hub`",
        "import PIL.Image",
        f'model = liif_fast.load("hf://{name}")',
        'large = model.upscale(PIL.Image.open("photo.jpg"), scale=4)',
        "```",
        "",
        "| | |",
        "|---|---|",
        *_rows(facts),
    ]
    if figures:
        lines += ["", "## Figures", "", "| | |", "|---|---|", *figures]
    return "\n".join(lines) + "\n"


def _rows(cells: Mapping[str, Any]) -> list[str]:
    """Of a table of Markdown."""
    if not isinstance(cells, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str | int | float) for key, value in cells.items()
    ):
        raise TypeError(f"figures: a mapping from names to numbers or texts is wanted, got {shown(cells)}")
    return [f"| {_cell(key)} | {_cell(value)} |" for key, value in cells.items()]


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
