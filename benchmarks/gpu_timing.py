"""Timing on a CUDA device: checked first, then in turns by the device's own clock, with ceilings of the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def largest_difference(out: Tensor, want: Tensor) -> float:
    return (out - want).abs().max().item()


def gradients_apart(out: list[Tensor], want: list[Tensor]) -> float:
    """The largest of the tensors' differences, each by its norm relative to the norm wanted."""
    pairs = zip(out, want, strict=True)
    return max(((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30)).item() for a, b in pairs)


@dataclass
class Contender:
    """``run`` gives the result to check and time; ``kind``: of numbers; ``ops``: operations of its matrices;
    ``bytes``: that it must read and write, each once."""

    name: str
    kind: str
    run: Callable[[], Any]
    tolerance: float = 0.0
    ops: float = 0.0
    bytes: float = 0.0
    apart: Callable[[Any, Any], float] = largest_difference


class Clock:
    """Seconds of a run. On CUDA the device is kept busy until the whole run is queued, so that its own time and not
    that of Python's launches is taken, and its L2 cache is overwritten before."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
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


def ceilings(device: torch.device, tiny: bool) -> dict[str, float]:
    """Operations per second of torch's products of square matrices, and "copy": bytes read and written per second.

    Medians; the better of two sizes for products. On random numbers: zeros take less power and run faster.
    """
    clock, found = Clock(device), {}
    for kind in ("bfloat16", "float16", "float32", "int8"):
        best = 0.0
        for n in (256,) if tiny else (4096, 8192):
            if kind == "int8":
                (a, b), multiply = torch.randint(-128, 128, (2, n, n), device=device).to(torch.int8), torch._int_mm
            else:
                (a, b), multiply = torch.randn(2, n, n, device=device).to(getattr(torch, kind)), torch.mm
            times = [clock(lambda m=multiply, a=a, b=b: m(a, b.t())) for _ in range(12)][3:]
            best = max(best, 2 * n**3 / statistics.median(times))
        found[kind] = best
    source = torch.empty(1 << (20 if tiny else 30), dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    times = [clock(lambda: target.copy_(source)) for _ in range(12)][3:]
    return {**found, "copy": 2 * source.nbytes / statistics.median(times)}


def measure(contenders: list[Contender], rounds: int, device: torch.device) -> list[dict]:
    """Check every contender against the first, then time them in turns: A B C A B C ...

    ``peak``: bytes allocated at most beyond those before, the result included.
    """
    clock, rows, runs, want = Clock(device), [], [], None
    for c in contenders:
        row: dict[str, Any] = {"contender": c.name, "dtype": c.kind, "ok": False}
        rows.append(row)
        runs.append(None)
        try:
            c.run()  # compiled, its memory planned
            clock.wait()
            if clock.cuda:
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
            out = c.run()
            clock.wait()
            if clock.cuda:
                row["peak"] = torch.cuda.max_memory_allocated() - before
        except Exception as failure:  # one that does not run here must not take the others' figures with it
            row["failed"] = f"{type(failure).__name__}: " + " ".join(str(failure).split())[:300]
            continue
        want = out if want is None else want
        row["error"] = c.apart(out, want)
        del out
        row["ok"] = row["error"] <= c.tolerance
        if row["ok"]:
            runs[-1] = c.run
    times: list[list[float]] = [[] for _ in rows]
    for turn in range(rounds + 2):
        for run, taken in zip(runs, times, strict=True):
            if run is not None:
                seconds = clock(run)
                if turn >= 2:
                    taken.append(seconds)
    for row, c, taken in zip(rows, contenders, times, strict=True):
        if taken:
            taken.sort()
            row["median"] = statistics.median(taken)
            row["q20"], row["q80"] = (taken[round(q * (len(taken) - 1))] for q in (0.2, 0.8))
            row["host"] = statistics.median(clock.host(c.run) for _ in range(3))
            row["ops_per_second"] = c.ops / row["median"] or None
            row["bytes_per_second"] = c.bytes / row["median"] or None
    if rows and "median" in rows[0]:
        for row in rows:
            row["ratio"] = rows[0]["median"] / row["median"] if "median" in row else None
    return rows
