"""From a checked configuration to what a run needs: data, model, optimizer."""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from .. import data, distributed
from ..base.shown import shown
from ..data import on_device
from ..data.loader import Batches, WholeBatches, make_loader, workers
from ..data.samples import Samples
from ..models.image_interface import ImageInterface
from ..registry import dataset_factory, make
from ..weights.files import first_line
from . import trial
from .config import Config, ConfigError, Data, asks_for_grids
from .gan import Critic
from .optimizer import make_optimizer, make_schedule
from .step import LOSSES, half_precision, hash_seed, norm_tensors

_log = logging.getLogger(__name__)
Loader = DataLoader[dict[str, torch.Tensor]] | on_device.OnDevice


@dataclass
class Parts:
    """What a configuration builds, on its device, before any image is decoded."""

    config: Config
    device: torch.device
    seed: int
    module: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any
    critic: Critic | None
    train_samples: Any  # None: the images are missing
    val_samples: Any


@dataclass
class Setup(Parts):
    """The parts of a run, on its device."""

    train_batches: Batches
    train_loader: Loader
    val_loader: Loader | None


def build_model(config: Config, seed: int) -> nn.Module:
    """The model with its first weights, which depend on the seed only; ConfigError if its arguments do not fit."""
    torch.manual_seed(hash_seed(seed))
    try:
        model = make(config.model)
        if not isinstance(model, nn.Module):
            raise TypeError(f"{config.model['name']} is no model")
    except Exception as error:  # whatever the constructor of any registered class may raise
        name, spec = config.model["name"], config.model["args"].get("encoder_spec")
        if isinstance(spec, Mapping) and spec.get("name") == name:
            # as in LTE's train_swinir-liif.yaml, which its own program cannot run either
            raise ConfigError(
                f"model.name: {name} is an encoder and takes no encoder_spec; the model around it is wanted, write liif"
            ) from error
        raise ConfigError(f"model: cannot be built: {first_line(error)}") from error
    _check_colours(config.model, model)
    if hasattr(model, "data_norm"):
        model.data_norm = config.data_norm  # type: ignore[assignment]  # nn.Module says: tensors and modules
    return model


def check_grids(key: str, spec: Data, model: nn.Module) -> None:
    """ConfigError for a wrapper of grids around data for a model that takes rows of queries only.

    Models of this package that take both say so by an attribute ``grid_queries``; those of others are tried.
    """
    if asks_for_grids(spec) and not getattr(model, "grid_queries", not isinstance(model, ImageInterface)):
        name = spec.wrapper["name"]
        raise ConfigError(
            f"{key}.wrapper.name: {name} asks for grids of queries [B, h, w, 2], and {type(model).__name__} takes rows "
            f"[B, Q, 2]; use {name.removesuffix('-fast')}, or a model like lte-fast"
        )


def _check_colours(spec: Mapping[str, Any], model: nn.Module) -> None:
    """A LIIF that is trained on images must give colours."""
    imnet = spec["args"].get("imnet_spec")
    if spec["name"] != "liif" or not isinstance(model, nn.Module):
        return
    if imnet is None and (channels := getattr(model.encoder, "out_dim", 3)) != 3:
        raise ConfigError(
            f"model.args.imnet_spec: this key is missing, so the model gives {shown(channels)} features, no colours"
        )
    args = imnet.get("args") if isinstance(imnet, Mapping) else None
    if isinstance(args, Mapping) and (out := args.get("out_dim", 3)) != 3:
        raise ConfigError(f"model.args.imnet_spec.args.out_dim: 3, for colours, is wanted, got {shown(out)}")


def build_optimizer(config: Config, model: nn.Module) -> tuple[torch.optim.Optimizer, Any]:
    """Optimizer and schedule; ConfigError if their arguments do not fit."""
    try:
        optimizer = make_optimizer(model.parameters(), config.optimizer)
        return optimizer, make_schedule(optimizer, config.multi_step_lr)
    except Exception as error:  # torch checks little of its arguments
        raise ConfigError(f"optimizer: cannot be built: {first_line(error)}") from error


def build_critic(config: Config, device: torch.device) -> Critic | None:
    """What the key ``gan`` asks for; ConfigError if it cannot be had."""
    if config.gan is None:
        return None
    try:
        gt_norm = norm_tensors(config.data_norm["gt"], (-1,), device)
        return Critic(config.gan, config.multi_step_lr, LOSSES[config.loss], gt_norm, device)
    except Exception as error:  # of the constructor of any registered class
        raise ConfigError(f"gan: {first_line(error)}") from error


