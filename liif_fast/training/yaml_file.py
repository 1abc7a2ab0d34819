"""YAML files that anybody may have written: read within bounds, and every fault named with its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ..base.shown import named
from ..base.text_files import read_text
from .values import ConfigError

MOST_BYTES = 1 << 18
_MOST_VALUES, _DEEPEST = 100_000, 50  # with aliases written out; the official files have about 100 values, 6 deep
_NO_YAML = (yaml.YAMLError, UnicodeDecodeError, RecursionError)


def read(path: Path) -> Any:
    """The contents of a YAML file as plain values.

    Raises:
        ConfigError: no regular file of at most ``MOST_BYTES``, no YAML, a value that is none of its kind (it is named
            by its keys), nested or repeated beyond all bounds; one line that begins with the file's name.
    """
    try:
        text = read_text(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({named(str(reason))}); give the name of a YAML file") from error
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: str) -> Any:
    """As ``read``, of a text."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except _NO_YAML as error:
        raise ConfigError(f"is no YAML ({_reason(error)})") from error
    if node is None:
        return None
    _bounded(node)
    for place, scalar in _scalars(node):
        if scalar.tag == "tag:yaml.org,2002:merge":  # the key <<
            continue
        try:
            loader.construct_object(scalar)
        except Exception as error:  # PyYAML leaves to Python what it has not checked: KeyError, ValueError, ...
            kind = scalar.tag.rpartition(":")[2]
            raise ConfigError(
                f"{named(place) or 'it'}: {named(scalar.value, 40)} (line {scalar.start_mark.line + 1}) is no value "
                f"of the kind {named(kind, 40)}; put text into quotes"
            ) from error
    try:
        return loader.construct_document(node)
    except Exception as error:  # a key that is a list, a tag that stands for code, ...
        raise ConfigError(f"is no YAML of plain values ({_reason(error)})") from error


def _bounded(root: yaml.Node) -> None:
    """ConfigError unless the values, with every alias written out, are few and not deep. Looks at each node once."""
    size: dict[int, int] = {}
    depth: dict[int, int] = {}
    open_: set[int] = set()
    stack = [(root, False)]
    while stack:
        node, done = stack.pop()
        key, children = id(node), _children(node)
        if done:
            open_.discard(key)
            size[key] = min(1 + sum(size[id(child)] for child in children), _MOST_VALUES + 1)
            depth[key] = 1 + max((depth[id(child)] for child in children), default=0)
        elif key in open_:
            raise ConfigError(f"a value (line {node.start_mark.line + 1}) contains itself")
        elif key not in size:
            open_.add(key)
            stack.append((node, True))
            stack += [(child, False) for child in children if id(child) not in size]
    if size[id(root)] > _MOST_VALUES or depth[id(root)] > _DEEPEST:
        raise ConfigError(
            f"with its aliases written out it has more than {_MOST_VALUES} values, or more than {_DEEPEST} levels"
        )


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _scalars(root: yaml.Node) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """Every scalar once, with the keys that lead to it, joined by dots."""
    stack, seen = [("", root)], set()
    while stack:
        place, node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            yield place, node
        elif isinstance(node, yaml.MappingNode):
            for key, value in reversed(node.value):
                name = named(key.value, 60) if isinstance(key, yaml.ScalarNode) else "?"
                where = f"{place}.{name}" if place else name
                stack += [(where, value), (where, key)]
        else:
            stack += [(f"{place}.{i}" if place else str(i), child) for i, child in enumerate(node.value)]


def _reason(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else named(str(error), 300)
