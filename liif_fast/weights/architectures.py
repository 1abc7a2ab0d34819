"""Which model a state dict is of, in official names: its spec from keys and shapes alone.

| model    | beside ``encoder.*``                                  |
|----------|-------------------------------------------------------|
| liif     | ``imnet.*``, or nothing                               |
| metasr   | ``imnet.*`` of three inputs                           |
| lte      | ``coef.*``, ``freq.*``, ``phase.weight``, ``imnet.*`` |
| lte-fast | ``coef.*``, ``freq.*``, ``phase.weight``, ``layers.*``|

Whatever is there beside these, or is not as it should be, is found when the weights are put into the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from .sets import State

# (blocks, width) of the official EDSR; its baseline has width 64 and a residual scale of 1
_EDSR = (32, 256)
_RDN = {(20, 6, 32): "A", (16, 8, 64): "B"}
# SwinIR by the official name, which takes no sizes
_SWINIR = {
    "img_size": 48,
    "in_chans": 3,
    "embed_dim": 180,
    "depths": [6] * 6,
    "num_heads": [6] * 6,
    "window_size": 8,
    "mlp_ratio": 2.0,
    "qkv_bias": True,
    "patch_norm": True,
    "resi_connection": "1conv",
}
_UPSAMPLING = ("tail.", "UPNet.", "upsample.", "conv_up1.", "conv_last.")  # of EDSR and RCAN, of RDN, of SwinIR
_WAVES = ("coef.weight", "coef.bias", "freq.weight", "freq.bias", "phase.weight")


def _give_spec(name: str = "liif") -> str:
    return f"give the model's spec, liif_fast.load(path, spec={{'name': '{name}', 'args': {{...}}}})"


_GIVE_SPEC = _give_spec()


def infer_spec(state: State, res_scale: float | None = None) -> dict[str, Any]:
    """The spec of a model in official names, from keys and shapes alone.

    What leaves no trace there is taken as the official registry has it: ``local_ensemble`` (True); SwinIR's scale of
    the attention and what is of training only (dropout, stochastic depth, recomputation); EDSR's residual scale (1 for
    64 channels, 0.1 for 32 blocks of 256; else an error unless given here).

    Raises:
        ValueError: this is no LIIF, LTE or MetaSR, or a part of it is not what liif_fast builds by itself, or missing.
    """
    if not any(key.startswith("encoder.") for key in state):
        raise ValueError(f"these are not the weights of a LIIF (it has {some(state)}); {_GIVE_SPEC}")
    tops = {key.partition(".")[0] for key in state}
    waves = bool(tops & {"coef", "freq", "phase", "layers"})
    try:
        encoder, width = _encoder(state, res_scale)
    except ValueError as error:
        raise ValueError(str(error).replace(_GIVE_SPEC, _give_spec("lte"))) if waves else error from None
    if waves:
        return _lte(state, encoder, "layers" in tops)
    args: dict[str, Any] = {"encoder_spec": encoder, "imnet_spec": None, "local_ensemble": True}
    if "imnet" in tops:
        imnet, in_dim = _mlp(state, "imnet.layers.", 2)
        if in_dim == 3:
            return _spec("metasr", encoder_spec=encoder)
        args |= {"imnet_spec": _spec("mlp", **imnet), **_flags(in_dim, width)}
    return {"name": "liif", "args": args}


def some(keys: Iterable[str], most: int = 3) -> str:
    """A few keys for a message."""
    keys = sorted(keys)
    return (", ".join(keys[:most]) or "no tensors") + (f" and {len(keys) - most} more" if len(keys) > most else "")


def count(state: State, pattern: str) -> int:
    """How many different numbers stand where the pattern's group is."""
    return len({m[1] for key in state if (m := re.match(pattern, key))})


# --- encoders -------------------------------------------------------------------------------------------------------


