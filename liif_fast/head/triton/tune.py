"""Measures the configurations of the fused kernel on a card: ``liif-fast tune``."""

from __future__ import annotations

import functools
import statistics
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .. import int8, plain
from . import choices, render
from .configs import KINDS, WIDTHS, Config, candidates, family

_DTYPES = {"half": torch.bfloat16, "float32": torch.float32, "int8": torch.float32}
# Largest difference from plain PyTorch on the same card, relative to the largest colour: the order of sums in float32;
# roundings to 8 bits in bfloat16; int8: the same integers, then bfloat16 in two parts.
_TOLERANCE = {"half": 2e-2, "float32": 1e-4, "int8": 1e-4}


class Row(NamedTuple):
    """One measurement."""

    kind: str
    width: int
    config: Config | None  # None: plain PyTorch
    seconds: float | None  # None: it does not run here
    note: str = ""


def tune(
    device: torch.device,
    widths: tuple[int, ...] = WIDTHS,
    kinds: tuple[str, ...] = KINDS,
    queries: int = 1 << 21,
    rounds: int = 7,
) -> Iterator[Row]:
    """Measure plain PyTorch and every configuration that this version has for the card; ``choices.save`` keeps the
    fastest.

    Each result is compared with plain PyTorch's first: what differs, or does not compile, is not timed.
    """
    architecture = family(torch.cuda.get_device_capability(device))
    for kind in kinds:
        for D in widths:
            function, plain, arguments = _problem(kind, D, queries, device)
            want = plain(*arguments)
            runs: list[Callable[[], Tensor] | None] = [functools.partial(plain, *arguments)]
            found: list[tuple[Config | None, str]] = [(None, "")]
            for config in candidates(architecture, kind, D):
                note = _wrong(function, arguments, config, want, _TOLERANCE[kind])
                found.append((config, note))
                runs.append(None if note else functools.partial(function, *arguments, config=config))
            times = iter(in_turns([run for run in runs if run], rounds))
            for measured, note in found:
                yield Row(kind, D, measured, None if note else statistics.median(next(times)), note)


def fastest(rows: list[Row]) -> dict[str, Config | None]:
    """{"half-256": configuration, None: plain PyTorch}, as ``choices.save`` takes it."""
    best: dict[str, tuple[float, Config | None]] = {}
    for row in rows:
        key = f"{row.kind}-{row.width}"
        if row.seconds is not None and (key not in best or row.seconds < best[key][0]):
            best[key] = row.seconds, row.config
    return {key: config for key, (_, config) in best.items()}


def _problem(kind: str, D: int, queries: int, device: torch.device):
    """(fused kernel, plain PyTorch, their arguments): the official depth, random numbers, a map beyond a card's L2."""
    random = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, device=device)

    L, size = 3, (540, 960)
    hidden = normal(1, *size, D).to(_DTYPES[kind])
    side = round(queries**0.5)
    at = (torch.arange(side, device=device) + 0.5) * (2 / side) - 1
    coord, cell = torch.cartesian_prod(at, at)[None], None  # a grid's cell is in the hidden map
    w_pos, w_mlp, b_mlp = normal(D, 4), normal(L, D, D) * (2 / D) ** 0.5, normal(L, D) * 0.1
    w_out, b_out = normal(3, D) / D**0.5, normal(3)
    if kind == "int8":
        scale = torch.full((L,), 4 / 255, device=device)
        layers = (*int8.quantize_weights(w_mlp), b_mlp, scale)
        return render.render_int8, int8.render_int8, (
            hidden, coord, cell, w_pos, *layers, w_out, b_out, size, (0, 0), True
        )  # fmt: skip
    return render.render, plain.PLAIN["render"], (
        hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, (0, 0), True
    )  # fmt: skip


def _wrong(function, arguments, config: Config, want: Tensor, tolerance: float) -> str:
    """Why a configuration is not to be timed; empty if it gives the right result."""
    try:
        error = (function(*arguments, config=config) - want).abs().max() / want.abs().max()
    except Exception as failure:
        if not render.not_compiled(failure):
            raise
        return "does not compile: " + " ".join(str(failure).split())[:120]
    return "" if error.item() <= tolerance else f"WRONG: differs by {error.item():.1e}"


def in_turns(runs: list[Callable[[], Tensor]], rounds: int) -> list[list[float]]:
    """Seconds of each run, by the card's own clock: A B C A B C ..., so that its temperature favours none."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, taken in zip(runs, times, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            taken.append(start.elapsed_time(end) / 1e3)
    return times


def command(device: torch.device, say: Callable[[str], None], widths: tuple[int, ...] = WIDTHS) -> None:
    """``liif-fast tune``: measure, report, keep."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in tune(device, widths):
            rows.append(row)
            result = row.note if row.seconds is None else f"{row.seconds * 1e3:.2f} ms"
            say(f"{row.kind} {row.width}: {result}: {row.config or 'plain PyTorch'}")
    file = choices.save(fastest(rows), device)
    say(f"{choices.card(device)}: kept in {file}")
