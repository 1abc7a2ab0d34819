"""Arguments that pictures and videos share. Nothing here imports torch."""

from __future__ import annotations

import argparse

from . import spellings


def part(p: argparse.ArgumentParser) -> None:
    """What of a picture, and how it is reduced."""
    p.add_argument(
        "--window",
        type=spellings.window,
        metavar="LEFT,TOP,WIDTHxHEIGHT",
        help="only this part, in the picture's pixels, upright; real numbers, beyond the border, too",
    )
    p.add_argument("--point", action="store_true", help="below scale 1: samples, as LIIF's authors do, which alias")
