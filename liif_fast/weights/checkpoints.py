"""Weights in files: ``load`` of every common form, ``save`` as safetensors. No file's code is ever run.

``save`` writes the model's own state dict and, under the key "liif_fast" of the metadata, a JSON object: ``format``
(an integer, FORMAT), ``version`` (of liif_fast), ``spec``, ``data_norm``, and ``credit`` if somebody is to be named.
The key "liif_fast_sha256" holds a hash of both, which ``load`` verifies; files of older versions have none.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ..base.shown import shown
from ..base.version import VERSION
from ..registry import make
from . import checks as weight_checks
from . import files as weight_files
from . import hub, pretrained, savable, state_dicts
from . import sets as weight_sets
from .files import first_line, said_of
from .savable import data_norm_of, state_of
from .sets import State
from .state_dicts import CheckpointError as CheckpointError
from .state_dicts import Contents, some
from .state_dicts import UnknownModelError as UnknownModelError

FORMAT = 1
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# In the official state dicts, but never used: normalisation is done outside, masks are made for each image's size.
_UNUSED = re.compile(r"encoder\.((sub|add)_mean\.(weight|bias)|.*\.attn_mask)")
_IMPLIED = re.compile(r".*\.relative_position_index")  # by the spec: another one would read a table in a wrong order


class CheckpointNote(UserWarning):
    """What a checkpoint does not tell by itself: say, which of the weights in it are used."""


def load(
    name_or_path: str | os.PathLike[str],
    device: torch.device | str | None = None,
    *,
    spec: Mapping[str, Any] | None = None,
) -> Any:
    """A model with its weights, in eval mode.

    Args:
        name_or_path: a name of ``pretrained.names()``, in the package or fetched on first use; or a file: what ``save``
            wrote, an official checkpoint of LIIF or LTE, a bare state dict (torch or safetensors), Lornatang's or
            mmagic's (``state_dicts`` says what each implies). Its content decides, not its suffix. A file called like a
            known name is reached as ``./name``. ``hf://user/name[@revision]``: the ``model.safetensors`` of a
            repository on the Hugging Face Hub (extra ``hub``), kept in the hub's own cache.
        device: where the model goes; None: the CPU.
        spec: ``{'name': ..., 'args': {...}}`` in place of the file's own, or of the one that keys and shapes tell.

    Returns:
        The nn.Module, of the class that its spec names, in the file's dtype (float32 for weights that are in the
        package), with ``data_norm`` set to what its images need. ``liif_fast.load`` is a LIIF to type checkers (an LTE
        is one), but for the baselines whose names are in the package; of a checkpoint of a baseline say what it is:
        ``typing.cast(liif_fast.baselines.SRCNN, liif_fast.load("srcnn.pth"))``.

    Raises:
        UnknownModelError: no such file or name. CheckpointError: a file that is damaged, that would need code to be
            run, or that does not fit its spec. Both are ValueErrors of one line.

    Warns:
        CheckpointNote: averaged weights are used, because there are raw ones beside them, and the like.
    """
    model, notes = load_with_notes(name_or_path, device, spec)
    for note in notes:
        warnings.warn(note, CheckpointNote, stacklevel=2)
    return model


def load_with_notes(
    name_or_path: str | os.PathLike[str],
    device: torch.device | str | None = None,
    spec: Mapping[str, Any] | None = None,
) -> tuple[Any, tuple[str, ...]]:
    """``load``, and what it would warn of."""
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(f"load: a name or a path is wanted, got a {type(name_or_path).__name__}")
    device = _checked_device(device)
    if name_or_path in pretrained.names():
        path, shipped = pretrained.path(name_or_path, _convert), pretrained.shipped(name_or_path)
        try:
            model, notes = _load_file(path, spec, name_or_path)
        except CheckpointError as error:
            cure = "install liif_fast again" if shipped else "delete the file, and the next load makes it anew"
            raise CheckpointError(f"{error} ({cure})") from error
        return (model.float() if shipped else model).to(device), notes  # half precision makes the file small, no more
    if isinstance(name_or_path, str) and hub.is_address(name_or_path):
        model, notes = _load_file(hub.find_address(name_or_path), spec)
        return model.to(device), notes
    if not os.path.exists(name_or_path):
        if name_or_path in (*pretrained.OPEN, *pretrained.SMALL):
            raise UnknownModelError(
                f"{name_or_path}: these weights have not been trained yet, so they are not in the package; "
                "tools/open_weights in the repository makes them"
            )
        known = ", ".join(pretrained.names())
        raise UnknownModelError(
            f"{os.fspath(name_or_path)}: there is no such file, nor a model of this name; known names: {known}"
        )
    model, notes = _load_file(Path(name_or_path), spec)
    return model.to(device), notes


def built(raw: Any, name: str | os.PathLike[str] = "the state dict") -> tuple[Any, tuple[str, ...]]:
    """``load_with_notes`` for what has been read: a state dict, a checkpoint of dictionaries, ``contents_of`` a file.

    Raises:
        CheckpointError: as ``load``, of what is called ``name``.
    """
    with said_of(name):
        contents = raw if isinstance(raw, Contents) else _contents(raw)
        return _build(contents), contents.notes


def contents_of(path: str | os.PathLike[str], spec: Mapping[str, Any] | None = None) -> Contents:
    """What is in a file, of which ``built`` makes what ``load`` does.

    Raises:
        CheckpointError: as ``load``.
    """
    with said_of(path):
        contents = _read(Path(path), spec)
    return replace(contents, notes=tuple(f"{path}: {note}" for note in contents.notes))


def save(model: nn.Module, path: str | os.PathLike[str], *, credit: str | None = None) -> None:
    """Write a model as safetensors that ``load`` gives back: weights in their dtypes, spec, ``data_norm``, ``credit``.

    The file appears complete or not at all; one that was there stays until then.

    Raises:
        CheckpointError: the folder or file cannot be written, or the spec holds more than JSON can.
        ValueError: the model has no spec, or one that builds another model (``savable``).
    """
    try:
        about = about_of(model, credit)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    metadata = {"format": "pt", weight_checks.ABOUT: about}
    state = state_of(model)
    metadata[weight_checks.HASH] = weight_checks.file_hash(io.BytesIO(safetensors.torch.save(state, metadata)))
    _write(path, safetensors.torch.save(state, metadata))


def about_of(model: nn.Module, credit: str | None = None) -> str:
    """The JSON that ``save`` writes beside the weights.

    Raises:
        CheckpointError, ValueError: as ``save``.
    """
    about = {
        "format": FORMAT,
        "version": VERSION,
        "spec": savable.check(model),
        "data_norm": data_norm_of(model),
    }
    about["hash"] = weight_checks.HASH  # so that a file which has lost it is seen to have had one
    if credit is not None:
        about["credit"] = credit
    try:
        return json.dumps(about, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the model's spec cannot be written as JSON ({error}); use plain numbers, strings, lists"
        ) from error


def save_official(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model in the form of github.com/yinboc/liif: ``{'model': {'name', 'args', 'sd'}}`` and ``data_norm``.

    Raises:
        CheckpointError, ValueError: as ``save``.
    """
    data = io.BytesIO()
    torch.save(
        {"model": {**savable.check(model), "sd": state_of(model)}, "data_norm": data_norm_of(model)},
        data,
    )
    _write(path, data.getvalue())


