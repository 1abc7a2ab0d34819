"""A run from a configuration file to its folder.

The files of the official repository run as they are (``liif_fast.training.config`` lists the keys). Into the folder of
the run, ``save/_NAME`` as there, go ``epoch-last.pth``, ``epoch-best.pth``, ``epoch-N.pth``, ``config.yaml``,
``log.txt``, ``metrics.jsonl``, ``pictures.png``, and ``curves.png`` and ``tensorboard/`` where matplotlib and
tensorboard are installed.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from .. import distributed
from . import graph, run_folder
from . import parts as head_parts
from .config import Config, ConfigError, load_config
from .dry_run import dry_run, model_text, notes_of
from .loop import Trainer
from .setup import common_seed, setup


def train(
    file: str | os.PathLike[str],
    folder: Path,
    device: torch.device,
    resume: bool = False,
    overwrite: bool = False,
    *,
    deadline: float | None = None,
    bar: bool = False,
) -> int:
    """Train as a configuration file says; returns the exit code, see ``Trainer.run``.

    Args:
        resume: go on from the folder's newest whole checkpoint, if there is one.
        overwrite: delete the run in the folder, and start anew.
        deadline: of ``time.monotonic()``, at which to save and stop.
        bar: show a progress bar on standard error.

    Raises:
        ConfigError: a configuration or data that cannot be trained. TrainingError: what stops a run that has begun.
    """
    config = load_config(file)
    distributed.connect(device)
    try:
        start = _start(config, folder, resume, overwrite)
        parts = setup(config, device, common_seed(config, start.seed))
        trainer = Trainer(parts, folder, start.checkpoint, start.path, bar)
        notes = []
        if distributed.rank() == 0:
            notes = run_folder.prepare(folder, Path(file).read_bytes(), start, parts.module)
        trainer.open()
        for line in _greeting(trainer, start.path, notes):
            trainer.journal.say(line)
        return trainer.run(deadline)
    finally:
        distributed.disconnect()


def plan(
    file: str | os.PathLike[str], folder: Path, device: torch.device, resume: bool = False, overwrite: bool = False
) -> tuple[str, bool]:
    """What ``train`` with these arguments would do, in lines for people, and whether it could begin; see ``dry_run``.

    Raises:
        ConfigError, DataError, TrainingError: what the run would raise before its first step.
    """
    config = load_config(file)
    return dry_run(config, folder, device, _start(config, folder, resume, overwrite))


def folder_of(
    file: str | os.PathLike[str], save: str | None = None, name: str | None = None, tag: str | None = None
) -> Path:
    """Where the run's files go, from the options of the same names; the official program's place by default."""
    folder = Path(save) if save else Path("save") / (name or f"_{Path(file).stem}")
    return folder.with_name(f"{folder.name}_{tag}") if tag else folder


def _start(config: Config, folder: Path, resume: bool, overwrite: bool) -> run_folder.Start:
    """Where all processes begin.

    Raises:
        ConfigError: also when some have a checkpoint to go on from, and others do not find it.
    """
    start = run_folder.choose(folder, resume, overwrite, config.resume, config.init)
    found = distributed.gather(start.path is not None)
    if any(found) and not all(found):
        raise ConfigError(
            f"resume: {start.path or config.resume or folder}: {found.count(True)} of {len(found)} processes find this "
            "checkpoint; put it where all of them see it"
        )
    return start


def _greeting(trainer: Trainer, path: Path | None, notes: list[str]) -> list[str]:
    parts, p = trainer.setup, trainer.progress
    lines = [*(f"note: {note}" for note in notes), model_text(parts.config, parts.module)]
    world = distributed.world()
    together = f" x {world} processes" if world > 1 else ""
    lines.append(
        f"train: {len(parts.train_samples)} samples, batches of {parts.config.train_dataset.batch_size}{together}, "
        f"{len(parts.train_batches)} steps an epoch, on {parts.device}; seed {parts.seed}"
    )
    if graph.wanted(parts):
        hindered = graph.obstacle(parts)
        lines.append(f"no CUDA graph of the training step: {hindered}" if hindered else graph.PLAN)
    if hindered := head_parts.obstacle(parts):
        lines.append(f"head_parts: {parts.config.head_parts} is left out, a batch is taken whole: {hindered}")
    if parts.critic is not None:
        lines.append(parts.critic.content_name)
    lines += [f"note: {note}" for note in notes_of(parts.train_samples, parts.val_samples)]
    if path is not None:
        lines.append(f"resumed {path}: epoch {p.epoch} complete, {p.batch} steps of the next one, step {p.step}")
    return lines
