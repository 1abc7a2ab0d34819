"""Models on the Hugging Face Hub, and folders of that form, by the mixin of its client (the extra ``hub``).

Such a folder holds ``model.safetensors`` (what ``checkpoints.save`` writes, the only truth), ``config.json`` (the same
spec for the hub's own purposes) and ``README.md`` (the model's card). ``hf://user/name[@revision]`` is the address of
one on the hub; the hub's client keeps what it has fetched in its own cache. Nothing is imported before it is used.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from ..base.shown import shown
from . import checks as weight_checks
from .files import first_line
from .state_dicts import CheckpointError, UnknownModelError

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_NAME = r"[^/@\s]+/[^/@\s]+"
_ADDRESS = re.compile(rf"hf://(?P<name>{_NAME})(?:@(?P<revision>\S+))?")
_LOG_IN = "where it asks who you are: hf auth login"


@dataclass(frozen=True)
class Writing:
    """A model as it goes into a folder. ``write``: called with the path of its weights; ``config``: of config.json;
    ``card``: the text of the card, ``tags``: further ones of it; ``licence``: the hub's name of it."""

    write: Callable[[Path], None]
    config: Mapping[str, Any]
    card: str
    tags: Sequence[str] = ()
    licence: str | None = None


def is_address(name: str) -> bool:
    """Whether this means a model on the hub."""
    return name.startswith("hf://")


def find_address(address: str) -> Path:
    """``find`` for ``hf://user/name[@revision]``, also where there is a folder ``user/name``."""
    if not (parts := _ADDRESS.fullmatch(address)):
        raise UnknownModelError(f"{address}: hf://user/name is wanted, or hf://user/name@revision")
    try:
        return find(fetch(parts["name"], revision=parts["revision"]))
    except ImportError as error:
        raise CheckpointError(f"{address}: {error}") from error


def fetch(name: str, **options: Any) -> Path:
    """The folder, in the hub's cache, of a repository's weights and configuration, both of one commit.

    Args:
        options: of ``snapshot_download``: ``revision``, ``token``, ``cache_dir`` and the like.

    Raises:
        ImportError: without the client. UnknownModelError: no such repository or revision. CheckpointError: no network,
            no right to read it, or no weights in it.
    """
    client = _client()
    with _errors(name):
        options["tqdm_class"] = _bar()
        folder = Path(client.snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG], **options))
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{name}: there is no {WEIGHTS} in it; model.push_to_hub makes such a repository")
    return folder


def find(folder: Path) -> Path:
    """The weights in a folder.

    Raises:
        ImportError: without the client. CheckpointError: there are none, or its ``config.json`` is damaged or of
            another model.
    """
    kind = _kind()
    with _errors(str(folder)):
        try:
            found = kind.from_pretrained(folder)
        except (ValueError, AttributeError, TypeError) as error:  # no JSON, or no object of it
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"{folder}: its {CONFIG} is damaged ({first_line(error)}); save the model anew"
            ) from error
    _check(found.weights, found._hub_mixin_config)
    return found.weights


def save(folder: Path, writing: Writing) -> None:
    """Write such a folder; a ``README.md`` that is there stays.

    Raises:
        ImportError: without the client. CheckpointError: it cannot be written.
    """
    kind = _kind()
    with _errors(str(folder)):
        kind.of(writing).save_pretrained(folder)


def push(name: str, writing: Writing, **options: Any) -> str:
    """Write such a folder to the hub as one commit, whose address is returned; the repository is made if need be.

    Args:
        options: of ``ModelHubMixin.push_to_hub``.

    Raises:
        ImportError: without the client. TypeError, UnknownModelError: another name. CheckpointError: no network, or no
            right to write it.
    """
    if not isinstance(name, str):
        raise TypeError(f"push_to_hub: 'user/name' is wanted, got {shown(name)}")
    if not re.fullmatch(_NAME, name):
        raise UnknownModelError(f"push_to_hub: 'user/name' is wanted, got {shown(name)}")
    kind = _kind()
    with _errors(name):
        return str(kind.of(writing).push_to_hub(name, **options))


