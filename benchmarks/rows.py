"""Rows of results: JSON objects, one a line, one for each contender and each bar."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import processor
import torch

ROOT = Path(__file__).parents[1]


def commit(root: Path = ROOT) -> str:
    """Git's; in a copy without its history what ``gpu.sh prepare`` kept in .dev/commit, or "unknown"."""
    if (root / ".git").exists():  # else it would be that of a repository around this folder
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    kept = root / ".dev" / "commit"
    return kept.read_text(encoding="utf-8").strip() if kept.exists() else "unknown"


def about(device: torch.device) -> dict:
    """Where and with what."""
    found = {
        **processor.about(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "triton": version("triton")}
    return found


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def append(path: Path, rows: Iterable[dict]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def load(path: Path) -> list[dict]:
    """ValueError with the line's number where it is not a row."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            row["case"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}, line {number}: not a row of results") from None
        rows.append(row)
    return rows


def key(row: dict) -> tuple[str, str, str]:
    return row["case"], row["contender"], row["dtype"]


def grouped(rows: Iterable[dict]) -> dict[tuple[str, str, str], list[dict]]:
    """Timed rows of several runs, by case, contender and dtype."""
    found: dict[tuple[str, str, str], list[dict]] = {}
    for row in rows:
        if "median" in row:
            found.setdefault(key(row), []).append(row)
    return found


def slopes(rows: Iterable[dict]) -> dict[str, float]:
    """Of each contender the slope of its time against the number of queries, both in logarithms: 1 where ten times as
    many take ten times as long. Least squares over the cases "queries 10^N", where there are two or more."""
    points: dict[str, list[tuple[float, float]]] = {}
    for (case, contender, dtype), found in grouped(rows).items():
        if case.startswith("queries 10^"):
            row = found[-1]
            points.setdefault(f"{contender} {dtype}", []).append((math.log(row["queries"]), math.log(row["median"])))
    return {name: statistics.linear_regression(*zip(*p, strict=True)).slope for name, p in points.items() if len(p) > 1}


def compare(before: Sequence[dict], after: Sequence[dict]) -> list[str]:
    """Lines: times and ratios of two files. The times differ where the quantiles of the two do not overlap."""
    old, new = grouped(before), grouped(after)
    lines = [f"{'case':<34}{'contender':<27}{'dtype':<10}{'A':>10}{'B':>10}{'A/B':>7}   ratio to reference A, B"]
    for name in [k for k in old if k in new]:
        a, b = old[name][-1], new[name][-1]
        apart = "" if a["q20"] <= b["q80"] and b["q20"] <= a["q80"] else "  differs"
        both = [f"{r['ratio']:.2f}" if r.get("ratio") else "-" for r in (a, b)]
        change = ""
        if a.get("ratio") and b.get("ratio"):
            change = f" ({b['ratio'] / a['ratio'] - 1:+.0%})"
        lines.append(
            f"{name[0]:<34}{name[1]:<27}{name[2]:<10}{a['median']:>10.4g}{b['median']:>10.4g}"
            f"{a['median'] / b['median']:>7.2f}   {both[0]}, {both[1]}{change}{apart}"
        )
    for text, missing in (("A", [k for k in old if k not in new]), ("B", [k for k in new if k not in old])):
        lines += [f"only in {text}: {' | '.join(k)}" for k in missing]
    return lines
