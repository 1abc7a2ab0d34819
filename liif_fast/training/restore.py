"""From a checkpoint into the parts of a run, once everything in it is known to fit them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..base.shown import named
from . import contents
from .optimizer import Average
from .state import Progress, TrainingError
from .values import ConfigError

# of every parameter that has been updated; other optimizers keep what they want
_KEPT = {torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"), torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq")}


def restore(
    checkpoint: Mapping[str, Any],
    path: Path | None,
    parts: Any,
    progress: Progress,
    average: Average | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Load a checkpoint of ``state.read`` into module, optimizer, schedule and critic of ``parts``, and the others.

    Raises:
        TrainingError: something that does not fit; names file and key.
    """
    training = checkpoint.get("training", {})
    load_weights(parts.module, training.get("weights", checkpoint["model"]["sd"]), path)
    if average is not None:
        load_weights(average.model, checkpoint["model"]["sd"], path)
    try:
        load_optimizer(parts.optimizer, checkpoint["optimizer"]["sd"], "optimizer.sd")
        if parts.critic is not None and training.get("critic") is not None:
            critic = training["critic"]
            load_weights(parts.critic.discriminator, critic["discriminator"], path)
            load_optimizer(parts.critic.optimizer, critic["optimizer"], "training.critic.optimizer")
            parts.critic.at_epoch(progress.epoch)
        if parts.schedule is not None:
            # the optimizer's state brings the rate that holds now; the schedule only has to know the epoch
            parts.schedule.last_epoch = progress.epoch
            if training.get("schedule"):
                _load_schedule(parts.schedule, training["schedule"])
        if scaler is not None and training.get("scaler") is not None:
            scaler.load_state_dict(_taken("training.scaler", training["scaler"], scaler.state_dict()))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error) if isinstance(error, ConfigError) else f"optimizer.sd: {named(str(error))}"
        raise TrainingError(f"{path}: {reason}; it does not fit this configuration") from error


def load_weights(module: nn.Module, saved: Mapping[str, Tensor], path: Path | None) -> None:
    """Load a state dict that must fit; TrainingError names the first thing that does not."""
    own = module.state_dict()
    wrong = [key for key in own if key not in saved] + [key for key in saved if key not in own]
    wrong += [
        key
        for key, t in own.items()
        if key in saved and (saved[key].shape != t.shape or saved[key].is_floating_point() != t.is_floating_point())
    ]
    if wrong:
        raise TrainingError(
            f"{path}: does not fit the model of this configuration ({named(wrong[0])}); use its own one"
        )
    module.load_state_dict(saved)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], key: str) -> None:
    """Load what ``contents.optimizer`` has checked; ConfigError for what the optimizer's next step would fail at."""
    own, theirs = optimizer.state_dict()["param_groups"], saved["param_groups"]
    numbers = [[len(group["params"]) for group in groups] for groups in (own, theirs)]
    if numbers[0] != numbers[1]:
        raise ConfigError(f"{key}.param_groups: of {numbers[1]} parameters, this model has {numbers[0]}")
    groups = []
    for i, (mine, group) in enumerate(zip(own, theirs, strict=True)):
        for name in mine.keys() & group.keys() - {"params"}:
            contents.like(f"{key}.param_groups.{i}.{name}", group[name], mine[name])
        groups.append({**mine, **group})
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    places = {number: i for i, number in enumerate(n for group in theirs for n in group["params"])}
    for number, kept in saved["state"].items():
        if number not in places:
            raise ConfigError(f"{key}.state.{number}: there is no such parameter")
        for name in _KEPT.get(type(optimizer), ()):
            if kept.get(name) is None:
                raise ConfigError(f"{key}.state.{number}.{name}: this key is missing")
        for name, value in kept.items():
            wanted = [] if name == "step" else list(parameters[places[number]].shape)
            shape = list(value.shape) if isinstance(value, Tensor) else []
            if value is not None and (shape != wanted or (isinstance(value, Tensor) and value.is_complex())):
                raise ConfigError(f"{key}.state.{number}.{named(name)}: has shape {shape}, {wanted} is wanted")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})


def _load_schedule(schedule: Any, saved: Mapping[str, Any]) -> None:
    own = schedule.state_dict()
    planned = {key: own[key] for key in ("milestones", "gamma") if key in own}  # the configuration may have changed
    schedule.load_state_dict({**own, **_taken("training.schedule", saved, own, planned), **planned})


def _taken(
    key: str, saved: Mapping[str, Any], own: Mapping[str, Any], without: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The values of ``saved`` whose names are one's own; ConfigError unless they are of the same kind."""
    names = [name for name in saved if name in own and name not in (without or ())]
    for name in names:
        contents.like(f"{key}.{name}", saved[name], own[name])
    return {**own, **{name: saved[name] for name in names}}
