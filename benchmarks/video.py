"""Frames a second of ``model.renderer`` for seconds on end, as for a film: the card is warm, and its power may set its
clock.

    python benchmarks/video.py                      # 960x540 -> 3840x2160 and 720x480 -> 1440x960, bfloat16
    python benchmarks/video.py --seconds 10 --compile --json rows.jsonl

The first frame is compared with ``model.render`` before anything is timed. Rows are as those of speed.py; a frame's
time is that of all frames divided by their number.
"""

from __future__ import annotations

import argparse
import time
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
    gauge, count = Gauge(device), 0
    for _ in range(2):  # once to warm the card up
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            for i in range(AHEAD):
                renderer(frames[i % len(frames)])
            gauge.read()
            count += AHEAD
            synchronize(device)
        taken = time.perf_counter() - begin
    return {
        "case": f"video {low[1]}x{low[0]} -> {high[1]}x{high[0]}",
        "contender": f"liif_fast, renderer{heads.COMPILED * compiled}",
        "dtype": "bfloat16",
        "ok": True,
        "error": error,
        "median": taken / count,
        "rounds": count,
        "queries": high[0] * high[1],
        **medians(gauge.take()),
    }


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
        row = film(model, low, high, args.seconds, args.compile)
        if args.tiny:
            row["tiny"] = True
        card = "".join(f"  {row[name]:.0f} {unit}" for name, unit in (("sm_mhz", "MHz"), ("watts", "W")) if name in row)
        print(f"{row['case']}: {1 / row['median']:.1f} frames/s of {row['rounds']}{card}", flush=True)
        bars = [Bar((row["contender"], row["dtype"]), "per second", None, rate).judge([row]) for rate in rates]
        if args.json:
            machine = about(device)
            append(args.json, [{**row, **machine}, *({"case": row["case"], **bar, **machine} for bar in bars)])


if __name__ == "__main__":
    main()
