"""``liif-fast models``: weights that have a name, and the architectures that specs may name."""

from __future__ import annotations

import argparse
import dataclasses
import json

from .. import models, registry  # models: imported, they are known by name
from ..weights import pretrained
from . import reporting

__all__ = ["models", "run"]


def run(args: argparse.Namespace) -> int:
    """List them; returns the exit code."""
    known = pretrained.about()
    if args.json:
        rows = [{**dataclasses.asdict(a), "path": None if a.path is None else str(a.path)} for a in known]
        reporting.result(json.dumps({"weights": rows, "architectures": registry.names()}))
        return 0
    lines = []
    for about in known:
        where = str(about.path or "not here yet: the first use fetches it")
        lines += [about.name, f"  {about.what}", f"  {about.size / 1e6:.1f} MB, {where}", f"  licence: {about.licence}"]
    lines.append(
        "any checkpoint file of a LIIF or an LTE can be given in a name's place; liif-fast info FILE says what it holds"
    )
    lines.append(f"architectures, for training and specs: {', '.join(registry.names())}")
    reporting.results("\n".join(lines))
    return 0
