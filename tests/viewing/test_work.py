"""The queue: what is done first, what is dropped, shared and cancelled."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from served import until

from liif_fast.viewing.work import Cancelled, Dropped, Urgency, Work


@pytest.fixture
def work():
    made = Work(most=3)
    yield made
    assert made.close(20)


class Hold:
    """A job that holds the thread until ``free`` is set."""

    def __init__(self, work: Work) -> None:
        self.begun, self.free = threading.Event(), threading.Event()
        self.future = work.put(self)
        assert self.begun.wait(20)

    def __call__(self, pause):
        self.begun.set()
        assert self.free.wait(20)


def test_the_most_urgent_first_and_of_those_the_newest(work):
    hold, done = Hold(work), []
    wanted = [Urgency.SAVE, Urgency.TILE, Urgency.PSNR, Urgency.TILE, Urgency.NOW]
    futures = [work.put(lambda pause, k=k: done.append(k), urgency) for k, urgency in enumerate(wanted)]
    hold.free.set()
    for future in futures:
        future.result(20)
    assert done == [4, 3, 1, 2, 0]


def test_a_full_queue_drops_the_oldest_of_its_urgency(work):
    hold = Hold(work)
    save = work.put(lambda pause: "save", Urgency.SAVE)
    tiles = [work.put(lambda pause, k=k: k, Urgency.TILE, key=k) for k in range(3)]
    assert work.put(lambda pause: None, Urgency.TILE, key=0) is not tiles[0]  # asked for again: now the newest
    tiles.append(work.put(lambda pause: 3, Urgency.TILE, key=3))
    with pytest.raises(Dropped, match="newer requests came"):
        tiles[1].result(0)
    hold.free.set()
    assert [tiles[k].result(20) for k in (0, 2, 3)] == [0, 2, 3]
    assert save.result(20) == "save"


def test_equal_jobs_that_wait_or_run_are_one(work):
    hold, count, begun, free = Hold(work), [], threading.Event(), threading.Event()

    def do(pause):
        count.append(1)
        begun.set()
        assert free.wait(20)
        return object()

    first, second = (work.put(do, Urgency.TILE, key="a") for _ in range(2))
    first.cancel()
    hold.free.set()
    assert begun.wait(20)
    third = work.put(do, Urgency.TILE, key="a")
    free.set()
    assert second.result(20) is third.result(20)
    assert work.put(do, Urgency.TILE, key="a").result(20) is not second.result()  # the work keeps nothing
    assert len(count) == 2


def test_what_nobody_waits_for_is_not_begun(work):
    hold, done = Hold(work), []
    gone = [work.put(lambda pause: done.append(1), Urgency.TILE, key="a") for _ in range(2)]
    assert all(future.cancel() for future in gone)
    last = work.put(lambda pause: done.append(2), Urgency.SAVE)
    hold.free.set()
    last.result(20)
    assert done == [2]


def test_pause_ends_a_job_that_nobody_wants_and_one_that_asks_then_begins_anew(work):
    ends, begun = [], threading.Event()

    def do(pause):
        begun.set()
        try:
            while True:
                pause()
                time.sleep(0.001)
        except Cancelled:
            ends.append(1)
            raise

    future = work.put(do, Urgency.SAVE, key="a")
    assert begun.wait(20)
    assert future.cancel()
    assert work.put(lambda pause: "new", Urgency.SAVE).result(20) == "new"
    assert ends == [1]


def test_pause_does_what_is_more_urgent_but_no_other_long_work(work):
    hold, done, begun, free = Hold(work), [], threading.Event(), threading.Event()

    def save(pause):
        begun.set()
        assert free.wait(20)
        pause()
        done.append("save")

    def tile(pause):
        pause()
        done.append("tile")

    hold.free.set()
    futures = [work.put(save, Urgency.SAVE)]
    assert begun.wait(20)
    futures += [work.put(lambda pause, u=u: done.append(u.name), u) for u in (Urgency.PSNR, Urgency.NOW)]
    futures += [work.put(tile, Urgency.TILE)]
    free.set()
    for future in futures:
        future.result(20)
    assert done == ["NOW", "tile", "save", "PSNR"]


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [ValueError("x"), Odd("x"), SystemExit(3), KeyboardInterrupt("x"), StopIteration("x")]
)
def test_an_exception_goes_to_who_waits_and_the_thread_goes_on(work, error):
    def do(pause):
        raise error

    async def wait():
        return await asyncio.wrap_future(work.put(do))

    with pytest.raises(ValueError if isinstance(error, ValueError) else RuntimeError, match=str(error)) as raised:
        asyncio.run(wait())
    assert raised.value is error or type(error).__name__ in str(raised.value)
    assert work.put(lambda pause: 7).result(20) == 7


def test_a_task_that_is_cancelled_cancels_its_job(work):
    hold, done = Hold(work), []

    async def wait():
        task = asyncio.ensure_future(asyncio.wrap_future(work.put(lambda pause: done.append(1), Urgency.TILE)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(wait())
    hold.free.set()
    work.put(lambda pause: None, Urgency.SAVE).result(20)
    assert done == []


def test_the_end_drops_what_waits_and_cancels_what_runs():
    work, begun = Work(), threading.Event()

    def do(pause):
        begun.set()
        while True:
            pause()
            time.sleep(0.001)

    running = work.put(do, Urgency.PSNR)
    assert begun.wait(20)
    waits = work.put(lambda pause: None, Urgency.SAVE)
    assert work.close(20)
    assert isinstance(running.exception(0), Cancelled)
    assert isinstance(waits.exception(0), Dropped)
    assert isinstance(work.put(lambda pause: None).exception(0), Dropped)


def test_many_threads_at_once():
    work, results = Work(), []

    def ask(seed):
        for k in range(100):
            future = work.put(lambda pause, k=k: k, list(Urgency)[(seed + k) % 4], key=k)
            if (seed + k) % 3 == 0:
                future.cancel()
            else:
                try:
                    results.append(future.result(20) == k)
                except Dropped:
                    results.append(True)

    threads = [threading.Thread(target=ask, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == sum((seed + k) % 3 != 0 for seed in range(8) for k in range(100))
    assert all(results)
    until(lambda: not work._by_key and not any(work._waiting))
    assert work.close(20)
