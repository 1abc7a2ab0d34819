"""Batches ahead of time, the same for any number of workers and processes, and from any step on."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .. import distributed
from .errors import DataError
from .samples import expand

Key = tuple[int, int, int]  # index of the sample, epoch, position in the epoch
Batch = dict[str, Tensor]


class Keyed(Dataset):
    """Samples by key: what is random in one comes from (seed, epoch, position) alone."""

    def __init__(self, samples: Any, seed: int) -> None:
        self.samples, self.seed = samples, seed

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        index, *place = key
        sequence = np.random.SeedSequence([self.seed, *place])
        if hasattr(self.samples, "sample"):
            return self.samples.sample(index, np.random.Generator(np.random.PCG64(sequence)))
        # a wrapper of somebody else's, which draws from the global generators as the official ones do
        state = sequence.generate_state(1)[0].item()
        random.seed(state)
        np.random.seed(state)  # noqa: NPY002
        torch.manual_seed(state)
        return self.samples[index]


class Batches(Sampler):
    """Keys of this process's share of every batch of an epoch.

    A batch of the whole run has ``batch_size`` samples for each process; the last one of an epoch may have fewer, as
    in the official loader. Process r takes the r-th part of it, so that any number of processes trains on the same
    batches. Setting ``epoch`` and ``start`` decides what the next iteration gives.
    """

    def __init__(self, n: int, batch_size: int, *, shuffle: bool, seed: int, rank: int = 0, world: int = 1) -> None:
        self.n, self.batch_size, self.shuffle, self.seed = n, batch_size, shuffle, seed
        self.rank, self.world = rank, world
        self.epoch, self.start = 1, 0

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return -(-self.n // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.arange(self.n)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n)
        together = self.batch_size * self.world
        for batch in range(self.start, len(self)):
            places = np.arange(batch * together, min((batch + 1) * together, self.n))
            # a process for which nothing is left takes the first sample, which then has no weight: see share()
            mine = np.array_split(places, self.world)[self.rank] if self.world > 1 else places
            mine = mine if len(mine) else places[:1]
            yield [(int(order[p]), self.epoch, int(p)) for p in mine]

    def share(self, batch: int) -> float:
        """What this process's mean counts in the mean over the processes: 1 but in an uneven last batch."""
        left = min(self.n - batch * self.batch_size * self.world, self.batch_size * self.world)
        mine = left // self.world + (self.rank < left % self.world)
        return mine * self.world / left


class WholeBatches(Sampler):
    """Keys of every world-th batch, in order and the same at each iteration: validation shares out whole batches,
    because the PSNR of a batch is not the mean of its samples'."""

    def __init__(self, n: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.n, self.batch_size, self.rank, self.world = n, batch_size, rank, world

    def __len__(self) -> int:
        """Batches of this process."""
        return len(range(self.rank, -(-self.n // self.batch_size), self.world))

    def __iter__(self) -> Iterator[list[Key]]:
        for first in range(self.rank * self.batch_size, self.n, self.world * self.batch_size):
            yield [(i, 0, i) for i in range(first, min(first + self.batch_size, self.n))]  # epochs count from 1


def workers(wanted: int | None) -> int:
    """Worker processes for each training process: as wanted, or one for each core that it has, at most 8."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return 0  # only forked ones share the memory that images are kept in
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // distributed.local_world())) if wanted is None else wanted


def make_loader(
    samples: Any, batches: Batches | WholeBatches, *, seed: int, num_workers: int, pin_memory: bool = False
) -> DataLoader:
    """A DataLoader over ``samples`` (a wrapper) in the order of ``batches``."""
    return DataLoader(
        Keyed(samples, seed),
        batch_sampler=batches,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        prefetch_factor=4 if num_workers else None,
        worker_init_fn=_leave_signals_to_the_parent if num_workers else None,
        multiprocessing_context="fork" if num_workers else None,
    )


def _leave_signals_to_the_parent(worker: int) -> None:
    """A signal for all processes must not take the workers from a parent that still finishes its step and saves."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class Feed:
    """Batches on the device, and how long was waited for them.

    ``take`` gives what was fetched before; ``fetch`` gets the next one. A caller that fetches while the device computes
    waits only for data that is not there yet; ``waited`` adds that up in seconds.
    """

    def __init__(self, loader: Iterable[Batch], device: torch.device) -> None:
        self.batches, self.device = iter(loader), device
        self.waited = 0.0
        self._next: Batch | None = None
        self.fetch()
        self.waited = 0.0  # the first one has to be waited for

    def fetch(self) -> None:
        start = time.perf_counter()
        try:
            batch = next(self.batches, None)
        except DataError as error:  # out of a worker it comes with the worker's traceback
            raise DataError(
                str(error).strip().splitlines()[-1].removeprefix(f"{DataError.__module__}.DataError: ")
            ) from None
        self.waited += time.perf_counter() - start
        if batch is not None:
            batch = {name: t.to(self.device, non_blocking=True) for name, t in batch.items()}
        self._next = batch

    def take(self) -> Batch | None:
        """``inp``, ``coord``, ``cell``, ``gt`` as the official loader gives them; None behind the last."""
        return None if self._next is None else expand(self._next)
