"""As much of Gluon's language as the fused kernel (``specialised``) and ``convolution`` speak, on top of triton's
interpreter, on the CPU.

Layouts mean nothing here (the compiler checks them); order does. What is asynchronous on the card happens as late, or
as early, as the card may do it: a product, or a copy to global memory, when it is waited for, a copy from there at
once. A store to shared memory is seen by products and copies after a fence, by loads after the warps of its partition
have synchronized; what they have loaded may be overwritten after they have synchronized, what is copied after it was
waited for, too. So a slot that is freed too early, a missing wait or fence give wrong numbers or are reported, and a
wrong phase is a deadlock, which is reported too. The warps of a partition run as one; the partitions take turns
whenever one has to wait.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import triton
import triton.language as tl
from gluon_memory import GARBAGE, NUMPY, Descriptor, assembly, number, widened
from triton.experimental import gluon
from triton.runtime.interpreter import TensorHandle

NUM_WARPS = 4


class Shared:
    """Shared memory, full of garbage, as loads see it and as products and copies do; index, slice, reshape and permute
    are views."""

    def __init__(self, dtype: tl.dtype, loaded: np.ndarray, multiplied: np.ndarray) -> None:
        self.dtype, self.loaded, self.multiplied, self.shape = dtype, loaded, multiplied, list(loaded.shape)

    def view(self, change: Callable[[np.ndarray], np.ndarray]) -> Shared:
        return Shared(self.dtype, change(self.loaded), change(self.multiplied))

    def index(self, i: Any) -> Shared:
        assert 0 <= number(i) < len(self.loaded)
        return self.view(lambda data: data[number(i)])

    def slice(self, start: Any, length: int, dim: int = 0) -> Shared:
        at = (slice(None),) * dim + (slice(number(start), number(start) + length),)
        return self.view(lambda data: data[at])

    def reshape(self, shape: list[Any]) -> Shared:
        def reshaped(data: np.ndarray) -> np.ndarray:
            found = data.reshape([number(n) for n in shape])
            assert np.shares_memory(found, data)
            return found

        return self.view(reshaped)

    def permute(self, order: tuple[int, ...]) -> Shared:
        return self.view(lambda data: data.transpose(order))

    def load(self, layout: Any) -> tl.tensor:
        if self.dtype == tl.int32:  # would be an address
            assert (self.loaded != GARBAGE[self.dtype]).all(), "loaded before it is there"
        CARD.loading.setdefault(threading.get_ident(), []).append(self.loaded)
        return tl.tensor(TensorHandle(self.loaded.copy(), self.dtype), tl.block_type(self.dtype, self.shape))

    def store(self, value: tl.tensor) -> None:
        assert value.dtype == self.dtype
        assert value.handle.data.shape == self.loaded.shape
        for thread, loading in CARD.loading.items():
            late = thread != threading.get_ident() and any(np.may_share_memory(self.loaded, data) for data in loading)
            assert not late, "overwritten while some warps may still load it"
        copied = any(np.may_share_memory(self.multiplied, source.multiplied) for source, *_ in CARD.own.copies)
        assert not copied, "overwritten while it may still be copied"
        data = value.handle.data.copy()
        CARD.own.not_loaded.append((self.loaded, data))
        CARD.own.not_multiplied.append((self.multiplied, data))
        self.loaded[...] = self.multiplied[...] = GARBAGE[self.dtype]


class Barriers:
    """An array of mbarriers, the launch's array ``which``."""

    def __init__(self, which: int, count: int) -> None:
        self.all = [types.SimpleNamespace(which=which, phases=0, count=0, missing=0, bytes=0) for _ in range(count)]

    def index(self, i: Any) -> types.SimpleNamespace:
        return self.all[number(i)]


class Own(threading.local):
    """Of a partition: stores that loads, stores that products do not see yet, products not yet waited for, copies to
    global memory that are not, or not by all warps."""

    def __init__(self) -> None:
        self.not_loaded: list = []
        self.not_multiplied: list = []
        self.products: list = []
        self.copies: list = []

    def check(self) -> None:
        assert not self.not_loaded, "stored, but never synchronized"
        assert not self.products, "multiplied, but never waited for"
        assert not self.copies, "copied, but never waited for"


