"""The arguments of ``liif-fast train``. Nothing here imports torch."""

from __future__ import annotations

import argparse


def add(p: argparse.ArgumentParser) -> None:
    p.add_argument("config", metavar="CONFIG", help="a YAML file in the form of the official repository's")
    p.add_argument("--save", metavar="DIR", help="folder of the run (default: save/_CONFIG, as the official one)")
    p.add_argument("--name", help="name of the folder inside save/, in place of _CONFIG")
    p.add_argument("--tag", help="put behind the folder's name")
    p.add_argument(
        "--resume", action="store_true", help="go on from the folder's newest whole checkpoint, if there is one"
    )
    p.add_argument("--overwrite", action="store_true", help="delete the run in the folder, and start anew")
    p.add_argument(
        "--minutes", type=float, metavar="M", help="save and stop after so long, with exit code 0; --resume goes on"
    )
    p.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would happen (1: data are missing)"
    )
    p.add_argument("--device", default="auto", help="auto, cpu, gpu, cuda, ... (%(default)s)")
