"""``liif-fast compare``: bicubic interpolation and models side by side, in figures and pictures."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from .. import distributed
from ..models.baselines.common import ImageModel
from ..quality import charts, compare, metrics, pairs, result_folder
from ..quality.compare_files import FILES, SCALES
from ..weights import hub, pretrained
from . import common, reporting
from .arguments import PLOT
from .errors import UsageError


def run(args: argparse.Namespace) -> int:
    """Compare as the arguments of ``liif-fast compare`` say; returns the exit code."""
    output = None if args.output is None else Path(args.output)
    plot = _check(args, output)
    names = _labels(args.model)
    why = charts.missing() if output is not None and plot else None
    if why is not None:  # before the work, so that it can be installed first
        reporting.say(f"note: {SCALES} is left out: {why}")
    methods = [_method(args, name, model) for name, model in names.items()]
    with reporting.Progress("image", alone=True) as bar:
        result = compare.compare(
            methods, args.data, args.scale, plot, args.protocol, args.lr, args.crops if output else 0, bar.to, args.niqe
        )
    if output is not None:
        files = result.files(chart=why is None)
        gone = result_folder.write(output, files, FILES, args.overwrite)
        if gone:
            reporting.say(f"note: {output}: deleted of the earlier result: {', '.join(gone)}")
    reporting.results(json.dumps(result.to_json(), allow_nan=False) if args.json else result.markdown().rstrip())
    if output is not None and not args.json:
        reporting.results(f"\n{output}: {', '.join(files)}")
    return 0


def _check(args: argparse.Namespace, output: Path | None) -> list[float]:
    """The scales of the plot; UsageError before models are loaded."""
    if distributed.world() > 1:
        raise UsageError("compare: runs in one process; leave torchrun out")
    if args.crops < 0:
        raise UsageError(f"--crops {args.crops}: 0 or more is wanted")
    plot = []
    for text in args.scales_plot.split(",") if args.scales_plot else ():
        try:
            plot.append(float(text))
            metrics.border(args.protocol, plot[-1])
        except ValueError as error:
            raise UsageError(
                f"--scales-plot {args.scales_plot}: numbers of at least 1 are wanted, as {PLOT}; got {text!r}"
            ) from error
    for scale in args.scale:
        try:
            metrics.border(args.protocol, scale)
        except ValueError as error:
            raise UsageError(f"--scale {scale:g}: a number of at least 1 is wanted") from error
    try:
        for folder in args.data:
            pairs.check(folder, args.lr)
        compare.data_names(args.data)
        if output is not None:
            result_folder.check(output, FILES, args.overwrite)
            _check_apart(output, args.data)
    except FileNotFoundError as error:
        raise UsageError(f"--data {error}") from error
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    return plot


def _check_apart(output: Path, data: list[str]) -> None:
    """The pictures must not become images of a data set, or replace one."""
    for folder in data:
        if any(os.path.realpath(output) == os.path.realpath(part) for part in (folder, os.path.join(folder, "HR"))):
            raise UsageError(f"-o {output}: is a folder of --data, whose images it would change; give another one")


def _labels(given: list[str]) -> dict[str, str]:
    """Models by what they are called: ``NAME=MODEL``, or a known name, or a file's name without its suffix."""
    labels: dict[str, str] = {}
    for text in given:
        name, equals, model = text.partition("=")
        if not equals or text in pretrained.names() or os.path.exists(text):
            named = text in pretrained.names() or hub.is_address(text)
            name, model = text.rpartition("/")[2] if named else Path(text).stem, text
        if not name or not model:
            raise UsageError(f"--model {text}: NAME=MODEL is wanted, or MODEL alone")
        if name in labels or name == compare.BICUBIC.name:
            why = "bicubic is there always" if name == compare.BICUBIC.name else "it has been given to another"
            raise UsageError(f"--model {text}: the name {name} is taken ({why}); call it --model NAME={model}")
        labels[name] = model
    return labels


def _method(args: argparse.Namespace, name: str, file: str) -> compare.Method:
    model, dtype = common.load(args, file)
    if not hasattr(model, "upscale"):
        raise UsageError(f"--model {file}: a {type(model).__name__} makes no images; give a model that upscales")
    if dtype == torch.int8 and isinstance(model, ImageModel):
        dtype = torch.float32  # int8 is of LIIF's hidden layers

    def upscale(image: Any, size: Any) -> Any:
        return model.upscale(image, size=size, dtype=dtype)

    about = {"model": file, "kind": model.spec["name"], "dtype": str(dtype).removeprefix("torch.")}
    return compare.Method(name, upscale, getattr(model, "scale", None), about)
