"""The first samples through the model, before anything is begun: what does not go together shows here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..data.errors import DataError
from ..data.folders import ImageFolder
from ..data.loader import Keyed
from ..data.samples import expand
from ..weights.files import first_line
from .config import Config, ConfigError, EvalConfig
from .gan import Critic
from .step import LOSSES, check_colours, half_precision, norm_tensors, of_colours, train_mode
from .validate import batch_psnr

_MOST = 2  # samples: enough to see whether they make a batch


def check_training(
    config: Config, module: torch.nn.Module, critic: Critic | None, samples: Any, device: torch.device, seed: int
) -> None:
    """Forward pass and loss of the first samples of training.

    Args:
        module, critic: copies that may be spoilt, on the device.

    Raises:
        ConfigError: whatever does not go together. DataError: an image that cannot be read.
    """
    batch = _batch("train_dataset", samples, config.train_dataset.batch_size, seed, device)
    dtype = half_precision(config.amp, device)
    autocast = contextlib.nullcontext if dtype is None else lambda: torch.autocast(device.type, dtype=dtype)
    train_mode(module, config.norm_eval)
    with torch.no_grad(), _named("model: fails at the first samples"):
        inp, gt = _normalised(batch, config, device)
        with autocast():
            pred = module(inp, batch["coord"], batch["cell"])
        check_colours(pred, gt)
        if critic is None:
            LOSSES[config.loss](pred, gt)
        else:
            critic.generator_loss(pred, gt, batch["cell"], autocast)


def check_validation(
    config: Config | EvalConfig, key: str, module: torch.nn.Module, samples: Any, device: torch.device, seed: int
) -> None:
    """The first samples of validation and their figure; not the model, which takes long on whole images.

    Raises:
        ConfigError, DataError: as ``check_training``.
    """
    batch = _batch(key, samples, getattr(config, key).batch_size, seed, device)
    rows = batch["gt"].ndim == 3  # of queries; a grid is taken whole
    if rows and config.eval_bsize is not None and not all(hasattr(module, name) for name in ("gen_feat", "query_rgb")):
        raise ConfigError("eval_bsize: this model has no gen_feat and query_rgb; leave it out")
    if config.eval_type is not None and getattr(samples, "sample_q", None) is not None:  # may look like a small image
        drawn_by = getattr(samples, "drawn_by", "sample_q")
        raise ConfigError(
            f"{key}.wrapper.args.{drawn_by}: eval_type {config.eval_type} needs whole images; leave it out"
        )
    with _named("eval_type" if config.eval_type else key):
        inp, _ = _normalised(batch, config, device)
        batch_psnr(batch["gt"], batch["gt"], inp.shape, config.eval_type)


def _batch(key: str, samples: Any, size: int, seed: int, device: torch.device) -> dict[str, Tensor]:
    keyed = Keyed(samples, seed)
    with _decoding_one_by_one(samples), _named(f"{key}: cannot make a batch of the first samples"):
        batch = default_collate([keyed[i, 0, i] for i in range(min(_MOST, size, len(samples)))])
        return expand({name: t.to(device) for name, t in batch.items()})


def _normalised(batch: dict[str, Tensor], config: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    inp_sub, inp_div = norm_tensors(config.data_norm["inp"], (1, -1, 1, 1), device)
    gt_sub, gt_div = of_colours(norm_tensors(config.data_norm["gt"], (-1,), device), batch["gt"])
    return (batch["inp"] - inp_sub) / inp_div, (batch["gt"] - gt_sub) / gt_div


@contextlib.contextmanager
def _decoding_one_by_one(samples: Any) -> Iterator[None]:
    """No image is decoded but those that are asked for, whatever is to be kept later."""
    dataset = getattr(samples, "dataset", None)
    parts = (dataset, getattr(dataset, "dataset_1", None), getattr(dataset, "dataset_2", None))
    folders = {part: part.cache for part in parts if isinstance(part, ImageFolder)}
    try:
        for folder in folders:
            folder.cache = "none"
        yield
    finally:
        for folder, cache in folders.items():
            folder.cache = cache


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except (ConfigError, DataError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever models and datasets of any make may raise
        text = first_line(error)
        raise ConfigError(text if text.startswith("gan:") else f"{what}: {text}") from error
