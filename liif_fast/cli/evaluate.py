"""``liif-fast eval``: a model on a folder, or on what a test configuration of the official repository names."""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch

from .. import distributed
from ..quality import evaluate
from ..training import official_test
from ..training.config import ConfigError, EvalConfig, load_config
from . import common, reporting
from .errors import UsageError


def run(args: argparse.Namespace) -> int:
    """Evaluate as the arguments of ``liif-fast eval`` say; returns the exit code."""
    if args.config is not None:
        return _eval_config(args)
    if args.data is None or args.scale is None:
        raise UsageError("eval: --data and --scale, or --config, are required")
    for name, value in (("--window", args.window), ("--scale-max", args.scale_max)):
        if value is not None:
            raise UsageError(f"{name} {value:g}: it is for --config, and --data was given; leave it out")
    try:
        evaluate.check_arguments(args.data, args.scale, args.protocol, args.lr)
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    if args.model == "bicubic":
        upscale, dtype = evaluate.bicubic, None
    else:
        model, precision = common.load(args)

        def upscale(image: Any, size: Any) -> Any:
            return model.upscale(image, size=size, dtype=precision)

        dtype = str(precision).removeprefix("torch.")

    distributed.connect(torch.device("cpu"))
    try:
        with reporting.Progress("image", alone=True) as bar:
            report = evaluate.evaluate(
                upscale, args.data, args.scale, args.protocol, args.lr, bar.to, distributed.connected(), args.niqe
            )
    finally:
        distributed.disconnect()
    if distributed.rank() == 0:
        reporting.results(
            json.dumps({"model": args.model, "dtype": dtype, **report.to_json()}) if args.json else report.table()
        )
    return 0


def _eval_config(args: argparse.Namespace) -> int:
    if args.niqe:
        raise UsageError("--niqe: a --config makes queries and no pictures; give --data and --scale")
    if args.dtype not in ("auto", "float32"):
        raise UsageError(f"--dtype {args.dtype}: with --config the model runs in float32, as the official program")
    args.dtype = "float32"
    try:
        config = load_config(args.config, EvalConfig)
        model = common.load(args)[0].float()  # a file may have it in half precision
        device = next(model.parameters()).device
        distributed.connect(device)

        def note(text: str) -> None:
            if distributed.rank() == 0:
                reporting.say(f"note: {text}")

        with reporting.Progress("batch") as bar:
            psnr = official_test.evaluate_config(
                model, config, device, bar.to, note, window=args.window or 0, scale_max=args.scale_max
            )
    except ConfigError as error:
        raise UsageError(str(error)) from error
    finally:
        distributed.disconnect()
    if distributed.rank() == 0:
        reporting.result(
            json.dumps({"model": args.model, "config": args.config, "psnr": psnr}) if args.json else f"{psnr:.4f} dB"
        )
    return 0
