"""Which configuration runs on a card, or that plain PyTorch does: what ``liif-fast tune`` measured there as the
fastest, else the table's first, and for float32 plain PyTorch.

The measurements are kept as JSON in the user's cache folder (``LIIF_FAST_CACHE`` moves it), one entry for each card and
version of triton. A file that cannot be used is left alone, with one warning.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import warnings
from pathlib import Path
from typing import Any

import torch

from ...base import atomic
from .configs import KINDS, WIDTHS, Config, candidates, family
from .eligible import interpreted

VERSION = 2  # of the file: what is measured, and against what


def path() -> Path:
    """Where the measurements are kept; the file need not exist."""
    from ...weights.pretrained import cache_dir

    return cache_dir() / "triton.json"


def card(device: torch.device | None = None) -> str:
    """What a measurement holds for: the card and triton's version."""
    return f"{torch.cuda.get_device_name(device)}, triton {importlib.metadata.version('triton')}"


def kind_of(name: str, hidden: torch.Tensor) -> str:
    """The kind of numbers of the operator ``name`` with this hidden map."""
    if name == "render_int8":
        return "int8"
    return "float32" if hidden.dtype == torch.float32 else "half"


@functools.cache
def choose(kind: str, D: int, device: torch.device) -> Config | None:
    """What runs for a kind of numbers and a width of the hidden layers on a device; None: plain PyTorch, which is
    faster there."""
    if device.type != "cuda":
        assert interpreted()
        return candidates(80, kind, D)[0]
    measured = load().get(card(device), {})
    if f"{kind}-{D}" in measured:
        return measured[f"{kind}-{D}"]
    # Three products of tf32 for one of float32, by mma.sync and few rows at a time: on an H100 this took several times
    # as long as the matrix library (benchmarks/GPU.md).
    return None if kind == "float32" else first(kind, D, device)


def first(kind: str, D: int, device: torch.device) -> Config:
    """The table's first configuration of the fused kernel for a CUDA device."""
    return candidates(family(torch.cuda.get_device_capability(device)), kind, D)[0]


def load(file: Path | None = None) -> dict[str, dict[str, Config | None]]:
    """{card: {"half-256": configuration, or None for plain PyTorch}} of the user's file; empty without one, or if it
    cannot be used."""
    file = file or path()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        return _ignored(file, str(error))
    try:
        found = json.loads(text)
        if found["version"] != VERSION:
            return _ignored(file, f"it is of version {found['version']}, {VERSION} is wanted")
        return {name: {key: _config(key, c) for key, c in entry.items()} for name, entry in found["cards"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _ignored(file, f"{type(error).__name__}: {error}")


def _config(key: str, fields: Any) -> Config | None:
    """None, or a configuration that this version ships for some architecture: any other could be wrong, or not fit a
    card."""
    kind, D = key.rsplit("-", 1)
    if kind not in KINDS or int(D) not in WIDTHS:
        raise ValueError(f"{key} is no kind of numbers and width")
    if fields is None:
        return None
    config = Config(**fields)
    if not any(config in candidates(architecture, kind, int(D)) for architecture in (80, 89, 90, 100, 120)):
        raise ValueError(f"{key} has a configuration that this version does not know")
    return config


@functools.cache
def _ignored(file: Path, why: str) -> dict[str, dict[str, Config | None]]:
    warnings.warn(f"{file} is not used: {why}. `liif-fast tune` makes it anew.", stacklevel=2)
    return {}


def save(measured: dict[str, Config | None], device: torch.device | None = None) -> Path:
    """Keep what was measured on a card; other cards' entries stay."""
    file = path()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file that cannot be read is replaced
        cards = load()
    cards[card(device)] = {**cards.get(card(device), {}), **measured}
    entries = {name: {key: c and c._asdict() for key, c in entry.items()} for name, entry in cards.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(file) as part:
        Path(part).write_text(json.dumps({"version": VERSION, "cards": entries}, indent=1), encoding="utf-8")
    choose.cache_clear()
    _ignored.cache_clear()
    return file
