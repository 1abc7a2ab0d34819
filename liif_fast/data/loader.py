"""Batches ahead of time, the same for any number of workers and processes, and from any step on."""

from __future__ import annotations

import atexit
import functools
import mmap
import multiprocessing
import os
import random
import signal
import time
import weakref
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .. import distributed
from ..base import interruption
from ..base.cores import cores
from .errors import DataError
from .samples import expand

Key = tuple[int, int, int]  # index of the sample, epoch, position in the epoch
Batch = dict[str, Tensor]


class Keyed(Dataset[Batch]):
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


class Batches(Sampler[list[Key]]):
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


class WholeBatches(Sampler[list[Key]]):
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
    return min(8, max(1, cores() // distributed.local_world())) if wanted is None else wanted


def make_loader(
    samples: Any, batches: Batches | WholeBatches, *, seed: int, num_workers: int, pin_memory: bool = False
) -> DataLoader[Batch]:
    """A DataLoader over ``samples`` (a wrapper) in the order of ``batches``; ``close`` ends its worker processes."""
    return _Loader(
        Keyed(samples, seed),
        batch_sampler=batches,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        prefetch_factor=4 if num_workers else None,
        multiprocessing_context="fork" if num_workers else None,
    )


class _Loader(DataLoader[Batch]):
    """A DataLoader whose worker processes see in ``ended``, a byte that they share with it, when to obey signals."""

    def __init__(self, dataset: Any, *, num_workers: int, **kwargs: Any) -> None:
        self.ended = mmap.mmap(-1, 1)
        start = functools.partial(_leave_signals_to_the_parent, self.ended) if num_workers else None
        super().__init__(dataset, num_workers=num_workers, worker_init_fn=start, **kwargs)
        _loaders.add(self)


_loaders: weakref.WeakSet[_Loader] = weakref.WeakSet()


@atexit.register  # runs before what multiprocessing registered, which tells workers to end and waits until they do
def _let_workers_go() -> None:
    for loader in _loaders:
        loader.ended[0] = 1


def _leave_signals_to_the_parent(ended: mmap.mmap, worker: int) -> None:
    """A signal for all processes must not take the workers from a parent that still finishes its step and saves. Once
    the parent needs them no more they obey: it waits for them."""

    def obey(number: int, frame: FrameType | None) -> None:
        if ended[0]:
            os._exit(0)

    for number in interruption.NUMBERS:
        signal.signal(number, obey)


def close(loader: Any) -> None:
    """End the worker processes of a loader, also in the middle of an epoch or after an error.

    They have nothing to lose: one that does not answer within seconds is killed. Loaders without workers: nothing.
    """
    iterator = getattr(loader, "_iterator", None)
    if not isinstance(loader, _Loader) or iterator is None:
        return
    loader.ended[0] = 1
    loader._iterator = None
    workers = list(getattr(iterator, "_workers", ()))
    try:
        iterator._shutdown_workers()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.kill()
                worker.join()


def batches_in(loader: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a loader.

    Raises:
        DataError: in one line whatever reading them raised, which comes out of a worker with the worker's traceback.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except DataError as error:
            raise DataError(_last_line(error)) from error
        except Exception as error:  # a dataset of somebody else's may raise anything, and workers may be killed
            raise DataError(f"data cannot be read: {_last_line(error)}") from error
        yield batch


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if len(lines) == 1 or not lines[0].startswith("Caught "):
        return lines[0]
    return lines[-1].removeprefix(f"{DataError.__module__}.DataError: ")


class Feed:
    """Batches on the device, and how long was waited for them.

    ``take`` gives what was fetched before; ``fetch`` gets the next one. A caller that fetches while the device computes
    waits only for data that is not there yet; ``waited`` adds that up in seconds. ``error`` is what ended the batches,
    if it was an error.
    """

    def __init__(self, loader: Iterable[Batch], device: torch.device) -> None:
        self.batches, self.device = batches_in(loader), device
        self.waited = 0.0
        self.error: Exception | None = None
        self._last: Batch | None = None
        self._next: Batch | None = None
        self.fetch()
        self.waited = 0.0  # the first one has to be waited for

    def fetch(self) -> None:
        start = time.perf_counter()
        try:
            batch = next(self.batches, None)
        except Exception as error:
            self.error = error
            return
        self.waited += time.perf_counter() - start
        if batch is not None:
            batch = {name: t.to(self.device, non_blocking=True) for name, t in batch.items()}
        self._next = batch

    def take(self, stand_in: bool = False) -> Batch | None:
        """``inp``, ``coord``, ``cell``, ``gt`` as the official loader gives them; None behind the last.

        Args:
            stand_in: in place of a batch that cannot be read give the last one again: processes that work together
                have to agree on the end in one more step.

        Raises:
            ``error``.
        """
        if self.error is not None:
            if not stand_in or self._last is None:
                raise self.error
            return expand(self._last)
        self._last = self._next if stand_in else None
        return None if self._next is None else expand(self._next)
