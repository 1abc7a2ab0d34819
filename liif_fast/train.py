"""``liif-fast train CONFIG.yaml``, on one device or, under torchrun, on many::

    liif-fast train configs/train_edsr-baseline-liif.yaml
    torchrun --nproc-per-node 4 -m liif_fast.train configs/train_edsr-baseline-liif.yaml

The files of the official repository run as they are (``liif_fast.training.config`` lists the keys). Into the folder of
the run, ``save/_NAME`` as there, go ``epoch-last.pth``, ``epoch-best.pth``, ``epoch-N.pth``, ``config.yaml``,
``log.txt``, ``metrics.jsonl``, ``curves.png``, ``pictures.png``, and ``tensorboard/`` if that is installed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from . import data, distributed, reporting, weight_files
from .training import state
from .training.config import Config, ConfigError, Data, load_config
from .training.journal import LOG, METRICS
from .training.loop import BEST, LAST, Trainer
from .training.setup import build_critic, build_model, build_optimizer, build_samples, common_seed, setup
from .training.step import half_precision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file in the form of the official repository's")
    parser.add_argument("--save", metavar="DIR", help="folder of the run (default: save/_CONFIG, as the official one)")
    parser.add_argument("--name", help="name of the folder inside save/, in place of _CONFIG")
    parser.add_argument("--tag", help="put behind the folder's name")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the folder's last checkpoint, if there is one"
    )
    parser.add_argument("--overwrite", action="store_true", help="start anew in a folder that has checkpoints")
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="save and stop after so long, with exit code 0; --resume goes on"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything and say what would happen")
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
    folder = run_folder(args)
    if args.dry_run:
        reporting.results(dry_run(config, folder, device))
        return 0
    distributed.connect(device)
    try:
        path = _checkpoint_to_resume(args, config, folder)
        checkpoint = None if path is None else state.read(path)
        saved = (checkpoint or {}).get("training", {}).get("seed")
        parts = setup(config, device, common_seed(config, saved))
        if distributed.rank() == 0:
            _prepare_folder(Path(args.config), folder, parts.module, fresh=checkpoint is None)
        trainer = Trainer(parts, folder, checkpoint, path)
        for line in _greeting(trainer, path):
            trainer.journal.say(line)
        return trainer.run(None if args.minutes is None else begun + 60 * args.minutes)
    finally:
        distributed.disconnect()


def run_folder(args: argparse.Namespace) -> Path:
    """Where the run's files go."""
    name = args.name or f"_{Path(args.config).stem}"
    folder = Path(args.save) if args.save else Path("save") / name
    return folder.with_name(f"{folder.name}_{args.tag}") if args.tag else folder


