"""The arguments of ``liif-fast eval --config`` that LTE's test program has. Nothing here imports torch."""

from __future__ import annotations

import argparse


def add(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="with --config: pad inputs by reflection to the next multiple of N, as LTE's program does for SwinIR (8)",
    )
    p.add_argument(
        "--scale-max",
        "--scale_max",
        type=float,
        metavar="S",
        help="with --config: larger cells at scales above S, as LTE's program (default: the model's, of LTE 4, of "
        "others none; inf: none)",
    )
