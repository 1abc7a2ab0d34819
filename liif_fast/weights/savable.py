"""What a file keeps of a model: a spec, weights and normalisation; whether anything else would be lost."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..base.methods import replaced
from ..registry import make
from .sets import State
from .state_dicts import CheckpointError, DataNorm, check_data_norm


def check(model: nn.Module) -> dict[str, Any]:
    """The model's spec.

    Raises:
        ValueError: the spec builds something else: the model's class has methods of its own, a layer is of another
            class or has a ``forward`` of its own, or parameters have other names or shapes. Hooks are not looked at:
            no file of PyTorch's keeps them.
    """
    spec: Any = model.spec
    if why := _difference(model, _twin(spec)):
        raise ValueError(
            f"this model cannot be saved, since its spec {spec['name']!r} builds another: {why}; register a class that "
            "builds it (liif_fast.register) and give it a spec of that name, or keep model.state_dict()"
        )
    return spec


def _twin(spec: Mapping[str, Any]) -> nn.Module:
    """What ``load`` would build, without weights where its classes allow that."""
    with torch.random.fork_rng(devices=[]):
        with contextlib.suppress(Exception), torch.device("meta"):  # whatever a registered class may raise there
            return make(spec)
        with torch.device("cpu"):
            return make(spec)


def _difference(model: nn.Module, twin: nn.Module) -> str | None:
    if own := replaced(model, type(twin)):
        return f"{type(model).__name__} has methods of its own ({', '.join(own)})"
    ours, theirs = _parts(model), dict(twin.named_modules())
    for name, module in ours.items():
        other = theirs.get(name)
        if other is None:
            return f"{name} ({type(module).__name__}) is none of its parts"
        if name and (type(module).forward is not type(other).forward or "forward" in vars(module)):
            return f"{name} is a {type(module).__name__} with another forward than {type(other).__name__}'s"
    if missing := set(theirs) - set(ours):
        return f"{min(missing)} is missing"
    shapes = [{_original(k): tuple(v.shape) for k, v in m.state_dict().items()} for m in (model, twin)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        if shapes[0].get(name) != shapes[1].get(name):
            return f"{name} has the shape {shapes[0].get(name)}, there {shapes[1].get(name)}"
    return None


def _parts(model: nn.Module) -> dict[str, nn.Module]:
    """All modules by name, those that torch.compile wraps as what they were."""
    return {_original(name): m for name, m in model.named_modules() if "_orig_mod" not in m._modules}


def _original(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def data_norm_of(model: nn.Module) -> DataNorm | None:
    """The normalisation of its images; None: the default."""
    data_norm = getattr(model, "data_norm", None)
    return None if data_norm is None else check_data_norm(data_norm)


def state_of(model: nn.Module) -> State:
    """The state dict on the CPU, contiguous, without names that torch.compile put in."""
    copied = {}
    for key, t in model.state_dict().items():
        if not isinstance(t, Tensor):
            raise CheckpointError(f"{key} of the state dict is a {type(t).__name__}, only tensors can be saved")
        # a copy of each, because safetensors refuses tensors that share memory
        copied[key.replace("_orig_mod.", "")] = t.detach().to("cpu", copy=True).contiguous()
    return copied