def dry_run(config: Config, folder: Path, device: torch.device) -> str:
    """What ``run`` would do, in lines for people. Missing folders are said, anything else wrong is a ConfigError."""
    half_precision(config.amp, device)
    model = build_model(config, 0)
    build_optimizer(config, model)
    rate = f"learning rate {config.optimizer['args']['lr']:g}"
    if config.multi_step_lr is not None:
        plan = config.multi_step_lr
        rate += f", times {plan.get('gamma', 0.1):g} after epochs {', '.join(map(str, plan['milestones']))}"
    lines = [
        "the configuration is in order",
        _model_text(config, model),
        f"optimizer: {config.optimizer['name']}, {rate}",
    ]
    if (critic := build_critic(config, torch.device("cpu"))) is not None:
        lines.append(critic.content_name)
    for key in ("init", "resume"):
        file = getattr(config, key)
        if file is not None and not Path(file).is_file():
            lines.append(f"missing: {key}: {file}: no such file")
    steps = None
    for key in ("train_dataset", "val_dataset"):
        spec = getattr(config, key)
        if spec is not None:
            text, samples = _data_text(spec, key)
            lines.append(text)
            if key == "train_dataset" and samples is not None:
                steps = -(-len(samples) // (spec.batch_size * distributed.world()))
    world = distributed.world()
    lines.append(
        f"would train {config.epoch_max} epochs"
        + (f" of {steps} steps, {config.epoch_max * steps} in all," if steps else "")
        + f" on {device}{f', {world} processes' if world > 1 else ''}"
    )
    extras = ("amp", "ema", "grad_clip", "seed", "compile", "channels_last", "loss", "init", "resume")
    defaults = {f: getattr(Config, f, None) for f in extras}
    if said := [f"{f}: {getattr(config, f)}" for f in extras if getattr(config, f) != defaults[f]]:
        lines.append("with " + ", ".join(said))
    kept = [LAST] + ([BEST] if config.epoch_val or config.monitor == "loss" else [])
    kept += [f"epoch-N.pth every {config.epoch_save} epochs"] if config.epoch_save else []
    lines.append(f"checkpoints: {folder}: {', '.join(kept)}")
    return "\n".join(lines)


def _model_text(config: Config, model: torch.nn.Module) -> str:
    trained, n = (sum(p.numel() for p in model.parameters() if p.requires_grad or every) for every in (False, True))
    return f"model: {config.model['name']}, {n} parameters" + (f", {trained} of them trained" if trained != n else "")


def _data_text(spec: Data, key: str) -> tuple[str, Any]:
    try:
        samples = build_samples(key, spec)
    except ConfigError as error:
        if not isinstance(error.__cause__, data.MissingError):
            raise
        return f"missing: {error}", None
    text = f"{key}: {len(samples)} samples an epoch in batches of {spec.batch_size}, {spec.wrapper['name']}"
    return "\n".join([text, *(f"{key}: note: {note}" for note in getattr(samples.dataset, "notes", []))]), samples


def _checkpoint_to_resume(args: argparse.Namespace, config: Config, folder: Path) -> Path | None:
    last = folder / LAST
    if args.resume and last.is_file():
        return last
    if last.is_file() and not args.overwrite:
        raise ConfigError(f"{folder}: has checkpoints of a run; give --resume to go on, --overwrite or another --name")
    return None if config.resume is None else Path(config.resume)


def _prepare_folder(config_file: Path, folder: Path, module: torch.nn.Module, fresh: bool) -> None:
    """Make the folder, with a copy of the configuration; ConfigError if it cannot hold the checkpoints."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weight_files.write(folder / "config.yaml", config_file.read_bytes())
        # weights and the optimizer's two values for each, and the new file exists beside the old one
        needed = 2 * 3 * sum(t.numel() * t.element_size() for t in module.state_dict().values())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ConfigError(state.cannot_write(folder, error).partition("; the last")[0]) from error
    if free < needed:
        raise ConfigError(
            f"{folder}: the disk is nearly full: {free / 2**20:.0f} MiB are free, checkpoints need {needed / 2**20:.0f}"
        )
    for file in folder.glob(weight_files.SCRATCH):  # of a run that was killed while it wrote
        file.unlink(missing_ok=True)
    if fresh:
        for file in [folder / METRICS, folder / LOG, *folder.glob("epoch-*.pth")]:
            file.unlink(missing_ok=True)


def _greeting(trainer: Trainer, path: Path | None) -> list[str]:
    parts, p = trainer.setup, trainer.progress
    lines = [_model_text(parts.config, parts.module)]
    world = distributed.world()
    together = f" x {world} processes" if world > 1 else ""
    lines.append(
        f"train: {len(parts.train_samples)} samples, batches of {parts.config.train_dataset.batch_size}{together}, "
        f"{len(parts.train_batches)} steps an epoch, on {parts.device}; seed {parts.seed}"
    )
    if parts.critic is not None:
        lines.append(parts.critic.content_name)
    for samples in (parts.train_samples, parts.val_samples):
        lines += [f"note: {note}" for note in getattr(getattr(samples, "dataset", None), "notes", [])]
    if path is not None:
        lines.append(f"resumed {path}: epoch {p.epoch} complete, {p.batch} steps of the next one, step {p.step}")
    return lines


if __name__ == "__main__":
    from .cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
