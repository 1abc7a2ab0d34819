"""Configuration files in the form of the official repository's YAML, checked before anything is started.

| key | meaning |
|---|---|
| train_dataset, val_dataset | ``dataset``, ``wrapper`` (specs of ``liif_fast.data``), ``batch_size`` of each process |
| data_norm | ``inp`` and ``gt`` with ``sub`` and ``div``; without it images stay in [0, 1] |
| model, optimizer | specs; optimizers: adam, adamw, sgd |
| epoch_max, multi_step_lr | how many epochs; ``milestones`` and ``gamma`` |
| epoch_val, epoch_save | validate and keep a checkpoint every so many epochs |
| eval_type, eval_bsize | PSNR as ``benchmark-S`` or ``div2k-S``; queries at a time |
| monitor | which figure the best checkpoint is of: ``psnr`` of validation (default) or ``loss`` of training |
| resume | a checkpoint to go on from; while there is no such file, the run begins afresh |

Additions, all optional:

| key | meaning |
|---|---|
| amp | true, bf16 or fp16: half precision where it is safe (coordinates stay float32) |
| ema | 0.999, say: average of the weights (shorter at first), which is what is validated and saved as the model |
| grad_clip | largest norm of the gradient |
| seed | a run with the same seed gives the same numbers on the same machine |
| compile, channels_last | torch.compile; memory layout of the convolutions |
| norm_eval | true: batch normalisation keeps to the statistics that it has; for a model that is trained further |
| cuda_graph | true (default): with ``cache: device`` steps are replayed as CUDA graphs where they can be |
| head_parts | in how many parts of a batch the head is trained (default: by memory): ``liif_fast.training.parts`` |
| loss | l1 (default, the official one) or mse |
| gan | adversarial training: see ``liif_fast.training.gan`` |
| init | a checkpoint whose weights to start from |
| num_workers | processes that prepare data, for each training process |
| save_steps, log_steps | steps between checkpoints inside an epoch (default: every ten minutes), between log records |
| nan_limit | steps with NaN or infinity that are skipped before the run gives up |
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

from .. import registry
from ..base.shown import named, shown
from ..weights import state_dicts
from . import yaml_file
from .values import ConfigError, arguments, flag, from_zero, keys, meant, number_if_one, one_of, positive, text, whole

_MOST_WORKERS = 256  # for each training process; a slip of the key must not fork until nothing moves any more

__all__ = ["Config", "ConfigError", "Data", "EvalConfig", "check", "load_config"]


@dataclass(frozen=True)
class Data:
    """A dataset, the wrapper that draws samples from it, and how many samples make a batch."""

    dataset: dict[str, Any]
    wrapper: dict[str, Any]
    batch_size: int


@dataclass(frozen=True)
class Config:
    """A training configuration that has been checked; the fields are the keys of the file."""

    train_dataset: Data
    model: dict[str, Any]
    optimizer: dict[str, Any]
    epoch_max: int
    val_dataset: Data | None = None
    data_norm: state_dicts.DataNorm = dataclasses.field(default_factory=lambda: _norm("data_norm", None))
    multi_step_lr: dict[str, Any] | None = None
    epoch_val: int | None = None
    epoch_save: int | None = None
    eval_type: str | None = None
    eval_bsize: int | None = None
    monitor: str = "psnr"
    resume: str | None = None
    amp: str | None = None
    ema: float | None = None
    grad_clip: float | None = None
    seed: int | None = None
    compile: bool = False
    channels_last: bool = False
    norm_eval: bool = False
    cuda_graph: bool = True
    head_parts: int | None = None
    loss: str = "l1"
    gan: dict[str, Any] | None = None
    init: str | None = None
    num_workers: int | None = None
    save_steps: int | None = None
    log_steps: int = 50
    nan_limit: int = 20


@dataclass(frozen=True)
class EvalConfig:
    """A test configuration that has been checked."""

    test_dataset: Data
    data_norm: state_dicts.DataNorm = dataclasses.field(default_factory=lambda: _norm("data_norm", None))
    eval_type: str | None = None
    eval_bsize: int | None = None


_Kind = TypeVar("_Kind", Config, EvalConfig)


@overload
def load_config(path: str | os.PathLike[str]) -> Config: ...
@overload
def load_config(path: str | os.PathLike[str], kind: type[_Kind]) -> _Kind: ...
def load_config(path: str | os.PathLike[str], kind: type[Any] = Config) -> Any:
    """Read and check a YAML file.

    Args:
        kind: `Config`, or `EvalConfig` for the official test files.

    Raises:
        ConfigError: no such file, no YAML, an unknown key or name, a value of the wrong kind.
    """
    path = Path(path)
    raw = yaml_file.read(path)
    try:
        return check(raw, kind)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def check(raw: Any, kind: type = Config) -> Any:
    """A `Config` or `EvalConfig` from the contents of a file; ConfigError names the key that is wrong."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"a mapping of keys is wanted, got {shown(raw)}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if kind is Config and "test_dataset" in raw:
        raise ConfigError("test_dataset: this is a test configuration: liif-fast eval --config FILE runs it")
    if kind is EvalConfig and "train_dataset" in raw:
        raise ConfigError("train_dataset: this is a training configuration: liif-fast train FILE runs it")
    for key in raw:
        if key not in fields:
            raise ConfigError(f"{named(key)}: unknown key{meant(key, fields)}; known: {', '.join(fields)}")
    needed = [f.name for f in fields.values() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [key for key in needed if raw.get(key) is None]:
        raise ConfigError(f"{missing[0]}: this key is missing; needed are {', '.join(needed)}")
    config = kind(**{key: _CHECKS[key](key, value) for key, value in raw.items() if value is not None})
    if kind is Config:
        if config.epoch_val is not None and config.val_dataset is None:
            raise ConfigError("epoch_val: there is no val_dataset to validate on; add one, or leave epoch_val out")
        if config.gan is not None and config.amp == "fp16":
            raise ConfigError("amp: fp16 does not go together with gan; use bf16")
        if config.gan is not None and config.train_dataset.wrapper["args"].get("sample_q") is not None:
            raise ConfigError("train_dataset.wrapper.args.sample_q: gan needs whole crops; leave it out")
        if config.gan is not None and asks_for_grids(config.train_dataset):
            name = config.train_dataset.wrapper["name"]
            raise ConfigError(
                f"train_dataset.wrapper.name: gan needs whole crops, and {name} asks for some of their pixels; use "
                f"{name.removesuffix('-fast')}"
            )
    return config


def asks_for_grids(spec: Data) -> bool:
    """Whether a wrapper's queries lie in rows and columns, see ``liif_fast.data.grids``."""
    return bool(getattr(registry.dataset_factory(spec.wrapper["name"]), "grid", False))


def _data(key: str, value: Any) -> Data:
    keys(key, value, ("dataset", "wrapper", "batch_size"))
    dataset, wrapper = (_spec(f"{key}.{part}", value[part]) for part in ("dataset", "wrapper"))
    for part, spec, given in (("dataset", dataset, {}), ("wrapper", wrapper, {"dataset": None})):
        try:
            factory = registry.dataset_factory(spec["name"])
        except KeyError as error:
            raise ConfigError(f"{key}.{part}.name: {error.args[0]}") from None
        arguments(f"{key}.{part}.args", spec, factory, given)
    return Data(dataset, wrapper, whole(f"{key}.batch_size", value["batch_size"]))


def _model(key: str, value: Any) -> dict[str, Any]:
    spec = _spec(key, value)
    if spec["name"] not in registry.names():
        known = ", ".join(registry.names())
        close = meant(spec["name"], registry.names())
        raise ConfigError(f"{key}.name: no model is registered as {shown(spec['name'])}{close}; known: {known}")
    return spec


def _optimizer(key: str, value: Any) -> dict[str, Any]:
    from .optimizer import OPTIMIZERS

    spec = _spec(key, value)
    if spec["name"] not in OPTIMIZERS:
        raise ConfigError(f"{key}.name: one of {', '.join(OPTIMIZERS)} is wanted, got {shown(spec['name'])}")
    # YAML 1.1 takes 1e-4, unlike 1.e-4, for a string
    spec["args"] = {name: number_if_one(v) for name, v in spec["args"].items()}
    arguments(f"{key}.args", spec, OPTIMIZERS[spec["name"]], {"params": []})
    positive(f"{key}.args.lr", spec["args"].get("lr"))
    return spec


def _multi_step_lr(key: str, value: Any) -> dict[str, Any]:
    keys(key, value, ("milestones", "gamma"), needed=("milestones",))
    milestones = value["milestones"]
    if not isinstance(milestones, list):
        raise ConfigError(f"{key}.milestones: a list of epochs is wanted, got {shown(milestones)}")
    checked = {"milestones": [whole(f"{key}.milestones", m) for m in milestones]}
    return checked | ({"gamma": positive(f"{key}.gamma", value["gamma"])} if "gamma" in value else {})


def _gan(key: str, value: Any) -> dict[str, Any]:
    from .gan import CONTENTS, DEFAULTS

    keys(key, value, tuple(DEFAULTS), needed=("discriminator", "optimizer"))
    checked = {**DEFAULTS, **value}
    checked["discriminator"] = _model(f"{key}.discriminator", value["discriminator"])
    checked["optimizer"] = _optimizer(f"{key}.optimizer", value["optimizer"])
    checked["content"] = one_of(*CONTENTS)(f"{key}.content", checked["content"])
    for name in ("content_weight", "adversarial_weight", "pixel_weight"):
        checked[name] = positive(f"{key}.{name}", checked[name], zero=True)
    return checked


def _norm(key: str, value: Any) -> state_dicts.DataNorm:
    if value is None:
        return {part: {"sub": [0.0], "div": [1.0]} for part in ("inp", "gt")}
    keys(key, value, ("inp", "gt"))
    for part in ("inp", "gt"):
        keys(f"{key}.{part}", value[part], ("sub", "div"))
    try:
        return state_dicts.check_data_norm(value)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _amp(key: str, value: Any) -> str | None:
    names = {True: "auto", False: None, "bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16"}
    if not isinstance(value, bool | str) or value not in names:
        raise ConfigError(f"{key}: true, false, bf16 or fp16 is wanted, got {shown(value)}")
    return names[value]


def _ema(key: str, value: Any) -> float:
    value = positive(key, value)
    if value >= 1:
        raise ConfigError(f"{key}: a decay between 0 and 1 is wanted, 0.999 say, got {shown(value)}")
    return value


def _eval_type(key: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(div2k|benchmark)-[1-9][0-9]{0,2}", value):
        raise ConfigError(f"{key}: div2k-S or benchmark-S with a whole scale S is wanted, got {shown(value)}")
    return value


def _workers(key: str, value: Any) -> int:
    if from_zero(key, value) > _MOST_WORKERS:
        raise ConfigError(f"{key}: at most {_MOST_WORKERS} processes are wanted, got {shown(value)}")
    return value


def _spec(key: str, value: Any) -> dict[str, Any]:
    keys(key, value, ("name", "args"), needed=("name",))
    name, args = value["name"], {} if value.get("args") is None else value["args"]
    if not isinstance(name, str):
        raise ConfigError(f"{key}.name: a name is wanted, got {shown(name)}")
    if not isinstance(args, Mapping):
        raise ConfigError(f"{key}.args: a mapping of arguments is wanted, got {shown(args)}")
    return {"name": name, "args": dict(args)}


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("train_dataset", "val_dataset", "test_dataset"), _data),
    **dict.fromkeys(("epoch_max", "epoch_val", "epoch_save", "eval_bsize", "save_steps", "log_steps"), whole),
    "head_parts": whole,
    **dict.fromkeys(("seed", "nan_limit"), from_zero),
    "num_workers": _workers,
    **dict.fromkeys(("compile", "channels_last", "norm_eval", "cuda_graph"), flag),
    **dict.fromkeys(("resume", "init"), text),
    "model": _model,
    "optimizer": _optimizer,
    "data_norm": _norm,
    "multi_step_lr": _multi_step_lr,
    "eval_type": _eval_type,
    "monitor": one_of("psnr", "loss"),
    "amp": _amp,
    "ema": _ema,
    "grad_clip": positive,
    "loss": one_of("l1", "mse"),
    "gan": _gan,
}
