"""Models and datasets by name, as the official repository's `models.register`, `datasets.register` and `make` do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, TypeVar

from .base import interruption
from .base.shown import shown

_Factory = TypeVar("_Factory", bound=Callable[..., Any])

# Other packages name classes or functions of theirs in this group of entry points: they are known once installed.
ENTRY_POINTS = "liif_fast.models"

_MODELS: dict[str, Callable[..., Any]] = {}
_DATASETS: dict[str, Callable[..., Any]] = {}


def register(name: str) -> Callable[[_Factory], _Factory]:
    """Class or function decorator: make a model available to specs as ``{'name': name, 'args': {...}}``.

    A later registration of the same name replaces the earlier one, so that a user can override a built-in.

    Example::

        @liif_fast.register("my-encoder")
        class MyEncoder(nn.Module):
            def __init__(self, width=64):
                self.out_dim = width  # LIIF asks an encoder for the number of its output channels
                ...

        model = liif_fast.make({"name": "liif", "args": {"encoder_spec": {"name": "my-encoder", "args": {}}, ...}})
    """
    return _decorator(_MODELS, name)


def register_dataset(name: str) -> Callable[[_Factory], _Factory]:
    """As ``register``, for datasets and for the wrappers that draw samples from them (see ``liif_fast.data``)."""
    return _decorator(_DATASETS, name)


def _decorator(known: dict[str, Callable[..., Any]], name: str) -> Callable[[_Factory], _Factory]:
    if not isinstance(name, str) or not name:
        raise TypeError(f"register: name must be a non-empty string, got {shown(name)}")

    def decorator(factory: _Factory) -> _Factory:
        # the command imports the package's own late: they do not replace one that was there before
        if name not in known or _of_package(known[name]) or not _of_package(factory):
            known[name] = factory
        return factory

    return decorator


def _of_package(factory: Callable[..., Any]) -> bool:
    return str(getattr(factory, "__module__", "")).startswith(f"{__package__}.")


def names() -> list[str]:
    """All names of models that ``make`` knows, sorted: registered here, entry points of other packages, and what the
    official repository's ``models`` has registered, if it is imported."""
    return sorted({*_MODELS, *(entry.name for entry in _entries()), *_official()})


def _entries() -> metadata.EntryPoints:
    return metadata.entry_points(group=ENTRY_POINTS)


def _official() -> Mapping[str, Callable[..., Any]]:
    """What the official repository's ``models.register`` keeps: in its training program liif_fast's LIIF finds the
    encoders that were registered there."""
    found = getattr(sys.modules.get("models.models"), "models", None)
    return found if isinstance(found, Mapping) else {}


def _factory(name: str) -> Callable[..., Any] | None:
    if name in _MODELS:
        return _MODELS[name]
    for entry in _entries().select(name=name):
        try:
            return entry.load()
        except (Exception, SystemExit) as error:  # whatever another package's code raises
            interruption.check()  # or it is a signal's
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ImportError(
                f"make: {shown(name)} is {entry.value} of an installed package, which fails: {why}"
            ) from error
    return _official().get(name)


def dataset_names() -> list[str]:
    """All registered names of datasets and wrappers, sorted."""
    return sorted(_DATASETS)


def dataset_factory(name: str) -> Callable[..., Any]:
    """The class or function behind a name of ``dataset_names``; KeyError for others."""
    if not isinstance(name, str) or name not in _DATASETS:
        known = ", ".join(dataset_names())
        raise KeyError(f"no dataset is registered as {shown(name)}; known: {known}. Use liif_fast.data.register")
    return _DATASETS[name]


def make(model_spec: Mapping[str, Any], args: Mapping[str, Any] | None = None, load_sd: bool = False) -> Any:
    """Build a model from its spec ``{'name': str, 'args': dict, 'sd': state dict}``.

    Args:
        model_spec: name of a registered model and its keyword arguments; ``sd`` is needed only with ``load_sd``.
        args: extra keyword arguments; they win over the spec's. The spec itself is not changed.
        load_sd: also load ``model_spec['sd']``.

    Raises:
        KeyError: unknown name (the message lists the known ones), or ``load_sd`` without ``sd``.
        ImportError: the name is another package's entry point, which cannot be imported.
        TypeError: a spec that is not a mapping with ``name``, or arguments that the model does not take.
    """
    if not isinstance(model_spec, Mapping) or "name" not in model_spec:
        raise TypeError(f"make: model_spec must be a mapping with 'name' and 'args', got {shown(model_spec)}")
    name = model_spec["name"]
    factory = _factory(name) if isinstance(name, str) else None
    if factory is None:
        raise KeyError(
            f"make: no model is registered as {shown(name)}; known: {', '.join(names())}. Use liif_fast.register"
        )
    own = model_spec.get("args") or {}
    if not isinstance(own, Mapping) or not all(isinstance(key, str) for key in own):
        raise TypeError(f"make: args of {name} must be a mapping of arguments, got {shown(own)}")
    model = factory(**{**own, **(args or {})})
    if load_sd:
        if "sd" not in model_spec:
            raise KeyError(f"make: load_sd=True needs model_spec['sd'], but the spec of {shown(name)} has none")
        model.load_state_dict(model_spec["sd"])
    return model
