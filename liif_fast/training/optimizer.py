"""Optimizer, learning rate and the average of the weights."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(parameters: Iterable[nn.Parameter], spec: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer of a spec ``{'name': ..., 'args': {...}}``.

    It gets the fixed parameters too, which it never changes, as in the official checkpoints: so its state fits theirs.
    """
    return OPTIMIZERS[spec["name"]](list(parameters), **spec["args"])


def make_schedule(
    optimizer: torch.optim.Optimizer, multi_step_lr: Mapping[str, Any] | None
) -> torch.optim.lr_scheduler.MultiStepLR | None:
    """MultiStepLR, to be stepped after every epoch; None: the rate stays."""
    return None if multi_step_lr is None else torch.optim.lr_scheduler.MultiStepLR(optimizer, **multi_step_lr)


class DeviceAdam:
    """Updates by an Adam (or AdamW) with its rate and its counts of steps on the device, where CUDA graphs read them.

    What the optimizer itself holds stays as it is without graphs, numbers on the host, and so do checkpoints. The means
    of the gradients are the optimizer's own tensors.

    Attributes:
        complete: every parameter with a gradient has been updated before. Else the optimizer would begin its means in
            the next update, which must not be recorded.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.groups = optimizer.param_groups
        trained = [p for group in self.groups for p in group["params"] if p.grad is not None]
        self.states = [optimizer.state[p] for p in trained if p in optimizer.state]
        self.complete = len(self.states) == len(trained)
        device = trained[0].device
        self.rates = [torch.tensor(float(group["lr"]), device=device, dtype=torch.float32) for group in self.groups]
        self.counts = [state["step"].to(device, copy=True) for state in self.states]

    def step(self, run: Callable[[], None]) -> None:
        """An update by ``run``, at the rate of now."""
        for group, rate in zip(self.groups, self.rates, strict=True):
            rate.fill_(group["lr"])
        run()
        torch._foreach_add_([state["step"] for state in self.states], 1)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, the optimizer computes with the numbers on the device, all tensors in one launch: with a rate on the
        device its other ways launch some operations for each tensor."""
        groups, steps = [dict(group) for group in self.groups], [state["step"] for state in self.states]
        try:
            for group, rate in zip(self.groups, self.rates, strict=True):
                group.update(lr=rate, capturable=True, fused=True)
            for state, count in zip(self.states, self.counts, strict=True):
                state["step"] = count
            yield
        finally:
            for group, before in zip(self.groups, groups, strict=True):
                group.update({name: before[name] for name in ("lr", "capturable", "fused")})
            for state, step in zip(self.states, steps, strict=True):
                state["step"] = step


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
