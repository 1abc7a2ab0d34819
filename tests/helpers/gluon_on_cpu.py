"""As much of Gluon's language as the fused kernel (``specialised``) speaks, on top of triton's interpreter, on the CPU.

Layouts mean nothing here (the compiler checks them); order does. What is asynchronous on the card happens as late, or
as early, as the card may do it: a product when it is waited for, a store to shared memory when it is fenced, a copy at
once. So a slot that is freed too early, a missing wait or fence give wrong numbers, and a wrong phase is a deadlock,
which is reported. The warps of a partition run as one; the partitions take turns whenever one has to wait.
"""

from __future__ import annotations

import threading
import types
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.experimental import gluon
from triton.runtime.interpreter import TensorHandle

NUM_WARPS = 8


def widened(data: np.ndarray, dtype: tl.dtype) -> np.ndarray:
    """float32 of what the interpreter holds; of bfloat16 it holds the bits."""
    if dtype == tl.bfloat16:
        return (data.astype(np.uint32) << 16).view(np.float32)
    return data.astype(np.float32)


def number(x: Any) -> int:
    return int(x.handle.data.flat[0]) if isinstance(x, tl.tensor) else int(x)


class Shared:
    """Shared memory, full of NaN; index, slice and permute are views."""

    def __init__(self, dtype: tl.dtype, data: np.ndarray) -> None:
        self.dtype, self.data, self.shape = dtype, data, list(data.shape)

    def index(self, i: Any) -> Shared:
        return Shared(self.dtype, self.data[number(i)])

    def slice(self, start: Any, length: int, dim: int = 0) -> Shared:
        at = (slice(None),) * dim + (slice(number(start), number(start) + length),)
        return Shared(self.dtype, self.data[at])

    def permute(self, order: tuple[int, ...]) -> Shared:
        return Shared(self.dtype, self.data.transpose(order))

    def load(self, layout: Any) -> tl.tensor:
        return tl.tensor(TensorHandle(self.data.copy(), self.dtype), tl.block_type(self.dtype, self.shape))

    def store(self, value: tl.tensor) -> None:
        assert value.dtype == self.dtype
        assert value.handle.data.shape == self.data.shape
        CARD.own.stored.append((self.data, value.handle.data.copy()))
        self.data[...] = garbage(self.dtype)


class Barriers:
    """An array of mbarriers."""

    def __init__(self, count: int) -> None:
        self.all = [types.SimpleNamespace(phases=0, count=0, missing=0, bytes=0) for _ in range(count)]

    def index(self, i: Any) -> types.SimpleNamespace:
        return self.all[number(i)]


def numpy_type(dtype: tl.dtype) -> Any:
    return {tl.bfloat16: np.uint16, tl.float16: np.float16, tl.float32: np.float32}[dtype]


def garbage(dtype: tl.dtype) -> Any:
    return np.uint16(0x7FC0) if dtype == tl.bfloat16 else np.nan


class Descriptor:
    """Of a tensor in global memory, by blocks."""

    def __init__(self, tensor: torch.Tensor, block: list[int], layout: Any) -> None:
        self.dtype, self.layout, self.block = getattr(tl, str(tensor.dtype)[6:]), layout, block
        bits = tensor.view(torch.int16).numpy()
        self.data = bits.view(numpy_type(self.dtype))
        self.block_type = types.SimpleNamespace(nbytes=2 * block[0] * block[1])

    @staticmethod
    def from_tensor(tensor: torch.Tensor, block: list[int], layout: Any) -> Descriptor:
        return Descriptor(tensor, block, layout)


class Own(threading.local):
    """Of a partition: stores not yet fenced, products not yet waited for."""

    def __init__(self) -> None:
        self.stored: list = []
        self.products: list = []

    def check(self) -> None:
        stored, products = self.stored, self.products
        self.stored, self.products = [], []
        assert not stored, "stored, but never fenced"
        assert not products, "multiplied, but never waited for"


class Card:
    """What goes on at the same time, and whose turn it is."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.own = Own()
        self.running = 0  # partitions
        self.blocked: dict[int, tuple] = {}  # by thread: the barrier and phase that it waits for
        self.behind: set[int] = set()  # threads that let the others go first
        self.failure: BaseException | None = None

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

        self.own.check()
        self.running, self.failure = len(partitions), None
        threads = [threading.Thread(target=worker, args=partition) for partition in partitions]
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
        (rows, columns), (row, column) = descriptor.block, map(number, at)
        block = descriptor.data[row : row + rows, column : column + columns]
        assert block.shape == slot.data.shape
        slot.data[...] = block
        barrier.bytes -= 2 * rows * columns
        assert barrier.bytes >= 0, "more bytes than were expected"
        self.advance(barrier)

    def fence(self) -> None:
        for memory, data in self.own.stored:
            memory[...] = data
        self.own.stored.clear()

    def multiply(self, a: Shared, b: Shared, sums: tl.tensor, *, is_async: bool) -> tl.tensor:
        assert is_async
        result = np.full(sums.handle.data.shape, np.nan, np.float32)
        self.own.products.append((a, b, sums.handle, result))
        return tl.tensor(TensorHandle(result, tl.float32), sums.type)

    def finish(self, left: int = 0, *, deps: tuple) -> tl.tensor:
        while len(self.own.products) > left:
            a, b, sums, result = self.own.products.pop(0)
            result[...] = widened(a.data, a.dtype) @ widened(b.data, b.dtype) + sums.data
        return deps[0]


CARD = Card()


def closed(wanted: tuple) -> bool:
    barrier, phase = wanted
    return barrier.phases % 2 == phase


def initialise(barrier: types.SimpleNamespace, count: int) -> None:
    barrier.count = barrier.missing = count


def allocate(dtype: tl.dtype, shape: list[int], layout: Any) -> Shared | Barriers:
    if dtype == tl.int64:
        return Barriers(shape[0])
    return Shared(dtype, np.full(shape, garbage(dtype), numpy_type(dtype)))


class Layout:
    def __init__(self, *_: Any) -> None:
        pass

    @staticmethod
    def get_default_for(*_: Any) -> Layout:
        return Layout()


def install() -> types.ModuleType:
    """Have ``specialised`` speak it; gives it."""
    gluon_jit, gluon.jit = gluon.jit, triton.jit
    try:
        from liif_fast.head.triton import specialised
    finally:
        gluon.jit = gluon_jit
    specialised.gl = types.SimpleNamespace(
        static_range=range, float32=tl.float32, int64=tl.int64,
        BlockedLayout=Layout, SliceLayout=Layout, NVMMADistributedLayout=Layout, NVMMASharedLayout=Layout,
        SwizzledSharedLayout=Layout,
        num_warps=lambda: NUM_WARPS,
        arange=lambda start, end, layout: tl.arange(start, end),
        zeros=lambda shape, dtype, layout: tl.full(shape, 0.0, dtype),
        sum=lambda x, axis: tl.sum(x, axis=axis),
        reshape=lambda x, shape: tl.reshape(x, shape),
        convert_layout=lambda x, layout: x,
        allocate_shared_memory=allocate,
        warp_specialize=CARD.specialize,
    )  # fmt: skip
    specialised.mbarrier = types.SimpleNamespace(
        init=initialise, wait=CARD.wait, arrive=CARD.arrive, expect=CARD.expect, MBarrierLayout=Layout
    )
    specialised.TensorDescriptor = Descriptor
    specialised.load_block = CARD.load
    specialised.fence_async_shared = CARD.fence
    specialised.warpgroup_mma, specialised.warpgroup_mma_wait = CARD.multiply, CARD.finish
    return specialised
