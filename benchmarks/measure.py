"""Contenders, checked against the first and timed in turns, on a CPU or a CUDA device."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import processor
import torch
from gauge import Gauge, medians
from torch import Tensor

INPUTS = 3  # that runs rotate through, so that none finds its own input in a cache


def largest_difference(out: Tensor, want: Tensor) -> float:
    return (out - want).abs().max().item()


def gradients_apart(out: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """The largest of the tensors' differences, each by its norm relative to the norm wanted."""
    pairs = zip(out, want, strict=True)
    return max(((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30)).item() for a, b in pairs)


@dataclass
class Contender:
    """Something to time.

    Attributes:
        name, kind: who, and with which numbers ("float32", "bfloat16", "float16", "int8").
        run: gives the result for input 0 to INPUTS - 1; that of input 0 is checked.
        tolerance: how far, by ``apart``, it may be from the first contender's result.
        work: what it must do at least, by the name of the ceiling that bounds it: operations of its matrices by kind of
            number, each multiply-add two; under "copy" bytes to read and write, each once.
        compiles: in its first run, whose memory is then not its own.
        path: the instruction set of our kernels on a CPU, see ``processor.path``.
    """

    name: str
    kind: str
    run: Callable[[int], Any]
    tolerance: float = 0.0
    work: dict[str, float] = field(default_factory=dict)
    apart: Callable[[Any, Any], float] = largest_difference
    compiles: bool = False
    path: str = ""

    @property
    def unit(self) -> str:
        """The name of the ceiling that its kind of number has on what it runs on."""
        amx = f"amx {self.kind}"
        return processor.unit(self.kind, self.path) if self.path or amx not in self.work else amx


@dataclass
class Bar:
    """What a row should reach.

    Attributes:
        row, than: contender and kind of the row, and of the one that it is held against.
        quantity: "faster than", "memory of" or "error of" that one, or alone "share" of the ceiling, "per second", or
            "memory" in bytes.
        bound: of memory and error the most, of the others the least.
    """

    row: tuple[str, str]
    quantity: str
    than: tuple[str, str] | None
    bound: float

    def judge(self, rows: Sequence[dict]) -> dict:
        """Value and whether it is met; None where a row that it needs was not measured."""
        by_name = {(row["contender"], row["dtype"]): row for row in rows}
        ours, other = by_name.get(self.row, {}), by_name.get(self.than, {})
        most = self.quantity.startswith(("memory", "error"))
        key = {"memory": "peak", "error": "error"}.get(self.quantity.split()[0], "median")
        value = None
        if ours.get(key) and (self.than is None or other.get(key)):
            if self.quantity == "faster than":
                # the rounds' own ratios where there are, which are to the first row
                value = ours["ratio"] if other is rows[0] else other["median"] / ours["median"]
            elif self.than is not None:
                value = ours[key] / other[key]
            else:
                value = {"share": ours.get("share"), "memory": ours.get("peak")}.get(self.quantity, 1 / ours["median"])
        met = None if value is None else value <= self.bound if most else value >= self.bound
        than = "" if self.than is None else f" {' '.join(self.than)}"
        return {
            "bar": f"{' '.join(self.row)}: {self.quantity}{than} {'<=' if most else '>='} {self.bound:.3g}",
            "value": value,
            "met": met,
        }


@dataclass
class Case:
    """Contenders of one task, the reference first. ``queries``: colours that one run computes."""

    title: str
    contenders: list[Contender]
    bars: list[Bar] = field(default_factory=list)
    queries: int = 0


class Clock:
    """Seconds of a run. On CUDA the device is kept busy until the whole run is queued, so that its own time and not
    that of Python's launches is taken, and its L2 cache is overwritten before. ``gauge`` is read during each run."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.gauge = Gauge(device)
        if self.cuda:
            size = 4 * torch.cuda.get_device_properties(device).L2_cache_size
            self.flush = torch.empty(size, dtype=torch.int8, device=device)

    def __call__(self, run: Callable[[], Any], queueing: int = 4_000_000) -> float:
        """queueing: clock cycles, about 2 ms, to launch in."""
        if not self.cuda:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush.zero_()
        torch.cuda._sleep(queueing)
        start.record()
        run()
        end.record()
        self.gauge.read()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def host(self, run: Callable[[], Any]) -> float:
        """Wall-clock seconds, launches included, from an idle device to an idle device."""
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


class Peak:
    """Bytes at most beyond those before, from torch's allocator on CUDA, from Linux's counters on a CPU; None where
    there are none. What the process has freed is given back first, so that it counts when it is used again."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        if self.cuda:
            self.before: int | None = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is now what is resident now
            self.before = self._status("VmRSS")
        except (OSError, AttributeError):
            self.before = None

    def __call__(self) -> int | None:
        if self.before is None:
            return None
        return (torch.cuda.max_memory_allocated() if self.cuda else self._status("VmHWM")) - self.before

    @staticmethod
    def _status(name: str) -> int:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
        return int(lines[name].split()[0]) * 1024


