"""``liif-fast tune``: the fused kernel's configurations, measured on this machine's card."""

from __future__ import annotations

import argparse

import torch

from ..head import triton
from ..head.triton import configs
from . import common, reporting
from .errors import UsageError


def run(args: argparse.Namespace) -> int:
    """Measure, and keep the fastest; returns the exit code."""
    if not args.device.startswith("cuda"):
        raise UsageError(f"--device {args.device}: a CUDA device is wanted, e.g. cuda or cuda:1")
    widths = tuple(args.width or configs.WIDTHS)
    for width in widths:
        if width not in configs.WIDTHS:
            raise UsageError(f"--width {width}: one of {', '.join(map(str, configs.WIDTHS))} is wanted")
    ok, why = triton.available(torch.device(args.device))
    if not ok:
        raise RuntimeError(f"there is nothing to tune: {why}")
    from ..head.triton import tune  # imports triton, which is there only beside CUDA

    tune.command(common.device(args.device), reporting.result, widths)
    return 0