def _encoder(state: State, res_scale: float | None) -> tuple[dict[str, Any], int]:
    """Its spec and the channels that it puts out."""
    if any(key.startswith(tuple(f"encoder.{name}" for name in _UPSAMPLING)) for key in state):
        raise ValueError(f"its encoder upsamples (it has a tail), whose factor cannot be seen; {_GIVE_SPEC}")
    if "encoder.SFENet1.weight" in state:
        return _rdn(state)
    if count(state, r"encoder\.body\.0\.body\.(\d+)\.body\."):
        return _rcan(state)
    if "encoder.head.0.weight" in state and count(state, r"encoder\.body\.(\d+)\.body\."):
        return _edsr(state, res_scale)
    if count(state, r"encoder\.layers\.(\d+)\.residual_group\."):
        return _swinir(state)
    raise ValueError(f"its encoder is none of edsr, rdn, rcan and swinir; {_GIVE_SPEC}")


def _edsr(state: State, res_scale: float | None) -> tuple[dict[str, Any], int]:
    width = _shape(state, "encoder.head.0.weight", 4)[0]
    blocks = count(state, r"encoder\.body\.(\d+)\.body\.")
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
    size = (count(state, r"encoder\.RDBs\.(\d+)\."), count(state, r"encoder\.RDBs\.0\.convs\.(\d+)\."), growth)
    if size not in _RDN:
        raise ValueError(
            f"an RDN of {size[0]} blocks with {size[1]} layers of {growth} channels is neither configuration A nor B; "
            "register an encoder that builds it and give its spec"
        )
    return _spec("rdn", G0=g0, RDNkSize=k, RDNconfig=_RDN[size], no_upsampling=True), g0


