"""The folder of a run: what an earlier run left there, where to go on, and that nothing of it goes unasked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ..weights import files as weight_files
from . import state
from .config import ConfigError
from .journal import CURVES, LOG, METRICS, PICTURES
from .state import NotDamagedError, TrainingError

LAST, BEST = "epoch-last.pth", "epoch-best.pth"
CONFIG = "config.yaml"


@dataclass
class Start:
    """Where a run begins.

    ``path`` and ``checkpoint``: to go on from, None: from the beginning. ``delete``, ``aside`` and ``copy``: files of
    an earlier run that go, that get other names, and that are copied before they are changed. ``notes``: what is to be
    said of it.
    """

    path: Path | None = None
    checkpoint: dict[str, Any] | None = None
    delete: list[Path] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    copy: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def seed(self) -> int | None:
        """Of the checkpoint."""
        return (self.checkpoint or {}).get("training", {}).get("seed")


def earlier(folder: Path) -> list[Path]:
    """What a run has left in a folder."""
    names = (METRICS, LOG, CURVES, PICTURES)
    return [*sorted(folder.glob("epoch-*.pth")), *(folder / name for name in names if os.path.lexists(folder / name))]


def choose(folder: Path, resume: bool, overwrite: bool, checkpoint: str | None, init: str | None = None) -> Start:
    """Where to begin, without changing anything.

    Args:
        resume, overwrite: what was asked for; ``resume`` first, where there is a checkpoint to go on from.
        checkpoint, init: files that the configuration names; they are not deleted, but for a ``checkpoint`` of the very
            run that ``overwrite`` deletes, as LTE's configurations name it.

    Raises:
        ConfigError: the folder holds a run, and neither was asked for. TrainingError: checkpoints that cannot be read.
    """
    left = earlier(folder)
    if resume and any(path.suffix == ".pth" for path in left):
        return _newest(folder)
    if left and not resume and not overwrite:
        raise ConfigError(
            f"{folder}: holds a run ({left[0].name}); --resume goes on, --overwrite deletes it, or give another --save"
        )
    start = Start()
    if overwrite and left and checkpoint is not None and Path(os.path.realpath(checkpoint)).parent == folder.resolve():
        start.notes.append(f"resume: {checkpoint}: is of the run that is deleted, so the run begins afresh")
        checkpoint = None
    if checkpoint is not None and _missing(checkpoint):
        start.notes.append(f"resume: {checkpoint}: there is no such file yet, so the run begins afresh")
    elif checkpoint is not None:
        start.path, start.checkpoint = Path(checkpoint), state.read(Path(checkpoint))
    if overwrite:
        spared = {os.path.realpath(name) for name in (checkpoint, init) if name is not None}
        start.delete = [path for path in left if os.path.realpath(path) not in spared]
    elif left:
        start.aside = [path for path in left if path.name != LOG]  # the log is added to
        start.notes.append(f"{folder}: there is no checkpoint to go on from, so the run begins anew")
    return start


def _missing(name: str) -> bool:
    """Whether there is surely nothing of this name: no link to a file that is away, nothing that is out of sight."""
    try:
        os.lstat(name)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # reading it will say why
    return False


def _newest(folder: Path) -> Start:
    """The last checkpoint, or, if it is missing or damaged, of the others the one that is farthest."""
    last, start = folder / LAST, Start()
    others = [path for path in sorted(folder.glob("epoch-*.pth")) if path != last]
    for path in ([last] if os.path.lexists(last) else []) + others:
        if start.path == last:
            break
        try:
            checkpoint = state.read(path)
        except NotDamagedError:
            raise
        except TrainingError as error:
            start.aside.append(path)
            start.notes.append(str(error))
            continue
        if start.checkpoint is None or _place(checkpoint) > _place(start.checkpoint):
            start.path, start.checkpoint = path, checkpoint
    if start.path is None:
        raise TrainingError(
            f"none of the {len(start.aside)} checkpoints there can be read: {start.notes[0]}; --overwrite starts anew"
        )
    if start.path != last:
        why = "cannot be read" if last in start.aside else "is missing"
        start.copy.append(folder / METRICS)  # those of what came later are nowhere else
        start.notes.append(f"{last} {why}: going on from the newest whole checkpoint, {start.path.name}")
    return start


def _place(checkpoint: Mapping[str, Any]) -> tuple[int, int, bool]:
    progress = checkpoint.get("training", {}).get("progress", {})
    return checkpoint["epoch"], progress.get("batch", 0), not progress.get("pending", False)


def check_room(folder: Path, module: nn.Module) -> None:
    """ConfigError unless the folder, or what it will be made in, has room for the checkpoints."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: cannot be written ({there}: no folder, or no permission); give another --save")
    # weights and the optimizer's two values for each, and the new file exists beside the old one
    needed = 2 * 3 * sum(t.numel() * t.element_size() for t in module.state_dict().values())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ConfigError(
            f"{folder}: the disk is nearly full: {free / 2**20:.0f} MiB are free, checkpoints need {needed / 2**20:.0f}"
        )


def prepare(folder: Path, config: bytes, start: Start, module: nn.Module) -> list[str]:
    """Make the folder, with a copy of the configuration, and do what ``start`` says; returns what is to be said.

    Raises:
        ConfigError: the folder cannot hold the checkpoints.
    """
    check_room(folder, module)
    notes = list(start.notes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in start.delete:
            path.unlink(missing_ok=True)
        aside, copy = list(start.aside), folder / CONFIG
        if os.path.lexists(copy) and not (copy.is_file() and copy.read_bytes() == config):
            aside.append(copy)
        notes += [f"{path} is kept as {_copied(path).name}" for path in start.copy if path.is_file()]
        notes += [f"{path} is kept as {_set_aside(path).name}" for path in aside if os.path.lexists(path)]
        weight_files.write(copy, config)
    except OSError as error:
        raise ConfigError(state.cannot_write(folder, error).partition("; the last")[0]) from error
    if start.delete:
        notes.append(f"--overwrite: deleted of the earlier run: {', '.join(path.name for path in start.delete)}")
    return notes


def _set_aside(path: Path) -> Path:
    """Give a file another name, the first one free."""
    return path.rename(_free_name(path))


def _copied(path: Path) -> Path:
    return Path(shutil.copyfile(path, _free_name(path)))


def _free_name(path: Path) -> Path:
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}.{number}")):
        number += 1
    return target
