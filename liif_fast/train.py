"""``liif-fast train CONFIG.yaml``, on one device or, under torchrun, on many::

    liif-fast train configs/train_edsr-baseline-liif.yaml
    torchrun --nproc-per-node 4 -m liif_fast.train configs/train_edsr-baseline-liif.yaml

The files of the official repository run as they are (``liif_fast.training.config`` lists the keys). Into the folder of
the run, ``save/_NAME`` as there, go ``epoch-last.pth``, ``epoch-best.pth``, ``epoch-N.pth``, ``config.yaml``,
``log.txt``, ``metrics.jsonl``, ``curves.png``, ``pictures.png``, and ``tensorboard/`` if that is installed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from . import distributed, reporting
from .training import run_folder
from .training.config import Config, ConfigError, load_config
from .training.dry_run import dry_run, model_text, notes_of
from .training.loop import Trainer
from .training.setup import common_seed, setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file in the form of the official repository's")
    parser.add_argument("--save", metavar="DIR", help="folder of the run (default: save/_CONFIG, as the official one)")
    parser.add_argument("--name", help="name of the folder inside save/, in place of _CONFIG")
    parser.add_argument("--tag", help="put behind the folder's name")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the folder's newest whole checkpoint, if there is one"
    )
    parser.add_argument("--overwrite", action="store_true", help="delete the run in the folder, and start anew")
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="save and stop after so long, with exit code 0; --resume goes on"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would happen (1: data are missing)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (%(default)s)")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")


def run(args: argparse.Namespace, device: torch.device) -> int:
    """Train as the arguments say; returns the exit code.

    Raises:
        ConfigError: a configuration or data that cannot be trained. TrainingError: what stops a run that has begun.
    """
    begun = time.monotonic()
    if args.minutes is not None and not args.minutes > 0:  # NaN compares false
        raise ConfigError(f"--minutes {args.minutes:g}: a number above 0 is wanted")
    config = load_config(args.config)
    folder = folder_of(args)
    if args.dry_run:
        text, ready = dry_run(config, folder, device, _start(args, config, folder))
        reporting.results(text)
        return 0 if ready else 1
    distributed.connect(device)
    try:
        start = _start(args, config, folder)
        parts = setup(config, device, common_seed(config, start.seed))
        trainer = Trainer(parts, folder, start.checkpoint, start.path)
        notes = []
        if distributed.rank() == 0:
            notes = run_folder.prepare(folder, Path(args.config).read_bytes(), start, parts.module)
        trainer.open()
        for line in _greeting(trainer, start.path, notes):
            trainer.journal.say(line)
        return trainer.run(None if args.minutes is None else begun + 60 * args.minutes)
    finally:
        distributed.disconnect()


def _start(args: argparse.Namespace, config: Config, folder: Path) -> run_folder.Start:
    return run_folder.choose(folder, args.resume, args.overwrite, config.resume, config.init)


def folder_of(args: argparse.Namespace) -> Path:
    """Where the run's files go."""
    name = args.name or f"_{Path(args.config).stem}"
    folder = Path(args.save) if args.save else Path("save") / name
    return folder.with_name(f"{folder.name}_{args.tag}") if args.tag else folder


def _greeting(trainer: Trainer, path: Path | None, notes: list[str]) -> list[str]:
    parts, p = trainer.setup, trainer.progress
    lines = [*(f"note: {note}" for note in notes), model_text(parts.config, parts.module)]
    world = distributed.world()
    together = f" x {world} processes" if world > 1 else ""
    lines.append(
        f"train: {len(parts.train_samples)} samples, batches of {parts.config.train_dataset.batch_size}{together}, "
        f"{len(parts.train_batches)} steps an epoch, on {parts.device}; seed {parts.seed}"
    )
    if parts.critic is not None:
        lines.append(parts.critic.content_name)
    lines += [f"note: {note}" for note in notes_of(parts.train_samples, parts.val_samples)]
    if path is not None:
        lines.append(f"resumed {path}: epoch {p.epoch} complete, {p.batch} steps of the next one, step {p.step}")
    return lines


if __name__ == "__main__":
    from .cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
