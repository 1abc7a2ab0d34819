"""What a state dict holds: whose format it is, and the LIIF that fits it. Keys and shapes only, no files.

| format    | recognised by                    | residual scale                     | images in [0, 1] become       |
|-----------|----------------------------------|------------------------------------|-------------------------------|
| official  | ``encoder.*``, ``imnet.*``       | the official registry's defaults   | (x - 0.5) / 0.5               |
| Lornatang | ``encoder.conv1``, ``mlp``       | 0.1                                | x                             |
| mmagic    | ``conv_first`` (EDSR), ``sfe1``  | 1                                  | EDSR: x - (.4488, .4371, .4040) |
|           | (RDN), under ``generator.``      |                                    | RDN: (x - 0.5) / 0.5          |

The official format is github.com/yinboc/liif's, whose names everything else is renamed to. Lornatang is
github.com/Lornatang/LIIF-PyTorch; mmagic (once mmediting) is github.com/open-mmlab/mmagic, with the normalisation of
its two LIIF configurations. The three compute the same function of their weights: same corners, areas, input order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..base.shown import shown
from . import sets as weight_sets
from .sets import State

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
# (blocks, width) of the official EDSR; its baseline has width 64 and a residual scale of 1
_EDSR = (32, 256)
_RDN = {(20, 6, 32): "A", (16, 8, 64): "B"}
_GIVE_SPEC = "give the model's spec, liif_fast.load(path, spec={'name': 'liif', 'args': {...}})"


def read(raw: Any, spec: Mapping[str, Any] | None = None) -> Contents:
    """Model spec, state dict in official names, and normalisation of what ``torch.load`` returned.

    ``spec`` replaces the checkpoint's own, or the one that would be inferred from keys and shapes.

    Raises:
        ValueError: not a checkpoint of a LIIF, or one whose architecture cannot be seen.
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
    blocks = _count(state, r"(?:encoder\.trunk|body)\.(\d+)\.")
    renamed = {_rename(key, foreign.renames, blocks): t for key, t in state.items()}
    return Contents(infer_spec(renamed, foreign.res_scale) if spec is None else spec, renamed, foreign.data_norm)


def infer_spec(state: State, res_scale: float | None = None) -> dict[str, Any]:
    """The spec of a LIIF in official names, from keys and shapes alone.

    What leaves no trace there: ``local_ensemble`` (taken as True, the default) and EDSR's residual scale (the official
    registry's for its two sizes: 1 for 64 channels, 0.1 for 32 blocks of 256; else an error unless given here).

    Raises:
        ValueError: this is no LIIF, or a part of it is not what liif_fast builds by itself.
    """
    if not any(key.startswith("encoder.") for key in state):
        raise ValueError(f"these are not the weights of a LIIF (it has {some(state)}); {_GIVE_SPEC}")
    if any(key.startswith(("encoder.tail.", "encoder.UPNet.")) for key in state):
        raise ValueError(f"its encoder upsamples (it has a tail), whose factor cannot be seen; {_GIVE_SPEC}")
    if "encoder.SFENet1.weight" in state:
        encoder, width = _rdn(state)
    elif _count(state, r"encoder\.body\.0\.body\.(\d+)\.body\."):
        encoder, width = _rcan(state)
    elif "encoder.head.0.weight" in state and _count(state, r"encoder\.body\.(\d+)\.body\."):
        encoder, width = _edsr(state, res_scale)
    else:
        raise ValueError(f"its encoder is none of edsr, rdn and rcan; {_GIVE_SPEC}")
    args = {"encoder_spec": encoder, "imnet_spec": None, "local_ensemble": True}
    if any(key.startswith("imnet.") for key in state):
        imnet, in_dim = _imnet(state)
        args |= {"imnet_spec": imnet, **_flags(in_dim, width)}
    return {"name": "liif", "args": args}


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


def some(keys: Iterable[str], most: int = 3) -> str:
    """A few keys for a message."""
    keys = sorted(keys)
    return (", ".join(keys[:most]) or "no tensors") + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _rename(key: str, renames: Iterable[tuple[str, str]], blocks: int) -> str:
    for pattern, new in renames:
        key, found = re.subn("^" + pattern, new.replace("{blocks}", str(blocks)), key)
        if found:
            return key
    return key


