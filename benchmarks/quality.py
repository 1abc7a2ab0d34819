"""PSNR on Set5 at x4 beside each precision: speed that costs quality is shown with its cost."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from liif_fast.quality import evaluate


def decibels(model, kinds: tuple[str, ...]) -> dict[str, float]:
    """PSNR in the benchmark protocol by kind of number; empty without $LIIF_FAST_DATA/benchmark/Set5."""
    folder = Path(os.environ.get("LIIF_FAST_DATA", ""), "benchmark", "Set5")
    if not folder.is_dir():
        return {}
    found = {}
    for kind in (*kinds, "int8"):
        dtype = getattr(torch, kind)
        found[kind] = evaluate.evaluate(lambda x, size, d=dtype: model.upscale(x, size=size, dtype=d), folder, 4).psnr
    return found
