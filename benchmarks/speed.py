"""Times of LIIF's parts on the CPU: each contender is checked against the reference first, then timed in turns.

    python benchmarks/speed.py                        # head inference, 64x64 features, x4, official weights
    python benchmarks/speed.py train upscale --json   # one row for each contender

The reference is LIIF as the official code runs it: unfolded features, four grid_samples, a 580-wide MLP, chunks of
30,000 queries. The share of the ceiling compares with loops of nothing but multiply-adds, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from pathlib import Path

import cases
import torch
from ceiling import ceilings

import liif_fast


def measure(contenders: list[cases.Contender], rounds: int) -> list[dict]:
    """Check every contender, then time them in turns: A B C A B C ..."""
    want = contenders[0].run()
    rows, runs = [], []
    for c in contenders:
        error = (c.run() - want).abs().max().item()
        ok = error <= c.tolerance
        rows.append({"contender": c.name, "dtype": c.kind, "error": error, "ok": ok, "ops": c.ops})
        runs.append(c.run if ok else None)
    times: list[list[float]] = [[] for _ in rows]
    for _ in range(rounds):
        for run, taken in zip(runs, times, strict=True):
            if run is not None:
                start = time.perf_counter()
                run()
                taken.append(time.perf_counter() - start)
    for row, taken in zip(rows, times, strict=True):
        if taken:
            row["median"] = statistics.median(taken)
            row["q20"], row["q80"] = (sorted(taken)[round(q * (len(taken) - 1))] for q in (0.2, 0.8))
            row["ratio"] = rows[0]["median"] / row["median"]
    return rows


def about() -> dict:
    """Where and with what."""
    root = Path(__file__).parents[1]
    commit = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    info = Path("/proc/cpuinfo")
    model = info.read_text().split("model name", 1)[1].split(":", 1)[1].split("\n")[0] if info.exists() else ""
    return {
        "cpu": model.strip() or platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["head"], help=f"any of {', '.join(cases.CASES)} (default: head)")
    parser.add_argument("--model", default="edsr-baseline-liif")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one row for each contender")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(cases.CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(cases.CASES)}")

    model = liif_fast.load(args.model)
    machine, ceiling = about(), ceilings()
    if not args.json:
        print(", ".join(f"{k} {v}" for k, v in machine.items()))
        print("ceilings, Gop/s: " + ", ".join(f"{k} {v / 1e9:.0f}" for k, v in ceiling.items()))
    for name in args.cases:
        torch.manual_seed(0)
        with torch.no_grad():
            rows = measure(cases.CASES[name](model), args.rounds)
        for row in rows:
            report(name, row, machine, ceiling, args.json)


def report(case: str, row: dict, machine: dict, ceiling: dict[str, float], as_json: bool) -> None:
    rate = row.pop("ops") / row["median"] if row["ok"] else 0
    row["share"] = rate / ceiling[row["dtype"]] if rate and row["dtype"] in ceiling else None
    if as_json:
        print(json.dumps({"case": case, **row, "ceiling": ceiling.get(row["dtype"]), **machine}), flush=True)
        return
    line = f"{case:<8}{row['contender']:<23}{row['dtype']:<10}max error {row['error']:.1e}  "
    if not row["ok"]:
        print(f"{line}WRONG: not timed", flush=True)
        return
    share = f"  {row['share']:.0%} of the ceiling" if row["share"] else ""
    spread = f"({row['q20']:.4g} to {row['q80']:.4g})"
    print(f"{line}{row['median']:.4g} s {spread}  {row['ratio']:.2f} x{share}", flush=True)


if __name__ == "__main__":
    main()
