"""What a run would do, in lines for people, found by building all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .. import distributed
from . import run_folder, setup, state
from .config import Config
from .optimizer import Average
from .restore import restore


def dry_run(config: Config, folder: Path, device: torch.device, start: run_folder.Start) -> tuple[str, bool]:
    """The lines, and whether the run could begin; it could not where data or files are missing, which is said.

    Nothing is written, and no more images are decoded than a batch needs.

    Raises:
        ConfigError, DataError, TrainingError: what the run would raise before its first step.
    """
    missing: list[str] = []
    seed = start.seed if start.seed is not None else config.seed or 0
    parts = setup.build(config, device, seed, missing.append)
    run_folder.check_room(folder, parts.module)
    if start.checkpoint is not None:
        progress = state.progress_of(start.checkpoint, 0)
        restore(start.checkpoint, start.path, parts, progress, Average(parts.module, 0.5) if config.ema else None)
    lines = [*_plan(parts), *_data(parts), *(f"missing: {text}" for text in missing)]
    lines += [f"note: {note}" for note in start.notes]
    lines += [f"note: would delete {path}" for path in start.delete]
    if start.path is not None and start.checkpoint is not None:
        lines.append(f"would go on from {start.path}: {start.checkpoint['epoch']} epochs complete")
    lines += _outlook(parts, folder)
    if missing:
        lines.append("cannot run yet: the data above are missing")
    return "\n".join(lines), not missing


def model_text(config: Config, model: torch.nn.Module) -> str:
    """The model's name and size."""
    trained, n = (sum(p.numel() for p in model.parameters() if p.requires_grad or every) for every in (False, True))
    return f"model: {config.model['name']}, {n} parameters" + (f", {trained} of them trained" if trained != n else "")


def notes_of(*samples: Any) -> list[str]:
    """What the datasets of wrappers have to say."""
    return [note for part in samples for note in getattr(getattr(part, "dataset", None), "notes", [])]


def _plan(parts: setup.Parts) -> Iterator[str]:
    config, plan = parts.config, parts.config.multi_step_lr
    rate = f"learning rate {config.optimizer['args']['lr']:g}"
    if plan is not None:
        rate += f", times {plan.get('gamma', 0.1):g} after epochs {', '.join(map(str, plan['milestones']))}"
    yield "the configuration is in order"
    yield model_text(config, parts.module)
    yield f"optimizer: {config.optimizer['name']}, {rate}"
    if parts.critic is not None:
        yield parts.critic.content_name


def _data(parts: setup.Parts) -> Iterator[str]:
    for key, samples in (("train_dataset", parts.train_samples), ("val_dataset", parts.val_samples)):
        if samples is not None:
            spec = getattr(parts.config, key)
            yield f"{key}: {len(samples)} samples an epoch in batches of {spec.batch_size}, {spec.wrapper['name']}"
            yield from (f"{key}: note: {note}" for note in notes_of(samples))


def _outlook(parts: setup.Parts, folder: Path) -> Iterator[str]:
    config, world, steps = parts.config, distributed.world(), None
    if parts.train_samples is not None:
        steps = -(-len(parts.train_samples) // (config.train_dataset.batch_size * world))
    yield (
        f"would train {config.epoch_max} epochs"
        + (f" of {steps} steps, {config.epoch_max * steps} in all," if steps else "")
        + f" on {parts.device}{f', {world} processes' if world > 1 else ''}"
    )
    extras = (
        "amp", "ema", "grad_clip", "seed", "compile", "channels_last", "norm_eval", "cuda_graph", "head_parts",
        "loss", "init", "resume",
    )  # fmt: skip
    defaults = {f: getattr(Config, f, None) for f in extras}
    if said := [f"{f}: {getattr(config, f)}" for f in extras if getattr(config, f) != defaults[f]]:
        yield "with " + ", ".join(said)
    kept = [run_folder.LAST] + ([run_folder.BEST] if config.epoch_val or config.monitor == "loss" else [])
    kept += [f"epoch-N.pth every {config.epoch_save} epochs"] if config.epoch_save else []
    yield f"checkpoints: {folder}: {', '.join(kept)}"
