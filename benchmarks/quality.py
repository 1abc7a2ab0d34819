"""PSNR on Set5 at x4 beside each precision: speed that costs quality is shown with its cost.

    python benchmarks/quality.py    # what each precision loses on Set5 and Set14, x2 to x4

int8 there also with its encoder in bfloat16, as on a CPU that multiplies it faster than float32.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

import liif_fast
from liif_fast.head import precision
from liif_fast.quality import evaluate


def decibels(model, kinds: tuple[str, ...]) -> dict[str, float]:
    """PSNR in the benchmark protocol by kind of number; empty without $LIIF_FAST_DATA/benchmark/Set5."""
    folder = Path(os.environ.get("LIIF_FAST_DATA", ""), "benchmark", "Set5")
    return {kind: _psnr(model, kind, folder, 4) for kind in (*kinds, "int8")} if folder.is_dir() else {}


def _psnr(model, kind: str, folder: Path, scale: int) -> float:
    dtype = getattr(torch, kind)
    return evaluate.evaluate(lambda x, size: model.upscale(x, size=size, dtype=dtype), folder, scale).psnr


def main() -> None:
    data = Path(os.environ["LIIF_FAST_DATA"])
    model = liif_fast.load(data / "weights" / "edsr-baseline-liif.pth")
    half = (torch.bfloat16,)
    units, largest = {"float32": (), "bfloat16": half, "int8": (), "int8, encoder bfloat16": half}, {}
    for name in ("Set5", "Set14"):
        for scale in (2, 3, 4):
            found = {}
            for kind, precision.FAST_HALF_CPU in units.items():
                found[kind] = _psnr(model, kind.split(",")[0], data / "benchmark" / name, scale)
                largest[kind] = max(largest.get(kind, 0.0), found["float32"] - found[kind])
            print(f"{name} x{scale}: " + "; ".join(f"{kind} {value:.4f}" for kind, value in found.items()), flush=True)
    print("most below float32: " + "; ".join(f"{kind} {value:.4f} dB" for kind, value in largest.items()))


if __name__ == "__main__":
    main()
