"""Times on a CUDA device: each contender is checked first, then timed in turns by the device's clock.

    python benchmarks/gpu.py gather train step render frames --json rows.jsonl

Shares are of what the same run measured: gather of the device's copy bandwidth, each byte that must be read or written
counted once; matrices of torch's fastest product of square matrices. Times are the device's own, from a cold L2 cache;
``host`` in the rows is wall-clock time with Python's launches. ``--device cpu --tiny`` checks this program itself.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from pathlib import Path

import torch
from gpu_cases import CASES, Bar
from gpu_timing import ceilings, measure
from speed import about

import liif_fast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--model", default="edsr-baseline-liif", help="name or checkpoint file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE", help="append one row for each contender and each bar")
    parser.add_argument("--once", action="store_true", help="run each contender and time nothing: for a profiler")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that mean nothing, to check this program")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "gpu.py: nothing to measure: torch finds no CUDA device\n")
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, for the reference and for us
    model = liif_fast.load(args.model, device=args.device).eval()
    machine = {**about(), "gpu": torch.cuda.get_device_name() if device.type == "cuda" else "none"}
    machine |= {"cuda": torch.version.cuda, "triton": _version("triton"), "tiny": args.tiny}
    ceiling = {} if args.once else ceilings(device, args.tiny)
    print(", ".join(f"{k} {v}" for k, v in machine.items()))
    print("ceilings, 10^12/s: " + ", ".join(f"{k} {v / 1e12:.2f}" for k, v in ceiling.items()), flush=True)
    results, failed = [], 0
    torch.set_grad_enabled(False)  # training enables it for itself
    for name in args.cases:
        for title, case in CASES[name](model, device, args.tiny):
            if args.once:
                for contender in case.contenders:
                    contender.run()
                continue
            rows = measure(case.contenders, args.rounds, device)
            for row in rows:
                failed += not row["ok"]
                row["share"] = share(row, ceiling)
                say(title, row)
            bars = [judge(title, bar, rows) for bar in case.bars]
            results += bars
            if args.json:
                with args.json.open("a") as file:
                    for row in (*rows, *bars):
                        file.write(json.dumps({"case": title, **row, "ceilings": ceiling, **machine}) + "\n")
    print("\nbars")
    for bar in results:
        met = {True: "met", False: "NOT met", None: "not measured"}[bar["met"]]
        value = "" if bar["value"] is None else f"{bar['value']:.3g}"
        print(f"{met:<13}{value:>8}  {bar['case']}: {bar['bar']}")
    raise SystemExit(1 if failed else 0)


def share(row: dict, ceiling: dict[str, float]) -> float | None:
    if row.get("bytes_per_second"):
        return row["bytes_per_second"] / ceiling["copy"]
    return row["ops_per_second"] / ceiling[row["dtype"]] if row.get("ops_per_second") else None


def judge(title: str, bar: Bar, rows: list[dict]) -> dict:
    """A bar's value and whether it is met; None where a row that it needs was not measured."""
    by_name = {(row["contender"], row["dtype"]): row for row in rows}
    ours, other = by_name[bar.row], by_name.get(bar.than)
    text = f"{' '.join(bar.row)}: {bar.quantity}{'' if bar.than is None else ' ' + ' '.join(bar.than)}"
    value, most = None, bar.quantity == "memory of"
    if "median" in ours and (bar.than is None or "median" in other):
        if bar.quantity == "faster than":
            value = other["median"] / ours["median"]
        elif most:
            value = ours["peak"] / other["peak"] if "peak" in ours else None
        elif bar.quantity == "share":
            value = ours["share"]
        else:
            value = 1 / ours["median"]
    met = None if value is None else value <= bar.bound if most else value >= bar.bound
    return {"case": title, "bar": f"{text} {'<=' if most else '>='} {bar.bound}", "value": value, "met": met}


def say(title: str, row: dict) -> None:
    line = f"{title:<24}{row['contender']:<25}{row['dtype']:<10}"
    if "failed" in row:
        print(f"{line}FAILED: {row['failed']}", flush=True)
    elif not row["ok"]:
        print(f"{line}WRONG by {row['error']:.1e}: not timed", flush=True)
    else:
        peak = f"  {row['peak'] / 2**20:.0f} MiB" if "peak" in row else ""
        part = f"  {row['share']:.0%} of the ceiling" if row["share"] else ""
        spread = f"({row['q20'] * 1e3:.3f} to {row['q80'] * 1e3:.3f})"
        ratio = f"{row['ratio']:.2f} x" if row.get("ratio") else ""
        print(f"{line}{row['median'] * 1e3:.3f} ms {spread}  {ratio}  apart {row['error']:.1e}{peak}{part}", flush=True)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
