"""Whether gluon_on_cpu sees what is wrong with a Gluon kernel, and which tiles the fused one's blocks compute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import gluon_on_cpu
import torch
import triton_waves
from cpu_paths import Sample, sample
from torch import Tensor
from triton.runtime import interpreter

from liif_fast.head.triton import render
from liif_fast.head.triton.configs import Config

TRIES = 5  # what does not wait may still come at the right time, on a busy machine


def without(mbarrier: Any, name: str, arrays: tuple[int, ...], times: int) -> SimpleNamespace:
    """mbarrier, whose function ``name`` does nothing for some arrays of them, so many times; -1: always."""
    function, left = getattr(mbarrier, name), [times]

    def changed(barrier, *rest, **named):
        if barrier.which not in arrays or left[0] == 0:
            return function(barrier, *rest, **named)
        left[0] -= 1

    return SimpleNamespace(**{**vars(mbarrier), name: changed})


def all_seen(faults: Iterator[tuple[str, Any, str, Any]], run: Callable[[], Tensor]) -> None:
    """What gluon_on_cpu is for: without a wait, arrival or fence, the numbers are wrong or nothing goes on.

    Args:
        faults: name, module, name in it and what that is replaced by.
        run: gives a kernel's result.
    """
    want = run()
    for name, module, function, changed in faults:
        right = getattr(module, function)
        setattr(module, function, changed)
        try:
            seen = any(not torch.equal(run(), want) for _ in range(TRIES))
        except interpreter.InterpreterError:
            seen = True
        finally:
            setattr(module, function, right)
        assert seen, name
        gluon_on_cpu.CARD.reset()
        assert torch.equal(run(), want), name


def faults(specialised: ModuleType, partitions: ModuleType) -> Iterator[tuple[str, ModuleType, str, Any]]:
    """Of the fused kernel, see ``all_seen``."""
    mbarrier, finish = partitions.mbarrier, partitions.warpgroup_mma_wait

    def of_others(role: str, name: str) -> tuple:
        right = getattr(partitions, name)
        return partitions, name, lambda: None if threading.current_thread().name == role else right()

    for array in range(6):
        yield f"wait {array}", partitions, "mbarrier", without(mbarrier, "wait", (array,), -1)
        if array:  # at the first, copies arrive
            yield f"arrive {array}", partitions, "mbarrier", without(mbarrier, "arrive", (array,), 1)
    yield "no products", partitions, "warpgroup_mma_wait", lambda left, deps: deps[0]
    whole = lambda left, deps: finish(left, deps=deps) if left == 0 else deps[0]  # noqa: E731
    yield "only whole layers", partitions, "warpgroup_mma_wait", whole
    yield "fence", specialised, "fence_async_shared", lambda: None
    for role in ("gather", "consume"):
        yield f"fence {role}", *of_others(role, "fence_async_shared")
    for role in ("locate", "gather", "consume"):
        yield f"synchronize {role}", *of_others(role, "synchronize")


def faults_are_seen(specialised: ModuleType, partitions: ModuleType, config: Config) -> None:
    s = sample(torch.bfloat16, D=64, B=1, Q=56)  # 7 tiles: more than there are buffers
    all_seen(faults(specialised, partitions), lambda: render.render(*s, config=config))


def waves_faults(gathering: ModuleType) -> Iterator[tuple[str, ModuleType, str, Any]]:
    """Of the partition that gathers for render_fourier, see ``all_seen``."""
    for array in (3, 4):
        yield f"wait {array}", gathering, "mbarrier", without(gathering.mbarrier, "wait", (array,), -1)
    for array in (2, 5):
        yield f"arrive {array}", gathering, "mbarrier", without(gathering.mbarrier, "arrive", (array,), 1)
    for name in ("fence_async_shared", "synchronize"):
        yield name, gathering, name, lambda: None


def waves_faults_are_seen(gathering: ModuleType, config: Config) -> None:
    s = triton_waves.sample(torch.bfloat16, D=64, B=1, Q=56)
    roles, synchronize = set(), gathering.synchronize

    def noted() -> None:
        roles.add(threading.current_thread().name)
        synchronize()

    gathering.synchronize = noted
    render.render_fourier(*s, config=config)
    gathering.synchronize = synchronize
    assert roles == {"gather_waves"}
    all_seen(waves_faults(gathering), lambda: render.render_fourier(*s, config=config))


def every_tile(partitions: ModuleType, config: Config) -> Iterator[tuple[str, Sample, Tensor]]:
    """Every tile once, the last of an odd number twice, none beyond; the same bits from any number of blocks. Gives
    names, arguments and results."""
    blend, multiprocessors, seen = partitions.blend, render.multiprocessors, []

    def noted(number, *arguments):
        seen.append(gluon_on_cpu.number(number))
        blend(number, *arguments)

    partitions.blend = noted
    try:
        for B, Q in ((1, 5), (1, 16), (1, 17), (3, 5), (2, 17), (3, 17), (2, 9), (1, 100)):
            s = sample(torch.bfloat16, D=64, B=B, Q=Q, L=2)
            total, found = B * -(-Q * 4 // config.rows), []
            for blocks in (1, 2, 3, 8):
                render.multiprocessors = lambda device, blocks=blocks: blocks
                found.append(render.render(*s, config=config))
                assert sorted(seen) == sorted([*range(total), *([total - 1] * (total % 2))]), (B, Q, blocks, seen)
                assert torch.equal(found[0], found[-1]), (B, Q, blocks)
                seen.clear()
            yield f"bfloat16 gluon {B} images of {Q}", s, found[0]
    finally:
        partitions.blend, render.multiprocessors = blend, multiprocessors