def _load_file(
    path: Path, spec: Mapping[str, Any] | None = None, name: str | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """``name``: the one of ``pretrained`` whose weights must be in the file."""
    contents = contents_of(path, spec)
    with said_of(path):
        if name is not None:
            pretrained.verify(name, path)
    return built(contents, path)


def _convert(original: Path, target: Path, credit: str) -> None:
    save(_load_file(original)[0], target, credit=credit)


def _read(path: Path, spec: Mapping[str, Any] | None) -> Contents:
    raw, metadata = weight_files.read(path)
    if metadata is None or weight_checks.ABOUT not in metadata:
        return _contents(raw, spec)
    try:
        about = json.loads(metadata[weight_checks.ABOUT])
        version, own, data_norm = about["format"], about["spec"], about["data_norm"]
        if "hash" in about and weight_checks.HASH not in metadata:
            raise ValueError("its hash is missing")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"its metadata is damaged ({first_line(error)}); fetch it again") from error
    if not isinstance(version, int) or version > FORMAT:
        raise ValueError(
            f"it is of format {shown(version)}, this liif_fast knows up to {FORMAT}; use a newer liif_fast"
        )
    data_norm = None if data_norm is None else state_dicts.check_data_norm(data_norm)
    if spec is None:
        weight_checks.check_spec(own, raw)
    return Contents(own if spec is None else spec, raw, data_norm)


