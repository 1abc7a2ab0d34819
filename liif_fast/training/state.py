"""Checkpoints of training: the official form, and in it everything that a resumed run needs.

``{'model': {'name', 'args', 'sd'}, 'optimizer': {'name', 'args', 'sd'}, 'epoch': completed epochs}`` is what the
official program reads and writes; beside them lie ``data_norm``, so that ``liif_fast.load`` gives a model that is ready
for images, and ``training``: progress, schedule, seed, and what amp, ema and gan keep. There is no state of random
generators, because all randomness is computed from the seed and the number of the step or sample.
"""

from __future__ import annotations

import dataclasses
import errno
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..base.shown import shown
from ..weights import files as weight_files
from . import contents
from .values import ConfigError

FORMAT = 1


class TrainingError(RuntimeError):
    """Why a run cannot go on; one line."""


class NotDamagedError(TrainingError):
    """A file that another attempt, or another program, can read: nothing may be put in its place."""


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0  # completed
    batch: int = 0  # of the next epoch, done
    step: int = 0  # in all
    pending: bool = False  # the last completed epoch still waits for its validation
    skipped: int = 0  # steps left out for NaN or infinity
    best: float | None = None  # of the monitored figure
    seconds: float = 0.0  # of work, over all runs
    epoch_loss: list[float] = field(default_factory=lambda: [0.0, 0.0])  # sum and number, since the epoch began
    log_loss: list[float] = field(default_factory=lambda: [0.0, 0.0])  # since the last record
    batches: int = 0  # in an epoch; a run with another number starts the epoch again


def write(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        TrainingError: the disk is full, the folder cannot be written, ...; an older file of the name is untouched.
    """
    data = io.BytesIO()
    torch.save(dict(checkpoint), data)
    try:
        weight_files.write(path, data.getvalue())
    except OSError as error:
        raise TrainingError(cannot_write(path, error)) from error


def read(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint of this or the official program, on the CPU.

    Raises:
        TrainingError: no such file, damaged, of another kind, or with a value of a wrong kind, whose key is named.
    """
    try:
        raw, _ = weight_files.read(path)
    except OSError as error:
        raise NotDamagedError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise TrainingError(f"{path}: {error}") from error
    complete = isinstance(raw, Mapping) and all(
        isinstance(raw.get(key), Mapping) and isinstance(raw[key].get("sd"), Mapping) for key in ("model", "optimizer")
    )
    if not complete or "epoch" not in raw:
        raise TrainingError(
            f"{path}: no checkpoint of a training run (model, optimizer and epoch are wanted); to start from weights "
            "alone use the key init"
        )
    training = raw.get("training")
    version = training.get("format") if isinstance(training, Mapping) else None
    if isinstance(version, int) and version > FORMAT:
        raise NotDamagedError(
            f"{path}: written by a newer liif_fast (format {shown(version)}, this one knows {FORMAT})"
        )
    try:
        contents.check(raw, Progress)
    except ConfigError as error:
        raise TrainingError(f"{path}: {error}; the file is damaged") from error
    return dict(raw)


def progress_of(checkpoint: Mapping[str, Any], batches: int) -> Progress:
    """Where a checkpoint stands, for a run with ``batches`` in an epoch."""
    if "training" not in checkpoint:  # the official program's
        return Progress(epoch=checkpoint["epoch"], step=checkpoint["epoch"] * batches, batches=batches)
    known = {f.name for f in dataclasses.fields(Progress)}
    progress = Progress(**{k: v for k, v in checkpoint["training"]["progress"].items() if k in known})
    if progress.batches != batches:
        progress = dataclasses.replace(progress, batch=0, batches=batches, epoch_loss=[0.0, 0.0])
    return progress


def cannot_write(path: Path, error: OSError) -> str:
    """One line for people."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: the disk is full; the last complete checkpoint is untouched: free some space, then --resume"
    return f"{path}: cannot be written ({error.strerror or error}); the last complete checkpoint is untouched"