def _count(state: State, pattern: str) -> int:
    """How many different numbers stand where the pattern's group is."""
    return len({m[1] for key in state if (m := re.match(pattern, key))})


def _shape(state: State, key: str, ndim: int) -> tuple[int, ...]:
    if key not in state or state[key].ndim != ndim or 0 in state[key].shape:
        got = list(state[key].shape) if key in state else "nothing"
        raise ValueError(f"{key}: a tensor with {ndim} dimensions is wanted, got {got}; the file is incomplete")
    return tuple(state[key].shape)


def _edsr(state: State, res_scale: float | None) -> tuple[dict[str, Any], int]:
    width = _shape(state, "encoder.head.0.weight", 4)[0]
    blocks = _count(state, r"encoder\.body\.(\d+)\.body\.")
    if res_scale is None and width != 64 and (blocks, width) != _EDSR:
        raise ValueError(
            f"an EDSR of {blocks} blocks and {width} channels is none of the official ones, and its res_scale cannot "
            f"be seen from the weights; {_GIVE_SPEC}"
        )
    name, default = ("edsr", 0.1) if (blocks, width) == _EDSR else ("edsr-baseline", 1)
    scale = default if res_scale is None else res_scale
    return _spec(name, n_resblocks=blocks, n_feats=width, res_scale=scale, no_upsampling=True), width


def _rdn(state: State) -> tuple[dict[str, Any], int]:
    g0, _, k, _ = _shape(state, "encoder.SFENet1.weight", 4)
    growth = _shape(state, "encoder.RDBs.0.convs.0.conv.0.weight", 4)[0]
    size = (_count(state, r"encoder\.RDBs\.(\d+)\."), _count(state, r"encoder\.RDBs\.0\.convs\.(\d+)\."), growth)
    if size not in _RDN:
        raise ValueError(
            f"an RDN of {size[0]} blocks with {size[1]} layers of {growth} channels is neither configuration A nor B; "
            "register an encoder that builds it and give its spec"
        )
    return _spec("rdn", G0=g0, RDNkSize=k, RDNconfig=_RDN[size], no_upsampling=True), g0


def _rcan(state: State) -> tuple[dict[str, Any], int]:
    width = _shape(state, "encoder.head.0.weight", 4)[0]
    squeezed = _shape(state, "encoder.body.0.body.0.body.3.conv_du.0.weight", 4)[0]
    groups = _count(state, r"encoder\.body\.(\d+)\.body\.")
    blocks = _count(state, r"encoder\.body\.0\.body\.(\d+)\.body\.")
    args = {"n_resgroups": groups, "n_resblocks": blocks, "n_feats": width, "reduction": width // squeezed}
    return _spec("rcan", **args, no_upsampling=True), width


def _spec(name: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


def _imnet(state: State) -> tuple[dict[str, Any], int]:
    keys = {key for key in state if key.startswith("imnet.")}
    count = _count(state, r"imnet\.layers\.(\d+)\.weight$")
    weights = [f"imnet.layers.{2 * i}.weight" for i in range(count)]
    if keys != {k.removesuffix("weight") + end for k in weights for end in ("weight", "bias")}:
        raise ValueError(f"its imnet is not a plain MLP ({some(keys)}); {_GIVE_SPEC}")
    shapes = [_shape(state, key, 2) for key in weights]
    *hidden, out_dim = (s[0] for s in shapes)
    return _spec("mlp", out_dim=out_dim, hidden_list=hidden), shapes[0][1]


def _flags(in_dim: int, width: int) -> dict[str, bool]:
    for unfold in (True, False):
        for cell in (True, False):
            if in_dim == width * (9 if unfold else 1) + (4 if cell else 2):
                return {"feat_unfold": unfold, "cell_decode": cell}
    raise ValueError(f"its imnet takes {in_dim} inputs, which an encoder of {width} channels cannot give; {_GIVE_SPEC}")