def build_samples(key: str, spec: Data) -> Any:
    """The wrapper around its dataset; every image is large enough, samples fit into a batch. Decodes nothing."""
    try:
        dataset = data.make(spec.dataset)
        samples = data.make(spec.wrapper, args={"dataset": dataset})
        if hasattr(samples, "check"):
            samples.check(spec.batch_size)
        if on_device.wanted(samples):
            on_device.check(samples)
    except data.DataError as error:
        if isinstance(error, data.MissingError):
            _check_wrapper(key, spec)
        raise ConfigError(f"{key}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever the constructor of any registered class may raise
        raise ConfigError(f"{key}: {first_line(error)}") from error
    if len(samples) == 0:
        raise ConfigError(f"{key}: there is nothing in it")
    return samples


def _check_wrapper(key: str, spec: Data) -> None:
    """What can be said of a wrapper whose images are missing."""
    if isinstance(factory := dataset_factory(spec.wrapper["name"]), type) and issubclass(factory, Samples):
        try:
            data.make(spec.wrapper, args={"dataset": None})
        except data.DataError as error:
            raise ConfigError(f"{key}: {error}") from error


def common_seed(config: Config, saved: int | None = None) -> int:
    """The seed of the run: the checkpoint's, else the file's, else one that the first process draws for all."""
    if saved is not None:
        return saved
    return distributed.gather(secrets.randbits(31) if config.seed is None else config.seed)[0]


def build(config: Config, device: torch.device, seed: int, missing: Callable[[str], None] | None = None) -> Parts:
    """Model, data, optimizer and critic; a few samples have gone through all of them. Reads ``init``.

    Args:
        missing: called with what is to be said of data or a file that is not there; None: that is a ConfigError.

    Raises:
        ConfigError: anything that cannot be or does not go together. DataError: an image that cannot be read.
    """
    half_precision(config.amp, device)  # reports what cannot be
    module = build_model(config, seed)
    if config.init is not None:
        if missing is not None and not Path(config.init).exists():
            missing(f"init: {config.init}: no such file")
        else:
            _load_init(module, Path(config.init))
    samples: dict[str, Any] = {"train_dataset": None, "val_dataset": None}
    for key in samples:
        if (spec := getattr(config, key)) is not None:
            check_grids(key, spec, module)
    for key in samples:
        if (spec := getattr(config, key)) is not None:
            try:
                samples[key] = build_samples(key, spec)
            except ConfigError as error:
                if missing is None or not isinstance(error.__cause__, data.MissingError):
                    raise
                missing(str(error))
    module = module.to(device)
    if config.channels_last:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub leaves it out
    optimizer, schedule = build_optimizer(config, module)
    critic = build_critic(config, device)
    if samples["train_dataset"] is not None:
        spoilt = build_model(config, seed).to(device), build_critic(config, device)
        trial.check_training(config, *spoilt, samples["train_dataset"], device, seed)
    if samples["val_dataset"] is not None:
        trial.check_validation(config, "val_dataset", module, samples["val_dataset"], device, seed)
    return Parts(
        config=config,
        device=device,
        seed=seed,
        module=module,
        optimizer=optimizer,
        schedule=schedule,
        critic=critic,
        train_samples=samples["train_dataset"],
        val_samples=samples["val_dataset"],
    )


def setup(config: Config, device: torch.device, seed: int) -> Setup:
    """Everything for a run: ``build``, and the images decoded that are to be kept."""
    parts = build(config, device, seed)
    rank, world = distributed.rank(), distributed.world()
    batches = Batches(
        len(parts.train_samples), config.train_dataset.batch_size, shuffle=True, seed=seed, rank=rank, world=world
    )
    with distributed.first_here():
        for samples in (parts.train_samples, parts.val_samples):
            if hasattr(samples, "prepare"):
                samples.prepare()
    val_loader = None
    if parts.val_samples is not None and config.val_dataset is not None:
        val_batches = WholeBatches(len(parts.val_samples), config.val_dataset.batch_size, rank, world)
        val_loader = _loader(parts.val_samples, val_batches, config, seed, device)
    return Setup(
        **{field.name: getattr(parts, field.name) for field in dataclasses.fields(Parts)},
        train_batches=batches,
        train_loader=_loader(parts.train_samples, batches, config, seed, device),
        val_loader=val_loader,
    )


def _loader(samples: Any, batches: Any, config: Config, seed: int, device: torch.device) -> Loader:
    if not on_device.wanted(samples):
        n = workers(config.num_workers)
        return make_loader(samples, batches, seed=seed, num_workers=n, pin_memory=device.type == "cuda")
    try:
        return on_device.OnDevice(samples, batches, seed=seed, device=device)
    except torch.OutOfMemoryError as error:
        raise ConfigError(f"cache: device: the images do not fit on {device}; use in_memory or bin") from error


def _load_init(module: nn.Module, path: Path) -> None:
    from ..weights import checkpoints
    from .restore import load_weights
    from .state import TrainingError

    try:
        model, notes = checkpoints.load_with_notes(path)
        weights = model.state_dict()
        load_weights(module, weights, path)
    except (ValueError, TrainingError) as error:
        raise ConfigError(f"init: {error}") from error
    if distributed.rank() == 0:
        for note in notes:
            _log.warning("init: %s", note)
