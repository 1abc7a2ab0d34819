"""Checks of the values in a configuration; each gives the value back, or raises an error that names the key."""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..base.shown import named, shown


class ConfigError(ValueError):
    """A configuration that cannot be run; one line that names the key."""


def keys(key: str, value: Any, known: tuple[str, ...], needed: tuple[str, ...] | None = None) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: a mapping with {', '.join(known)} is wanted, got {shown(value)}")
    for name in value:
        if name not in known:
            raise ConfigError(f"{key}.{named(name)}: unknown key{meant(name, known)}; known: {', '.join(known)}")
    for name in known if needed is None else needed:
        if name not in value:
            raise ConfigError(f"{key}.{name}: this key is missing")


def arguments(key: str, spec: Mapping[str, Any], factory: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """ConfigError unless the factory takes these arguments."""
    parameters = inspect.signature(factory).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        takes = [name for name in parameters if name not in given]
        for name in spec["args"]:
            if name not in takes:
                known = ", ".join(takes)
                raise ConfigError(
                    f"{key}.{named(name)}: {spec['name']} has no such argument{meant(name, takes)}; it takes {known}"
                )
    for name, p in parameters.items():
        required = p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        if required and name not in spec["args"] and name not in given:
            raise ConfigError(f"{key}.{name}: {spec['name']} needs this argument")


def meant(name: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(named(name), list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def whole(key: str, value: Any, zero: bool = False) -> int:
    least = 0 if zero else 1
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise ConfigError(
            f"{key}: a whole number {'of at least 0' if zero else 'above 0'} is wanted, got {shown(value)}"
        )
    return value


def positive(key: str, value: Any, zero: bool = False) -> float:
    value = number_if_one(value)
    if not finite(value) or value < 0 or (value == 0 and not zero):
        raise ConfigError(f"{key}: a number above 0 is wanted, got {shown(value)}")
    return value


def finite(value: Any) -> bool:
    """Whether this is a number that a float can hold."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def number_if_one(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    return value


def flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key}: true or false is wanted, got {shown(value)}")
    return value


def text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key}: the name of a file is wanted, got {shown(value)}")
    return value


def one_of(*names: str) -> Callable[[str, Any], str]:
    def check_name(key: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ConfigError(f"{key}: one of {', '.join(names)} is wanted, got {shown(value)}")
        return value

    return check_name


def from_zero(key: str, value: Any) -> int:
    return whole(key, value, zero=True)
