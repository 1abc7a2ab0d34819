"""From a checked configuration to what a run needs: data, model, optimizer."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from .. import data, distributed
from ..data import on_device
from ..data.loader import Batches, WholeBatches, make_loader, workers
from ..registry import make
from ..weight_files import first_line
from .config import Config, ConfigError, Data
from .gan import Critic
from .optimizer import make_optimizer, make_schedule
from .step import LOSSES, half_precision, hash_seed, norm_tensors

Loader = DataLoader | on_device.OnDevice


@dataclass
class Setup:
    """The parts of a run, on its device."""

    config: Config
    device: torch.device
    seed: int
    module: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any
    critic: Critic | None
    train_samples: Any
    val_samples: Any | None
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
        raise ConfigError(f"model: cannot be built: {first_line(error)}") from error
    if hasattr(model, "data_norm"):
        model.data_norm = config.data_norm
    return model


def build_optimizer(config: Config, model: nn.Module) -> tuple[torch.optim.Optimizer, Any]:
    """Optimizer and schedule; ConfigError if their arguments do not fit."""
    try:
        optimizer = make_optimizer(model.parameters(), config.optimizer)
        return optimizer, make_schedule(optimizer, config.multi_step_lr)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: cannot be built: {first_line(error)}") from error


def build_critic(config: Config, device: torch.device) -> Critic | None:
    """What the key ``gan`` asks for; ConfigError if it cannot be had."""
    if config.gan is None:
        return None
    try:
        return Critic(config, LOSSES[config.loss], norm_tensors(config.data_norm["gt"], (-1,), device), device)
    except (TypeError, ValueError, OSError) as error:
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
        raise ConfigError(f"{key}: {error}") from error
    except (TypeError, KeyError, OSError) as error:
        raise ConfigError(f"{key}: {first_line(error)}") from error
    if len(samples) == 0:
        raise ConfigError(f"{key}: there is nothing in it")
    return samples


def common_seed(config: Config, saved: int | None = None) -> int:
    """The seed of the run: the checkpoint's, else the file's, else one that the first process draws for all."""
    if saved is not None:
        return saved
    return distributed.gather(secrets.randbits(31) if config.seed is None else config.seed)[0]


def setup(config: Config, device: torch.device, seed: int) -> Setup:
    """Everything for a run. Decodes the images that are to be kept; reads ``init``."""
    half_precision(config.amp, device)  # reports what cannot be
    module = build_model(config, seed)
    if config.init is not None:
        _load_init(module, Path(config.init))
    train_samples = build_samples("train_dataset", config.train_dataset)
    val_samples = None if config.val_dataset is None else build_samples("val_dataset", config.val_dataset)
    module = module.to(device)
    if config.channels_last:
        module = module.to(memory_format=torch.channels_last)
    optimizer, schedule = build_optimizer(config, module)
    critic = build_critic(config, device)
    rank, world = distributed.rank(), distributed.world()
    batches = Batches(
        len(train_samples), config.train_dataset.batch_size, shuffle=True, seed=seed, rank=rank, world=world
    )
    with distributed.first_here():
        for samples in (train_samples, val_samples):
            if hasattr(samples, "prepare"):
                samples.prepare()
    val_loader = None
    if val_samples is not None:
        val_batches = WholeBatches(len(val_samples), config.val_dataset.batch_size, rank, world)
        val_loader = _loader(val_samples, val_batches, config, seed, device)
    return Setup(
        config=config,
        device=device,
        seed=seed,
        module=module,
        optimizer=optimizer,
        schedule=schedule,
        critic=critic,
        train_samples=train_samples,
        val_samples=val_samples,
        train_batches=batches,
        train_loader=_loader(train_samples, batches, config, seed, device),
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
    from .. import checkpoints
    from .state import TrainingError, load_weights

    try:
        model, notes = checkpoints.load_with_notes(path)
        weights = model.state_dict()
        load_weights(module, weights, path)
    except (ValueError, TrainingError) as error:
        raise ConfigError(f"init: {error}") from error
    if distributed.rank() == 0:
        for note in notes:
            print(f"liif-fast: note: init: {note}", file=sys.stderr)
