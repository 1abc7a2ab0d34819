"""What a state dict holds: whose format it is, and the model that fits it. Keys and shapes only, no files.

| format    | recognised by                    | residual scale                     | images in [0, 1] become       |
|-----------|----------------------------------|------------------------------------|-------------------------------|
| official  | ``encoder.*``, ``imnet.*``       | the official registry's defaults   | (x - 0.5) / 0.5               |
| LTE's     | and ``coef.*``, ``freq.*``       | likewise                           | likewise                      |
| Lornatang | ``encoder.conv1``, ``mlp``       | 0.1                                | x                             |
| mmagic    | ``conv_first`` (EDSR), ``sfe1``  | 1                                  | EDSR: x - (.4488, .4371, .4040) |
|           | (RDN), under ``generator.``      |                                    | RDN: (x - 0.5) / 0.5          |

The official format is github.com/yinboc/liif's, whose names everything else is renamed to; LTE's is
github.com/jaewon-lee-b/lte's, the same with more models (``architectures``). Lornatang is
github.com/Lornatang/LIIF-PyTorch; mmagic (once mmediting) is github.com/open-mmlab/mmagic, with the normalisation of
its two LIIF configurations. All compute the same function of a LIIF's weights: same corners, areas, input order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..base.shown import shown
from . import sets as weight_sets
from .architectures import count, infer_spec, some
from .sets import State

__all__ = ["CheckpointError", "Contents", "UnknownModelError", "check_data_norm", "infer_spec", "read", "some"]

DataNorm = dict[str, dict[str, list[float]]]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, used or written. One line: the file, what is wrong, what to do."""


class UnknownModelError(CheckpointError):
    """Neither a file nor a known name."""


@dataclass(frozen=True)
class Contents:
    """What a checkpoint says. ``data_norm`` None: it says nothing, the model's default holds. ``notes``: for people."""

    spec: Mapping[str, Any]
    state: State
    data_norm: DataNorm | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Foreign:
    """A format with other names. ``{blocks}`` in a new name: how many residual blocks there are."""

    mark: str  # a key that only this format has
    renames: tuple[tuple[str, str], ...]
    res_scale: float
    data_norm: DataNorm


def _norm(sub: list[float], div: list[float]) -> DataNorm:
    return {key: {"sub": list(sub), "div": list(div)} for key in ("inp", "gt")}


def default_norm() -> DataNorm:
    """That of models which say nothing else, as in the official configurations: [0, 1] to [-1, 1] and back."""
    return _norm([0.5], [0.5])


_FOREIGN = (
    _Foreign(
        mark="encoder.conv1.weight",
        renames=(
            (r"encoder\.conv1\.", "encoder.head.0."),
            (r"encoder\.trunk\.(\d+)\.rcb\.", r"encoder.body.\1.body."),
            (r"encoder\.conv2\.", "encoder.body.{blocks}."),
            (r"mlp\.", "imnet."),
        ),
        res_scale=0.1,
        data_norm=_norm([0.0], [1.0]),
    ),
    _Foreign(
        mark="conv_first.weight",
        renames=(
            (r"conv_first\.", "encoder.head.0."),
            (r"body\.(\d+)\.conv1\.", r"encoder.body.\1.body.0."),
            (r"body\.(\d+)\.conv2\.", r"encoder.body.\1.body.2."),
            (r"conv_after_body\.", "encoder.body.{blocks}."),
        ),
        res_scale=1,
        data_norm=_norm([0.4488, 0.4371, 0.4040], [1.0]),
    ),
    _Foreign(
        mark="sfe1.weight",
        renames=(
            (r"sfe([12])\.", r"encoder.SFENet\1."),
            (r"rdbs\.(\d+)\.layers\.(\d+)\.conv\.", r"encoder.RDBs.\1.convs.\2.conv.0."),
            (r"rdbs\.(\d+)\.lff\.", r"encoder.RDBs.\1.LFF."),
            (r"gff\.", "encoder.GFF."),
        ),
        res_scale=1,
        data_norm=_norm([0.5], [0.5]),
    ),
)


def read(raw: Any, spec: Mapping[str, Any] | None = None) -> Contents:
    """Model spec, state dict in official names, and normalisation of what ``torch.load`` returned.

    ``spec`` replaces the checkpoint's own, or the one that would be inferred from keys and shapes.

    Raises:
        ValueError: not a checkpoint of a LIIF or its kin, or one whose architecture cannot be seen.
    """
    if not isinstance(raw, Mapping):
        kind = type(raw).__name__
        raise ValueError(f"a dictionary of tensors is wanted, but it holds a {kind}; save model.state_dict()")
    data_norm = check_data_norm(raw["data_norm"]) if raw.get("data_norm") is not None else None
    model = raw.get("model")
    if isinstance(model, Mapping) and isinstance(model.get("name"), str):
        if not isinstance(model.get("sd"), Mapping):
            raise ValueError("it has the spec of a model but no weights ('sd'); save it after training")
        own = {"name": model["name"], "args": model.get("args")}
        state, notes = weight_sets.beside(model["sd"], raw)
        return Contents(own if spec is None else spec, state, data_norm, notes)
    state, notes = weight_sets.choose(raw)
    contents = read_state(state, spec)
    return replace(contents, data_norm=contents.data_norm if data_norm is None else data_norm, notes=notes)


def read_state(state: Mapping[str, Any], spec: Mapping[str, Any] | None = None) -> Contents:
    """``read`` for a bare state dict of any of the formats."""
    state = weight_sets.tensors_of(state)
    foreign = next((f for f in _FOREIGN if f.mark in state), None)
    if foreign is None:
        return Contents(infer_spec(state) if spec is None else spec, state)
    blocks = count(state, r"(?:encoder\.trunk|body)\.(\d+)\.")
    renamed = {_rename(key, foreign.renames, blocks): t for key, t in state.items()}
    return Contents(infer_spec(renamed, foreign.res_scale) if spec is None else spec, renamed, foreign.data_norm)


def check_data_norm(data_norm: Any) -> DataNorm:
    """The same as plain lists of floats.

    Raises:
        ValueError: not of the form ``{'inp': {'sub': [...], 'div': [...]}, 'gt': {...}}`` with finite numbers.
    """
    try:
        plain = {k: {n: [float(v) for v in data_norm[k][n]] for n in ("sub", "div")} for k in ("inp", "gt")}
    except (TypeError, KeyError, ValueError, IndexError, OverflowError):
        raise ValueError(
            "data_norm: {'inp': {'sub': [...], 'div': [...]}, 'gt': {...}} of numbers is wanted, "
            f"got {shown(data_norm)}"
        ) from None
    for part in plain.values():
        if not all(part.values()) or not all(math.isfinite(v) for values in part.values() for v in values):
            raise ValueError(f"data_norm: finite numbers, at least one each, are wanted, got {shown(plain)}")
        if 0.0 in part["div"]:
            raise ValueError(f"data_norm: div is a divisor and must not be 0, got {shown(plain)}")
    return plain


def _rename(key: str, renames: Iterable[tuple[str, str]], blocks: int) -> str:
    for pattern, new in renames:
        key, found = re.subn("^" + pattern, new.replace("{blocks}", str(blocks)), key)
        if found:
            return key
    return key
