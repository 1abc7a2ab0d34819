"""``liif-fast export``: a LIIF or LTE as a file for programs without liif_fast."""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch

from .. import export
from ..models.lte import LTE
from ..sizes import output_size
from ..weights import checkpoints
from . import common, reporting
from .errors import UsageError

__all__ = ["common", "run"]  # common: brings the models that are known by name


def run(args: argparse.Namespace) -> int:
    """Write the file; returns the exit code."""
    if args.output is None:
        raise UsageError("-o FILE: a file for the model is wanted, e.g. -o liif.onnx or -o liif.pt2")
    kind = os.path.splitext(args.output)[1].lower()
    if kind not in (".onnx", ".pt2"):
        raise UsageError(f"-o {args.output}: the suffix says the kind, .onnx or .pt2")
    if os.path.lexists(args.output) and not args.overwrite:
        raise UsageError(f"{args.output} exists: give --overwrite, or another name")
    if not os.path.isdir(os.path.dirname(args.output) or "."):
        raise UsageError(f"-o {args.output}: there is no such folder")
    if kind == ".pt2" and args.dtype != "float32":
        raise UsageError("--dtype float16: packages of AOTInductor are in float32; leave it out, or write ONNX")
    try:
        model, notes = checkpoints.load_with_notes(args.model)
    except checkpoints.UnknownModelError as error:
        raise UsageError(str(error)) from error
    for note in notes:
        reporting.say(f"note: {note}")
    size = None if args.size is None else args.size[::-1]
    how: dict[str, Any] = {"part": args.part, "fixed": args.fixed, "size": size, "scale": args.scale}
    try:
        if kind == ".onnx":
            export.to_onnx(model, args.output, dtype=getattr(torch, args.dtype), opset=args.opset, **how)
        else:
            export.to_pt2(model, args.output, **how)
    except (TypeError, ValueError, ImportError) as error:
        raise UsageError(str(error)) from error
    kind = f"ONNX opset {args.opset}" if kind == ".onnx" else "AOTInductor"
    reporting.result(f"{args.output}: {kind}, {os.path.getsize(args.output) / 1e6:.1f} MB, {_inputs(args, model)}")
    return 0


def _inputs(args: argparse.Namespace, model: Any) -> str:
    """What a program gives to it."""
    height, width = args.fixed or ("H", "W")
    if args.part == "head":
        cell = ", cell [B, Q, 2]" if model.cell_decode else ""
        feat = f"feat [B, {model.encoder.out_dim}, {height}, {width}]"
        inp = f", inp [B, {model._out_dim()}, H, W]" if isinstance(model, LTE) else ""
        return f"{feat}, coord [B, Q, 2]{cell}{inp} -> result [B, Q, {model._out_dim()}]"
    size, result = ", size [2] (height, width)", "*size"
    if args.size is not None or (args.fixed and args.scale):
        sides = output_size(args.fixed or (1, 1), args.scale, args.size and args.size[::-1])
        size, result = "", f"{sides[0]}, {sides[1]}"
    elif args.scale is not None:
        size, result = "", f"{args.scale:g} * H, {args.scale:g} * W"
    return f"image [B, 3, {height}, {width}] in [0, 1]{size} -> result [B, 3, {result}]"