@functools.cache
def _kind() -> Any:
    client = _client()
    from huggingface_hub import ModelHubMixin

    class Folder(ModelHubMixin):
        """What the mixin works on: where weights are, or what is to be written. The model itself has nothing of it, so
        that it is the same with the client and without."""

        weights: Path
        writing: Writing

        @classmethod
        def of(cls, writing: Writing) -> Any:
            folder = cls()
            folder.writing, folder._hub_mixin_config = writing, dict(writing.config)
            return folder

        def _save_pretrained(self, save_directory: Path) -> None:
            weights = save_directory / WEIGHTS
            if weights.is_symlink():  # as in the client's cache: the file is of other commits too
                weights.unlink()
            self.writing.write(weights)

        def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
            data = client.ModelCardData(
                library_name="liif_fast",
                pipeline_tag="image-to-image",
                tags=["super-resolution", "image-super-resolution", *self.writing.tags],
                license=self.writing.licence,
            )
            return client.ModelCard(f"---\n{data.to_yaml()}\n---\n\n{self.writing.card}")

        @classmethod
        def _from_pretrained(cls, *, model_id: str, **options: Any) -> Any:
            folder = cls()
            folder.weights = Path(model_id, WEIGHTS)
            if not folder.weights.is_file():
                there = ", ".join(sorted(os.listdir(model_id))[:3]) or "nothing"
                raise CheckpointError(
                    f"{model_id}: there is no {WEIGHTS} in it (it holds {there}); model.save_pretrained makes one"
                )
            return folder

    return Folder


@functools.cache
def _bar() -> Any:
    from huggingface_hub.utils import tqdm

    class Bytes(tqdm):
        """The client's bars of bytes, without that of files, which it shows for what is in its cache too."""

        def __init__(self, *args: Any, **options: Any) -> None:
            if options.get("unit") != "B":
                options["disable"] = True
            super().__init__(*args, **options)

    return Bytes


def _client() -> Any:
    try:
        for part in ("errors", "hub_mixin"):  # the package itself imports nothing
            importlib.import_module(f"huggingface_hub.{part}")
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ImportError(
            f"huggingface_hub cannot be imported ({first_line(error)}): pip install 'liif-fast[hub]'"
        ) from error


@contextlib.contextmanager
def _errors(name: str) -> Iterator[None]:
    """What the client raises, as one line; it shows its HTTP library's errors too."""
    kinds = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except CheckpointError:
        raise
    except kinds.GatedRepoError as error:
        raise CheckpointError(
            f"{name}: its authors ask for a consent: give it on the repository's page, then: hf auth login"
        ) from error
    except kinds.RevisionNotFoundError as error:
        raise UnknownModelError(f"{name}: it has no such revision (branch, tag or commit)") from error
    except kinds.RepositoryNotFoundError as error:
        raise UnknownModelError(
            f"{name}: there is no such repository on the hub, nor a folder; to see a private one: hf auth login"
        ) from error
    except kinds.HFValidationError as error:
        raise UnknownModelError(f"{name}: there is no such folder, nor can a repository be called so") from error
    except kinds.OfflineModeIsEnabled as error:
        raise CheckpointError(f"{name}: the hub cannot be reached: HF_HUB_OFFLINE is set") from error
    except kinds.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{name}: it is not in the hub's cache, and the hub cannot be reached (no network or HF_HUB_OFFLINE)"
        ) from error
    except kinds.HfHubHTTPError as error:
        raise CheckpointError(f"{name}: the hub refuses: {first_line(error)}; {_LOG_IN}") from error
    except OSError as error:
        raise CheckpointError(f"{name}: {error.strerror or first_line(error)}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2"):
            raise
        raise CheckpointError(f"{name}: the hub cannot be reached ({first_line(error)})") from error


def _check(weights: Path, config: Any) -> None:
    """CheckpointError if CONFIG says another spec or normalisation than the weights, which may have lost theirs."""
    try:
        with safetensors.safe_open(weights, framework="pt", device="cpu") as file:
            own = dict(json.loads((file.metadata() or {}).get(weight_checks.ABOUT, "{}")))
    except Exception:  # damaged: whoever loads it says how
        return
    for key in ("spec", "data_norm"):
        if config and key in config and config[key] != own.get(key):
            both = f"{shown(config[key])}, not {shown(own.get(key))}"
            raise CheckpointError(
                f"{weights}: the {CONFIG} beside it has another {key} ({both}); "
                "fetch both again, or save the model anew"
            )