def check(contenders: Sequence[Contender], clock: Clock, device: torch.device) -> list[dict]:
    """Run everyone and compare with the first. ``ok``: it may be timed; ``failed``: why it did not run; ``peak``: see
    Peak, the result included."""
    rows, want = [], None
    for c in contenders:
        row: dict[str, Any] = {"contender": c.name, "dtype": c.kind, "ok": False}
        if c.path:
            row["path"] = c.path
        rows.append(row)
        try:
            if c.compiles or clock.cuda:  # compiled and planned before memory counts
                c.run(0)
                clock.wait()
            peak = Peak(device)
            out = c.run(0)
            clock.wait()
            row["peak"] = peak()
            want = out if want is None else want
            row["error"] = c.apart(out, want)
        except Exception as failure:  # one that does not run here must not take the others' figures with it
            row["failed"] = f"{type(failure).__name__}: " + " ".join(str(failure).split())[:300]
            continue
        row["ok"] = row["error"] <= c.tolerance
        del out
    return rows


def _turn(clock: Clock, c: Contender, turn: int, fill: float) -> float:
    """Seconds of a run; on a CPU the mean of up to five short ones: one alone may fall into another process's."""
    times = [clock(lambda: c.run(turn % INPUTS))]
    while not clock.cuda and len(times) < 5 and sum(times) < fill:
        times.append(clock(lambda: c.run((turn + len(times)) % INPUTS)))
    return statistics.fmean(times)


def measure(
    case: Case,
    rounds: int,
    device: torch.device,
    ceiling: dict[str, float],
    end: float = float("inf"),
    fill: float = 0.25,
) -> list[dict]:
    """Check every contender against the first, then time those that passed in turns: A B C A B C ... ``ceiling`` of a
    row is that of ``unit``.

    ``ratio`` is the median of the rounds' ratios: what slows a whole round down does not enter. ``sm_mhz``, ``watts``:
    the card's clock and power while the contender ran, see ``gauge.py``.

    Args:
        rounds: at most.
        ceiling: see ``ceiling.py``; ``share`` is of this.
        end: no round begins that would end after this, by time.perf_counter; at least two are run.
        fill: seconds that short runs are repeated for in a round, on a CPU.
    """
    clock = Clock(device)
    rows = check(case.contenders, clock, device)
    times: list[list[float]] = [[] for _ in rows]
    shown: list[list[tuple[float, float]]] = [[] for _ in rows]
    began = time.perf_counter()
    for turn in range(rounds):
        for c, row, taken, seen in zip(case.contenders, rows, times, shown, strict=True):
            if row["ok"]:
                taken.append(_turn(clock, c, turn, fill))
                seen += clock.gauge.take()
        now = time.perf_counter()
        if turn >= 1 and now + (now - began) / (turn + 1) > end:
            break
    for row, c, taken, seen in zip(rows, case.contenders, times, shown, strict=True):
        if not taken:
            continue
        row |= {"median": statistics.median(taken), "rounds": len(taken), **medians(seen)}
        row["q20"], row["q80"] = (sorted(taken)[round(q * (len(taken) - 1))] for q in (0.2, 0.8))
        row["ratio"] = statistics.median(a / b for a, b in zip(times[0], taken, strict=True)) if times[0] else None
        row |= {"share": None, "unit": c.unit, "ceiling": ceiling.get(c.unit)}
        if c.work and all(name in ceiling for name in c.work):
            row["share"] = sum(amount / ceiling[name] for name, amount in c.work.items()) / row["median"]
        if case.queries:
            row["queries"] = case.queries
        if clock.cuda:
            again = 3 if row["median"] < 0.1 else 1  # of long runs Python's launches are a small part
            row["host"] = statistics.median(clock.host(lambda c=c: c.run(0)) for _ in range(again))
    return rows
