"""The arguments of ``liif-fast view``. Nothing here imports torch, starlette or uvicorn."""

from __future__ import annotations

import argparse

from ..sizes import MAX_PIXELS
from . import spellings

MODEL = "edsr-baseline-liif"
NOTES = (
    "The page is on this machine only (127.0.0.1), until Ctrl-C. From another one: ssh -L 8000:127.0.0.1:PORT and "
    "there http://127.0.0.1:8000/."
)


def add(p: argparse.ArgumentParser) -> None:
    p.epilog = NOTES
    p.add_argument("inputs", nargs="+", metavar="PHOTO", help="image files")
    p.add_argument(
        "-m",
        "--model",
        action="append",
        metavar="MODEL",
        help=f"a name, a checkpoint file or hf://user/name of a LIIF; several times, too ({MODEL})",
    )
    p.add_argument(
        "--truth",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="what the photos were reduced from, one for each PHOTO in their order: shown, and PSNR against it",
    )
    p.add_argument("--port", type=int, default=0, metavar="N", help="0: a free one (%(default)s)")
    p.add_argument("--no-browser", dest="browser", action="store_false", help="only print the page's address")
    p.add_argument(
        "--memory",
        type=int,
        metavar="MIB",
        help="that is kept of a photo's features (1024); of drawn tiles a quarter of that; beside models and photo",
    )
    p.add_argument("--max-pixels", type=int, default=MAX_PIXELS, help="refuse larger photos (%(default)s)")
    p.add_argument("--device", default="auto", help="auto, cpu, gpu, cuda, cuda:1, mps, ... (%(default)s)")
    p.add_argument(
        "--dtype",
        type=spellings.dtype,
        choices=spellings.DTYPES,
        default="auto",
        help="of the computation (%(default)s: half precision on CUDA; on a CPU int8, or float32 without our kernels)",
    )
