"""What a checkpoint of training may hold: every nested value of the right kind, or an error that names its key."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..base.shown import named, shown
from ..weights import state_dicts
from .values import ConfigError, finite, whole


def check(raw: Mapping[str, Any], progress: type) -> None:
    """ConfigError unless a checkpoint's values are of their kinds. Their sizes are compared with the model's later.

    Args:
        raw: with the keys model, optimizer (with sd) and epoch.
        progress: the dataclass whose fields ``training.progress`` has.
    """
    tensors("model.sd", raw["model"]["sd"])
    optimizer("optimizer.sd", raw["optimizer"]["sd"])
    whole("epoch", raw["epoch"], zero=True)
    if raw.get("data_norm") is not None:
        try:
            state_dicts.check_data_norm(raw["data_norm"])
        except ValueError as error:
            raise ConfigError(str(error)) from None
    if "training" not in raw:  # the official program's
        return
    training = mapping("training", raw["training"])
    for key in ("seed", "progress"):
        if key not in training:
            raise ConfigError(f"training.{key}: this key is missing")
    whole("training.format", training.get("format", 1))
    whole("training.seed", training["seed"], zero=True)
    _progress("training.progress", mapping("training.progress", training["progress"]), progress)
    for key, test in _PARTS.items():
        if training.get(key) is not None:
            test(f"training.{key}", training[key])


def mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{key}: a mapping of names is wanted, got {shown(value)}")
    return value


def tensors(key: str, value: Any) -> None:
    """A state dict."""
    for name, t in mapping(key, value).items():
        if not isinstance(t, Tensor) or t.layout is not torch.strided or t.is_quantized or t.device.type != "cpu":
            raise ConfigError(f"{key}.{named(name)}: an ordinary tensor is wanted, got {_kind(t)}")


def optimizer(key: str, value: Any) -> None:
    """The state dict of an optimizer."""
    mapping(key, value)
    states, groups = (value.get(name) for name in ("state", "param_groups"))
    if not isinstance(states, Mapping):
        raise ConfigError(f"{key}.state: a mapping of numbers is wanted, got {shown(states)}")
    for number, state in states.items():
        whole(f"{key}.state", number, zero=True)
        for name, item in mapping(f"{key}.state.{number}", state).items():
            if not (item is None or isinstance(item, Tensor) or finite(item)):
                raise ConfigError(f"{key}.state.{number}.{named(name)}: a tensor is wanted, got {_kind(item)}")
    if not isinstance(groups, list | tuple) or not groups:
        raise ConfigError(f"{key}.param_groups: a list is wanted, got {shown(groups)}")
    for i, group in enumerate(groups):
        numbers = mapping(f"{key}.param_groups.{i}", group).get("params")
        if not isinstance(numbers, list | tuple):
            raise ConfigError(f"{key}.param_groups.{i}.params: a list of numbers is wanted, got {shown(numbers)}")
        for number in numbers:
            whole(f"{key}.param_groups.{i}.params", number, zero=True)


def like(key: str, value: Any, own: Any) -> None:
    """ConfigError unless a value is of the kind of one's own: a flag or None, a number of at least 0, a tuple of
    them."""
    if own is None or isinstance(own, bool):
        good = value is None or isinstance(value, bool)
    elif isinstance(own, list | tuple):
        good = isinstance(value, list | tuple) and len(value) == len(own) and all(map(_number, value))
    else:
        good = _number(value)
    if not good:
        raise ConfigError(f"{key}: a value such as {shown(own)} is wanted, got {shown(value)}")


def _number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and _number(value.item())
    return finite(value) and value >= 0


def _kind(value: Any) -> str:
    return type(value).__name__ if isinstance(value, Tensor) else shown(value)


def _progress(key: str, value: Mapping[str, Any], kind: type) -> None:
    tests: dict[str, Callable[[Any], bool]] = {
        "int": lambda v: isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**63,
        "bool": lambda v: isinstance(v, bool),
        "float": lambda v: finite(v) and v >= 0,
        "float | None": lambda v: v is None or finite(v),
        "list[float]": lambda v: isinstance(v, list) and len(v) == 2 and all(map(finite, v)),
    }
    for field in dataclasses.fields(kind):
        if field.name in value and not tests[str(field.type)](value[field.name]):
            raise ConfigError(f"{key}.{field.name}: {field.type} is wanted, got {shown(value[field.name])}")


def _critic(key: str, value: Any) -> None:
    for name, test in (("discriminator", tensors), ("optimizer", optimizer)):
        if name not in mapping(key, value):
            raise ConfigError(f"{key}.{name}: this key is missing")
        test(f"{key}.{name}", value[name])


_PARTS: dict[str, Callable[[str, Any], Any]] = {
    "weights": tensors,
    "schedule": mapping,
    "scaler": mapping,
    "critic": _critic,
}