def _contents(raw: Any, spec: Mapping[str, Any] | None = None) -> Contents:
    """Of what has no metadata."""
    contents = state_dicts.read(raw, spec)
    if spec is None:
        weight_checks.check_spec(contents.spec, contents.state)
    return contents


def _build(contents: Contents) -> nn.Module:
    weight_checks.check_sharing(contents.state)
    tensors = contents.state.values()
    try:
        with warnings.catch_warnings(), weight_checks.Bounded(len(tensors), sum(t.numel() for t in tensors)):
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            model = make(contents.spec)
    except Exception as error:  # whatever the constructor of any registered class may raise
        raise ValueError(f"its spec cannot be built: {first_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"its spec builds a {type(model).__name__}, not a model")
    state = _fitting(model.state_dict(), contents.state)
    # the class's own method, because some models override it to skip what does not fit; assign keeps the file's dtypes
    nn.Module.load_state_dict(model, state, assign=True)
    if contents.data_norm is not None:
        model.data_norm = contents.data_norm  # type: ignore[assignment]  # nn.Module says: tensors and modules
    return model.eval()


def _fitting(own: State, state: State) -> State:
    """Copies of the file's tensors, one for every tensor of the model; ValueError if they do not fit."""
    state = weight_sets.without_prefix(state, own)
    unused = {key: t for key, t in own.items() if key not in state and _UNUSED.fullmatch(key)}
    if missing := own.keys() - state.keys() - unused.keys():
        raise ValueError(f"it does not fit its spec: {some(missing)} missing; fetch it again, or give its own spec")
    if surplus := state.keys() - own.keys():
        raise ValueError(f"it does not fit its spec: {some(surplus)} not in the model; give its own spec")
    for key, t in state.items():
        if t.layout is not torch.strided or t.is_quantized or t.device.type == "meta":
            raise ValueError(f"{key} is no ordinary tensor; save it dense, not quantised, with its values")
        if t.shape != own[key].shape:
            raise ValueError(
                f"{key} has shape {list(t.shape)}, but the spec gives {list(own[key].shape)}; give its own spec"
            )
        if t.dtype not in _FLOATS if own[key].is_floating_point() else t.dtype != own[key].dtype:
            raise ValueError(f"{key} is {t.dtype}, which cannot stand for {own[key].dtype}; convert it to that")
        if _IMPLIED.fullmatch(key) and not torch.equal(t, own[key]):
            raise ValueError(f"{key} is another than the spec's windows have; fetch it again")
    dtype = next((t.dtype for t in state.values() if t.is_floating_point()), torch.float32)
    unused = {key: t.to(dtype) for key, t in unused.items()}
    # copied: the file may be mapped into memory, or the tensor be a small part of a large storage
    return {key: t.detach().clone(memory_format=torch.contiguous_format) for key, t in {**state, **unused}.items()}


def _write(path: str | os.PathLike[str], data: bytes) -> None:
    path = Path(path)
    try:
        weight_files.write(path, data)
    except OSError as error:
        hint = "" if path.parent.is_dir() else "; make its folder first"
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}{hint}") from error


def _checked_device(device: torch.device | str | None) -> torch.device:
    try:
        device = torch.device("cpu" if device is None else device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device: {shown(device)} cannot be used here: {first_line(error)}") from error
    return device
