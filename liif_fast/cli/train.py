"""``liif-fast train CONFIG.yaml``, on one device or, under torchrun, on many."""

from __future__ import annotations

import argparse
import time

from ..training import run as training_run
from ..training.config import ConfigError
from . import common, reporting
from .errors import UsageError


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; returns the exit code."""
    begun = time.monotonic()
    try:
        device = common.device(args.device)
        deadline = None
        if args.minutes is not None:
            if not args.minutes > 0:  # NaN compares false
                raise ConfigError(f"--minutes {args.minutes:g}: a number above 0 is wanted")
            deadline = begun + 60 * args.minutes
        folder = training_run.folder_of(args.config, args.save, args.name, args.tag)
        where = (args.config, folder, device, args.resume, args.overwrite)
        if args.dry_run:
            text, ready = training_run.plan(*where)
            reporting.results(text)
            return 0 if ready else 1
        return training_run.train(*where, deadline=deadline, bar=reporting.watched())
    except ConfigError as error:
        raise UsageError(str(error)) from error
