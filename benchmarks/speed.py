"""Times of LIIF, ours against the official computation: every contender is checked first, then timed in turns.

    python benchmarks/speed.py --quick            # the head in a minute: reference, compiled reference, fold, ours
    python benchmarks/speed.py head train upscale # by name, see --list
    python benchmarks/speed.py --suite --json rows.jsonl --plot plots
    python benchmarks/speed.py --compare A.jsonl B.jsonl

The reference is LIIF as the official code runs it: unfolded features, four grid_samples, a 580-wide MLP, chunks of
30,000 queries, float32. "fold" is the first layer as a convolution, in plain PyTorch. Shares of the ceiling compare
with what the same run measured: loops of nothing but multiply-adds on a CPU; torch's products of square matrices and
its copy on CUDA, whose times are the device's own, from a cold L2 cache ("host" in the rows: with Python's launches).
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from cases import CASES, Setup
from ceiling import ceilings
from measure import Case, measure
from plots import plot
from quality import decibels
from rows import about, append, compare, load, slopes

import liif_fast
from liif_fast.quality import charts

# What --suite runs. A CPU leaves out what takes a quarter of an hour; any case can be named.
SUITE = {
    "cpu": ["head", "head-320-x2", "head-320-x3", "upscale", "train", "step", "tiles", "queries", "scales"],
    "cuda": [name for name in CASES if name not in ("upscale", "frames")],
}
QUICK = ["head"]
SET5_LOSS = {"bfloat16": 0.02, "float16": 0.02, "int8": 0.01}  # dB that they may cost
QUICK_SECONDS = 54.0  # of the whole program


def main() -> None:
    began = time.perf_counter()
    args = _arguments()
    if args.list:
        return print("\n".join(f"{n:<16}in --suite on {', '.join(d for d in SUITE if n in SUITE[d])}" for n in CASES))
    if args.compare:
        return print("\n".join(compare(*(load(path) for path in args.compare))))
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("speed.py: nothing to measure: torch finds no CUDA device")
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, for the reference and for us
    torch.set_grad_enabled(False)  # training enables it for itself
    quick = not args.suite and not args.cases
    end = began + QUICK_SECONDS if quick and not args.budget else None
    names = args.cases or (SUITE[device.type] if args.suite else QUICK)
    setup = Setup(device, args.tiny, full=not quick, compiled=args.suite or args.compile)
    model = liif_fast.load(args.model, device=args.device).eval()
    machine = {**about(device), "run": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
    if args.tiny:
        machine["tiny"] = True
    ceiling, card = ({}, {}) if args.once else ceilings(device, args.tiny)
    print(", ".join(f"{k} {v}" for k, v in machine.items()))
    found = (f"{kind} {rate / 1e9:.0f}{_shown(card.get(kind, {}))}" for kind, rate in ceiling.items())
    print("ceilings, 10^9/s: " + ", ".join(found), flush=True)
    everything, bars, wrong = [], [], 0
    quality = decibels(model, setup.kinds) if args.psnr or (args.suite and not args.tiny) else {}
    for kind, psnr in quality.items():
        if kind == "float32":
            continue
        lost = quality["float32"] - psnr
        bar = f"liif_fast {kind}: dB below float32 <= {SET5_LOSS[kind]}"
        bars.append({"case": "Set5 x4", "bar": bar, "value": lost, "met": lost <= SET5_LOSS[kind]})
    if args.json:
        append(args.json, ({**bar, **machine} for bar in bars))
    for case in built(names, model, setup):
        if isinstance(case, str):
            wrong += 1
            print(case, flush=True)
            continue
        if args.once:
            for contender in case.contenders:
                contender.run(0)
            continue
        until = end or time.perf_counter() + (args.budget or 120.0)
        rows = measure(case, args.rounds, device, ceiling, until, 0.0 if args.tiny else 0.25)
        for row in rows:
            wrong += not row["ok"]
            row["set5_x4_db"] = quality.get(row["dtype"]) if row["contender"] == "liif_fast" else None
            say(case.title, row)
        judged = [] if args.tiny else [{"case": case.title, **bar.judge(rows)} for bar in case.bars]
        bars += judged
        for row in rows:
            row |= {"case": case.title, "ceiling_card": card.get(row["dtype"]), **machine}
        everything += rows
        if args.json:
            append(args.json, [*rows, *({**bar, **machine} for bar in judged)])
    for name, slope in slopes(everything).items():
        print(f"{name}: time grows as queries^{slope:.2f}")
    for bar in bars:
        met = {True: "met", False: "NOT met", None: "not measured"}[bar["met"]]
        value = "" if bar["value"] is None else f"{bar['value']:.3g}"
        print(f"{met:<13}{value:>8}  {bar['case']}: {bar['bar']}")
    if args.plot:
        shown = load(args.json) if args.json else everything  # of earlier runs too
        try:
            print("plots: " + ", ".join(str(path) for path in plot(shown, args.plot)))
        except charts.ChartError as error:
            print(f"plots: none: {error}")
    met = [sum(bar["met"] is value for bar in bars) for value in (True, False, None)]
    print(f"{len(everything)} rows, {wrong} wrong; bars: {met[0]} met, {met[1]} not, {met[2]} not measured")
    raise SystemExit(1 if wrong else 0)


def built(names: Sequence[str], model, setup: Setup) -> Iterator[Case | str]:
    """The cases; why one cannot be built in its place: it must not take the others' figures with it."""
    for name in names:
        torch.manual_seed(0)
        try:
            yield from CASES[name](model, setup)
        except Exception as failure:
            yield f"{name} FAILED: {type(failure).__name__}: " + " ".join(str(failure).split())[:300]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="see --list (default: as --quick)")
    parser.add_argument("--list", action="store_true", help="the names of the cases")
    parser.add_argument("--quick", action="store_true", help="the head alone, without the slower forms of the fold")
    parser.add_argument("--suite", action="store_true", help="all that this device has the time for")
    parser.add_argument("--compile", action="store_true", help="with all that torch.compile makes (--suite does)")
    parser.add_argument("--model", default="edsr-baseline-liif", help="name or checkpoint file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=None, help="at most (15; CPU: 7, 15 with --quick)")
    parser.add_argument("--psnr", action="store_true", help="Set5 x4 for each precision (--suite does), see quality.py")
    parser.add_argument("--budget", type=float, help="seconds for a case (120; --quick: what is left of a minute)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append rows")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write PNGs, with --json of all rows in FILE")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="two files of rows")
    parser.add_argument("--once", action="store_true", help="run each contender and time nothing: for a profiler")
    parser.add_argument("--tiny", action="store_true", help="sizes that mean nothing, to check this program")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    args.rounds = args.rounds or (15 if args.device.startswith("cuda") or (not args.suite and not args.cases) else 7)
    return args


def _shown(card: dict) -> str:
    """Clock and power, where the card tells."""
    return f"  {card['sm_mhz']:.0f} MHz {card['watts']:.0f} W" if "sm_mhz" in card else ""


def say(title: str, row: dict) -> None:
    line = f"{title:<44}{row['contender']:<36}{row['dtype']:<10}"
    if "failed" in row:
        print(f"{line}FAILED: {row['failed']}", flush=True)
    elif not row["ok"]:
        print(f"{line}WRONG by {row['error']:.1e}: not timed", flush=True)
    else:
        ratio = f"{row['ratio']:6.2f} x" if row["ratio"] else ""
        part = f"  {row['share']:.0%} of the ceiling" if row["share"] else ""
        path = f"  by {row['path']}" if row.get("path") else ""
        peak = f"  {row['peak'] / 2**20:.0f} MiB" if row.get("peak") is not None else ""
        spread = f"({row['q20'] * 1e3:.5g} to {row['q80'] * 1e3:.5g})"
        figures = f"{ratio}  error {row['error']:.1e}{part}{peak}{path}{_shown(row)}"
        print(f"{line}{row['median'] * 1e3:9.5g} ms {spread:<20}{figures}", flush=True)


if __name__ == "__main__":
    main()
