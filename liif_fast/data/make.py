"""Datasets and wrappers from their specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.shown import shown
from ..registry import dataset_factory


def make(dataset_spec: Mapping[str, Any], args: Mapping[str, Any] | None = None) -> Any:
    """Build a dataset or wrapper from ``{'name': str, 'args': dict}``.

    Args:
        args: extra keyword arguments, such as the dataset of a wrapper; they win over the spec's.

    Raises:
        KeyError: unknown name (the message lists the known ones).
        TypeError: a spec that is not a mapping with ``name``, or arguments that are not taken.
        DataError: a missing folder, no images in it, ...
    """
    if not isinstance(dataset_spec, Mapping) or "name" not in dataset_spec:
        raise TypeError(f"make: dataset_spec must be a mapping with 'name' and 'args', got {shown(dataset_spec)}")
    return dataset_factory(dataset_spec["name"])(**{**(dataset_spec.get("args") or {}), **(args or {})})
