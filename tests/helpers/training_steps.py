"""The small configuration's parts and steps of either kind, put together as the trainer does it."""

from __future__ import annotations

import torch
import training_files as files
from torch import Tensor

from liif_fast.data.samples import expand
from liif_fast.training import graph, setup
from liif_fast.training.config import check

CPU = torch.device("cpu")
# 16 samples: five batches of 3, and one of 1
SMALL = {
    "train_dataset__dataset__args__cache": "device",
    "train_dataset__wrapper__args__inp_size": 6,
    "train_dataset__wrapper__args__sample_q": 32,
    "train_dataset__batch_size": 3,
    "epoch_val": None,
    "epoch_save": None,
}


class Training:
    """``losses`` of all steps so far."""

    def __init__(self, images, kind=graph.GraphStep, device: torch.device = CPU, **changes):
        self.config = check(files.configuration(images, **(SMALL | changes)))
        self.parts = parts = setup.setup(self.config, device, self.config.seed)
        self.step = kind(self.config, parts.module, parts.module, parts.optimizer, device, self.config.seed)
        self.losses: list[float] = []
        self.epochs = 0

    def epoch(self, start: int = 0, change=lambda batch: batch) -> Training:
        """From this batch of the next epoch to its end."""
        for batch in self.batches(start):
            self.run(change(batch))
        if self.state()["state"]:  # torch warns where nothing was updated yet
            self.parts.schedule.step()
        self.epochs += 1
        return self

    def batches(self, start: int = 0):
        """Of the next epoch."""
        self.parts.train_batches.epoch, self.parts.train_batches.start = self.epochs + 1, start
        return map(expand, self.parts.train_loader)

    def run(self, batch: dict[str, Tensor]):
        outcome = self.step.end(self.step.begin(batch, len(self.losses)))
        self.losses.append(outcome.loss)
        return outcome

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.parts.module.parameters()])

    def state(self) -> dict:
        return self.parts.optimizer.state_dict()


def same(a, b) -> bool:
    """Bit for bit, whatever holds the tensors."""
    found, wanted = (torch.utils._pytree.tree_flatten(x) for x in (a, b))
    return found[1] == wanted[1] and all(
        torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in zip(found[0], wanted[0], strict=True)
    )


def furthest(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))
