"""Optimizer, learning rate and the average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(parameters: Iterable[nn.Parameter], spec: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer of a spec ``{'name': ..., 'args': {...}}``.

    It gets the fixed parameters too, which it never changes, as in the official checkpoints: so its state fits theirs.
    """
    return OPTIMIZERS[spec["name"]](list(parameters), **spec["args"])


def make_schedule(optimizer: torch.optim.Optimizer, multi_step_lr: Mapping[str, Any] | None):
    """MultiStepLR, to be stepped after every epoch; None: the rate stays."""
    return None if multi_step_lr is None else torch.optim.lr_scheduler.MultiStepLR(optimizer, **multi_step_lr)


class Average:
    """Exponential moving average of a model's weights, as a model of its own.

    After step n = 1, 2, ...: average = d * average + (1 - d) * weights with d = min(decay, (1 + n) / (10 + n)), so that
    the random weights at the beginning are soon forgotten (as tf.train.ExponentialMovingAverage with num_updates).
    Other state, such as counts and the statistics of normalisation, is taken over as it is.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        mine: list[Tensor] = list(self.model.parameters())
        theirs: list[Tensor] = list(model.parameters())
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for own, other in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(other)