def _rcan(state: State) -> tuple[dict[str, Any], int]:
    width = _shape(state, "encoder.head.0.weight", 4)[0]
    squeezed = _shape(state, "encoder.body.0.body.0.body.3.conv_du.0.weight", 4)[0]
    groups = count(state, r"encoder\.body\.(\d+)\.body\.")
    blocks = count(state, r"encoder\.body\.0\.body\.(\d+)\.body\.")
    args = {"n_resgroups": groups, "n_resblocks": blocks, "n_feats": width, "reduction": width // squeezed}
    return _spec("rcan", **args, no_upsampling=True), width


def _swinir(state: State) -> tuple[dict[str, Any], int]:
    """Only what is not the official registry's stands in the spec, which then is that of the official code too."""
    layers = range(count(state, r"encoder\.layers\.(\d+)\.residual_group\."))
    groups = [f"encoder.layers.{i}.residual_group.blocks" for i in layers]
    tables = [_shape(state, f"{group}.0.attn.relative_position_bias_table", 2) for group in groups]
    embed_dim, in_chans, _, _ = _shape(state, "encoder.conv_first.weight", 4)
    window = (math.isqrt(tables[0][0]) + 1) // 2  # the table has (2 window - 1)^2 rows
    found = {
        "img_size": _image(state, window),
        "in_chans": in_chans,
        "embed_dim": embed_dim,
        "depths": [count(state, re.escape(group) + r"\.(\d+)\.") for group in groups],
        "num_heads": [heads for _, heads in tables],
        "window_size": window,
        "mlp_ratio": _shape(state, f"{groups[0]}.0.mlp.fc1.weight", 2)[0] / embed_dim,
        "qkv_bias": f"{groups[0]}.0.attn.qkv.bias" in state,
        "patch_norm": "encoder.patch_embed.norm.weight" in state,
        "resi_connection": "3conv" if "encoder.conv_after_body.0.weight" in state else "1conv",
    }
    args = {name: value for name, value in found.items() if value != _SWINIR[name]}
    width = _shape(state, "encoder.conv_before_upsample.0.weight", 4)[0]
    return _spec("swinir", **args, no_upsampling=True), width


def _image(state: State, window: int) -> int:
    """The side of the image that the masks are of: of each of its windows they have one."""
    masks = next((key for key in sorted(state) if key.endswith(".attn_mask")), None)
    if masks is None:  # no window is shifted
        return _SWINIR["img_size"] if window == _SWINIR["window_size"] else 2 * window  # type: ignore[return-value]
    windows = _shape(state, masks, 3)[0]
    if math.isqrt(windows) ** 2 != windows:
        raise ValueError(f"{masks} is of {windows} windows, which are no square image, as img_size; {_GIVE_SPEC}")
    return math.isqrt(windows) * window


# --- heads ----------------------------------------------------------------------------------------------------------


def _lte(state: State, encoder: dict[str, Any], plus: bool) -> dict[str, Any]:
    """LTE, or LTE+, whose MLP is of convolutions."""
    name = "lte-fast" if plus else "lte"
    if missing := set(_WAVES) - set(state):
        raise ValueError(
            f"it has parts of an LTE but lacks {some(missing, len(_WAVES))}; fetch it again, or {_give_spec(name)}"
        )
    hidden_dim, inputs = _shape(state, "coef.weight", 4)[0], _shape(state, "phase.weight", 2)[1]
    if inputs != 2:
        raise ValueError(f"its phase takes {inputs} numbers, LTE's takes the 2 of a cell; {_give_spec(name)}")
    if plus and any(key.startswith("imnet.") for key in state):
        raise ValueError(f"it has both imnet, as LTE, and layers, as LTE+; {_give_spec(name)}")
    mlp, in_dim = _mlp(state, "layers.", 4) if plus else _mlp(state, "imnet.layers.", 2)
    if in_dim != hidden_dim:
        raise ValueError(f"its MLP takes {in_dim} inputs, but there are {hidden_dim} coefficients; {_give_spec(name)}")
    args = {"encoder_spec": encoder, "hidden_dim": hidden_dim}
    if plus:
        return _spec(name, **args, num_layer=len(mlp["hidden_list"]), out_dim=mlp["out_dim"])
    return _spec(name, **args, imnet_spec=_spec("mlp", **mlp))


def _mlp(state: State, place: str, ndim: int) -> tuple[dict[str, Any], int]:
    """Arguments of the MLP whose layers stand at ``place``, and its inputs."""
    top = place.partition(".")[0]
    keys = {key for key in state if key.startswith(f"{top}.")}
    layers = count(state, re.escape(place) + r"(\d+)\.weight$")
    weights = [f"{place}{2 * i}.weight" for i in range(layers)]
    if not keys:
        raise ValueError(f"its MLP is missing ({place}0.weight and the like); {_give_spec('lte')}")
    if keys != {k.removesuffix("weight") + end for k in weights for end in ("weight", "bias")}:
        raise ValueError(f"its {top} is not a plain MLP ({some(keys)}); {_GIVE_SPEC}")
    shapes = [_shape(state, key, ndim) for key in weights]
    *hidden, out_dim = (s[0] for s in shapes)
    return {"out_dim": out_dim, "hidden_list": hidden}, shapes[0][1]


def _flags(in_dim: int, width: int) -> dict[str, bool]:
    for unfold in (True, False):
        for cell in (True, False):
            if in_dim == width * (9 if unfold else 1) + (4 if cell else 2):
                return {"feat_unfold": unfold, "cell_decode": cell}
    raise ValueError(
        f"its imnet takes {in_dim} inputs, which an encoder of {width} channels cannot give a LIIF, and of an LTE "
        f"{some(_WAVES, len(_WAVES))} are missing; {_GIVE_SPEC}"
    )


def _spec(name: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


def _shape(state: State, key: str, ndim: int) -> tuple[int, ...]:
    if key not in state or state[key].ndim != ndim or 0 in state[key].shape:
        got = list(state[key].shape) if key in state else "nothing"
        raise ValueError(f"{key}: a tensor with {ndim} dimensions is wanted, got {got}; the file is incomplete")
    return tuple(state[key].shape)