class Card:
    """What goes on at the same time, and whose turn it is."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.reset()

    def reset(self) -> None:
        """As at a launch's start, also after one that failed."""
        self.own = Own()
        self.running = 0  # partitions
        self.blocked: dict[int, tuple] = {}  # by thread: the barrier and phase that it waits for
        self.behind: set[int] = set()  # threads that let the others go first
        self.loading: dict[int, list[np.ndarray]] = {}  # by thread: loads that some of its warps may be behind with
        self.barriers = 0  # arrays of them
        self.failure: BaseException | None = None

    def allocate(self, dtype: tl.dtype, shape: list[Any], layout: Any) -> Shared | Barriers:
        shape = [number(n) for n in shape]
        if dtype == tl.int64:
            self.barriers += 1
            return Barriers(self.barriers - 1, shape[0])
        return Shared(dtype, *(np.full(shape, GARBAGE[dtype], NUMPY[dtype]) for _ in range(2)))

    def specialize(self, partitions: list, warps: list[int], registers: list[int]) -> None:
        assert len(partitions) == 1 + len(warps) == 1 + len(registers)

        def worker(function: Any, arguments: tuple) -> None:
            with self.lock:
                try:
                    function(*arguments)
                    self.own.check()
                except BaseException as error:
                    self.failure = self.failure or error
                self.running -= 1
                self.look_around()

        self.synchronize()  # the partitions begin together
        self.reset()
        self.running = len(partitions)
        threads = [threading.Thread(target=worker, args=p, name=p[0].fn.__name__) for p in partitions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failure:
            raise self.failure

    def look_around(self) -> None:
        """The others' turn; nobody can go on: a deadlock."""
        if self.running and len(self.blocked) == self.running and all(map(closed, self.blocked.values())):
            self.failure = self.failure or RuntimeError("deadlock: every partition waits for a barrier")
        self.lock.notify_all()

    def wait(self, barrier: types.SimpleNamespace, phase: Any) -> None:
        me, wanted = threading.get_ident(), (barrier, number(phase))
        while closed(wanted):
            self.blocked[me] = wanted
            self.look_around()
            if not self.failure:
                self.lock.wait()
            del self.blocked[me]
            if self.failure:
                raise RuntimeError("another partition failed") from self.failure

    def advance(self, barrier: types.SimpleNamespace) -> None:
        if barrier.missing == 0 and barrier.bytes == 0:
            barrier.phases, barrier.missing = barrier.phases + 1, barrier.count

    def arrive(self, barrier: types.SimpleNamespace, *, count: int = 1) -> None:
        barrier.missing -= count
        assert barrier.missing >= 0, "more arrivals than the barrier counts"
        self.advance(barrier)
        self.lock.notify_all()
        # as late as possible: the others first, as far as they get
        me = threading.get_ident()
        self.behind.add(me)
        while sum(map(closed, self.blocked.values())) + len(self.behind) < self.running and not self.failure:
            self.lock.wait()
        self.behind.remove(me)

    def expect(self, barrier: types.SimpleNamespace, size: int) -> None:
        barrier.bytes += size
        barrier.missing -= 1
        self.advance(barrier)

    def load(self, descriptor: Descriptor, at: list, barrier: types.SimpleNamespace, slot: Shared) -> None:
        assert slot.shape == [number(n) for n in descriptor.block]
        whole, own = descriptor.inside(at)
        slot.loaded[...] = slot.multiplied[...] = 0  # what is outside
        slot.loaded[own] = slot.multiplied[own] = descriptor.data[whole]
        barrier.bytes -= descriptor.block_type.nbytes
        assert barrier.bytes >= 0, "more bytes than were expected"
        self.advance(barrier)

    def copy(self, descriptor: Descriptor, at: list, source: Shared) -> None:
        assert source.shape == [number(n) for n in descriptor.block]
        assert not self.own.not_loaded, "copied, but never synchronized"
        self.own.copies.append([source, descriptor, at, False])

    def finish_copies(self, left: Any) -> None:
        assert number(left) == 0
        for copy in self.own.copies:
            source, descriptor, at, done = copy
            whole, own = descriptor.inside(at)
            if not done:
                descriptor.data[whole] = source.multiplied[own]
            copy[-1] = True

    def fence(self) -> None:
        arrived(self.own.not_multiplied)

    def synchronize(self) -> None:
        arrived(self.own.not_loaded)
        self.own.copies = [copy for copy in self.own.copies if not copy[-1]]
        self.loading.pop(threading.get_ident(), None)

    def multiply(self, a: Shared, b: Shared, sums: tl.tensor, *, use_acc: bool = True, is_async: bool) -> tl.tensor:
        assert is_async
        result = np.full(sums.handle.data.shape, np.nan, np.float32)
        self.own.products.append((a, b, sums.handle if number(use_acc) else None, result))
        return tl.tensor(TensorHandle(result, tl.float32), sums.type)

    def finish(self, left: Any = 0, *, deps: tuple) -> Any:
        while len(self.own.products) > number(left):
            a, b, sums, result = self.own.products.pop(0)
            result[...] = widened(a.multiplied, a.dtype) @ widened(b.multiplied, b.dtype)
            if sums is not None:
                result += sums.data
        return deps[0] if len(deps) == 1 else deps


CARD = Card()


def closed(wanted: tuple) -> bool:
    barrier, phase = wanted
    return barrier.phases % 2 == phase


def initialise(barrier: types.SimpleNamespace, count: int) -> None:
    barrier.count = barrier.missing = count


def arrived(stores: list) -> None:
    for memory, data in stores:
        memory[...] = data
    stores.clear()


class Layout:
    def __init__(self, *_: Any) -> None:
        pass

    @staticmethod
    def get_default_for(*_: Any) -> Layout:
        return Layout()


def install() -> tuple[types.ModuleType, types.ModuleType]:
    """Have ``specialised``, ``partitions`` and ``convolution`` speak it; gives the first two."""
    gluon_jit, gluon.jit = gluon.jit, triton.jit
    try:
        from liif_fast.head.triton import convolution, gather_waves, partitions, specialised
    finally:
        gluon.jit = gluon_jit
    specialised.gl = partitions.gl = gather_waves.gl = convolution.gl = types.SimpleNamespace(
        static_range=lambda count: range(number(count)), float32=tl.float32, int32=tl.int32, int64=tl.int64,
        BlockedLayout=Layout, SliceLayout=Layout, NVMMADistributedLayout=Layout, NVMMASharedLayout=Layout,
        SwizzledSharedLayout=Layout,
        num_warps=lambda: NUM_WARPS,
        arange=lambda start, end, layout: tl.arange(start, end),
        zeros=lambda shape, dtype, layout: tl.full(shape, 0.0, dtype),
        sum=lambda x, axis: tl.sum(x, axis=axis),
        reshape=lambda x, shape: tl.reshape(x, shape),
        convert_layout=lambda x, layout: x,
        inline_asm_elementwise=assembly,
        allocate_shared_memory=CARD.allocate,
        warp_specialize=CARD.specialize,
    )  # fmt: skip
    specialised.mbarrier = partitions.mbarrier = gather_waves.mbarrier = convolution.mbarrier = types.SimpleNamespace(
        init=initialise, wait=CARD.wait, arrive=CARD.arrive, expect=CARD.expect, MBarrierLayout=Layout
    )
    specialised.TensorDescriptor = convolution.TensorDescriptor = Descriptor
    for module in (specialised, partitions, gather_waves, convolution):
        module.fence_async_shared = CARD.fence
    gather_waves.synchronize = CARD.synchronize
    for module in (partitions, convolution):
        module.synchronize, module.load_block = CARD.synchronize, CARD.load
        module.warpgroup_mma, module.warpgroup_mma_wait = CARD.multiply, CARD.finish
    convolution.store_block, convolution.tma = CARD.copy, types.SimpleNamespace(store_wait=CARD.finish_copies)
    return specialised, partitions
