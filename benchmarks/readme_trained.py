"""docs/evaluation.md's tables, from what ``liif-fast compare`` and the runs wrote into results/small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tables import table

from liif_fast.training.journal import read_metrics, steps_per_second

SMALL = Path(__file__).parent / "results" / "small"
# PSNR and SSIM on Set5 at x4 that the report gives, and by which method of the table it is meant
REPORT = {"SRCNN": (27.7541, 0.7979), "SRGAN": (26.5206, 0.7982), "official": (32.1538, 0.8955)}
RUNS = {
    "SRCNN": "small-srcnn-x4",
    "SRResNet": "small-srresnet-x4",
    "SRGAN": "small-srgan-x4",
    "small LIIF": "small-liif",
}
SCALE = 4


def trained(folder: Path = SMALL) -> str:
    """Every method at x4, beside the report."""
    results, methods, data = _compared(folder)
    if missing := REPORT.keys() - set(methods):
        raise KeyError(f"compare.json: no method is called {min(missing)}, of which the report has figures")
    lines = []
    for method in methods:
        report = "{:.3f} / {:.4f}".format(*REPORT[method]) if method in REPORT else ""
        cells = [_cell(results[name, SCALE, method]) for name in data]
        lines.append([method, report, *cells])
    return table(["PSNR (dB) / SSIM / NIQE", "report, Set5 x4", *(f"{name} x{SCALE}" for name in data)], lines)


def scales(folder: Path = SMALL) -> str:
    """PSNR at the other scales, of what makes them."""
    results, methods, data = _compared(folder)
    found = sorted({scale for _, scale, _ in results if scale != SCALE})
    able = [m for m in methods if all(results[name, s, m]["psnr"] is not None for name in data for s in found)]
    lines = [
        [f"{method}, {name}", *(f"{results[name, scale, method]['psnr']:.3f}" for scale in found)]
        for name in data
        for method in able
    ]
    return table(["PSNR (dB)", *(f"x{scale:g}" for scale in found)], lines)


def runs(folder: Path = SMALL) -> str:
    """How long each was trained, and how fast."""
    lines = []
    for method, name in RUNS.items():
        records = read_metrics(folder / f"{name}.jsonl")
        steps = [r for r in records if r["kind"] == "step"]
        config = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
        speed = steps_per_second(records)
        hours = steps[-1]["step"] / speed / 3600  # pauses, and other work of the machine, are not of the run
        batch = config["train_dataset"]["batch_size"]
        lines.append(
            [method, f"`configs/{name}.yaml`", f"{steps[-1]['step']:,} of {batch}", f"{speed:.1f}", f"{hours:.1f}"]
        )
    return table(["", "configuration", "steps, of so many crops", "steps/s", "hours"], lines)


def _compared(folder: Path) -> tuple[dict[tuple[str, float, str], Any], list[str], list[str]]:
    """Figures by data, scale and method; the methods and the data in their order."""
    found = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    results = {(r["data"], r["scale"], r["method"]): r for r in found["results"]}
    return results, [m["name"] for m in found["methods"]], list(found["data"])


def _cell(figures: dict[str, Any]) -> str:
    if missing := [name for name in ("psnr", "ssim", "niqe") if figures[name] is None]:
        what = f"{figures['data']}, {figures['method']}"
        raise ValueError(f"compare.json: {what}: no {missing[0]}; compare with torchmetrics and --niqe")
    return f"{figures['psnr']:.3f} / {figures['ssim']:.4f} / {figures['niqe']:.2f}"


BLOCKS: dict[str, Callable[[], str]] = {"trained": trained, "trained_scales": scales, "trained_runs": runs}
