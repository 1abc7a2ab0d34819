"""Frames a second of ``model.renderer``, and of ``model.stream`` with frames as arrays of bytes in and out, for seconds
on end, as for a film: the card is warm, and its power may set its clock.

    python benchmarks/video.py                      # 960x540 -> 3840x2160 and 720x480 -> 1440x960, bfloat16
    python benchmarks/video.py --seconds 10 --compile --json rows.jsonl

The first frame is compared with ``model.render`` before anything is timed. Rows are as those of speed.py; a frame's
time is that of all frames divided by their number.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import heads
import torch
from gauge import Gauge, medians
from measure import Bar
from rows import about, append

import liif_fast

AHEAD = 8  # frames that are launched before they are waited for
SIZES = (((540, 960), (2160, 3840), (30, 38)), ((480, 720), (960, 1440), (100,)))  # and the rates that are wanted


def film(model, low: tuple[int, int], high: tuple[int, int], seconds: float, compiled: bool) -> dict:
    """One row; RuntimeError where a frame is not what ``render`` gives."""
    device = next(model.parameters()).device
    frames = [x * 2 - 1 for x in heads.variants(heads.photo(*low, device))]
    renderer = model.renderer(high, dtype=torch.bfloat16, compile=compiled)
    error = (renderer(frames[0]) - model.render(frames[0], high, dtype=torch.bfloat16)).abs().max().item()
    if error > 2e-2:  # of colours that span 2; a compiled encoder rounds in other places
        raise RuntimeError(f"video.py: the renderer differs from render by {error:.1e}")

    def run() -> None:
        for i in range(AHEAD):
            renderer(frames[i % len(frames)])
        synchronize(device)

    return timed(run, device, seconds) | {
        "case": f"video {low[1]}x{low[0]} -> {high[1]}x{high[0]}",
        "contender": f"liif_fast, renderer{heads.COMPILED * compiled}",
        "dtype": "bfloat16",
        "ok": True,
        "error": error,
        "queries": high[0] * high[1],
    }


def stream(model, low: tuple[int, int], high: tuple[int, int], seconds: float) -> dict:
    """The same for ``model.stream``: [H, W, 3] of bytes in memory to such arrays."""
    device = next(model.parameters()).device
    frames = [(x[0] * 255).byte().permute(1, 2, 0).cpu().numpy() for x in heads.variants(heads.photo(*low, device))]
    with model.stream(itertools.cycle(frames), size=high, dtype=torch.bfloat16) as large:
        want = model.upscale(frames[0], size=high, dtype=torch.bfloat16)
        error = abs(next(large).astype(int) - want).max() / 255
        if error > 2e-2:
            raise RuntimeError(f"video.py: the stream differs from upscale by {error:.1e}")
        found = timed(lambda: [next(large) for _ in range(AHEAD)], device, seconds)
    return found | {
        "case": f"video {low[1]}x{low[0]} -> {high[1]}x{high[0]}",
        "contender": "liif_fast, stream of bytes",
        "dtype": "bfloat16",
        "ok": True,
        "error": error,
        "queries": high[0] * high[1],
    }


def timed(run: Callable[[], object], device: torch.device, seconds: float) -> dict:
    """Seconds a frame of what makes AHEAD of them, again and again."""
    gauge, count, taken = Gauge(device), 0, 0.0
    for _ in range(2):  # once to warm the card up
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            run()
            gauge.read()
            count += AHEAD
        taken = time.perf_counter() - begin
    return {"median": taken / count, "rounds": count, **medians(gauge.take())}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="edsr-baseline-liif", help="name or checkpoint file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=3.0, help="of frames, after as many to warm up (3)")
    parser.add_argument("--compile", action="store_true", help="the encoder by torch.compile")
    parser.add_argument("--tiny", action="store_true", help="sizes that mean nothing, to check this program")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append rows")
    args = parser.parse_args()
    device = torch.device(args.device)
    model = liif_fast.load(args.model, device=args.device).eval()
    for low, high, rates in (((12, 16), (24, 32), ()),) if args.tiny else SIZES:
        rows = [film(model, low, high, args.seconds, args.compile), stream(model, low, high, args.seconds)]
        for row in rows:
            if args.tiny:
                row["tiny"] = True
            units = (("sm_mhz", "MHz"), ("watts", "W"))
            card = "".join(f"  {row[name]:.0f} {unit}" for name, unit in units if name in row)
            rate = f"{1 / row['median']:.1f} frames/s of {row['rounds']}"
            print(f"{row['case']}, {row['contender']}: {rate}{card}", flush=True)
        first = rows[0]
        bars = [Bar((first["contender"], first["dtype"]), "per second", None, rate).judge([first]) for rate in rates]
        if args.json:
            machine = about(device)
            append(
                args.json, [{**row, **machine} for row in (*rows, *({"case": first["case"], **bar} for bar in bars))]
            )


if __name__ == "__main__":
    main()
