"""The arguments of ``liif-fast export``. Nothing here imports torch."""

from __future__ import annotations

import argparse
import re

from . import spellings

NOTES = (
    "Images are [B, 3, H, W] in [0, 1], and so are results; without --scale and --size the result's (height, width) is "
    "a second input. Below the image's size results are samples: reduce the image before. Encoders that work on "
    "windows (SwinIR) want --fixed."
)


def add(p: argparse.ArgumentParser) -> None:
    p.epilog = NOTES
    p.add_argument("-m", "--model", default="edsr-baseline-liif", help="a name or a checkpoint file (%(default)s)")
    p.add_argument("-o", "--output", metavar="FILE", help="what is written: .onnx, or .pt2 (torch's AOTInductor)")
    p.add_argument(
        "--part",
        choices=("image", "head"),
        default="image",
        help="all (image), or the colours of features at coordinates (head; of LTE with the image as a further input)",
    )
    p.add_argument("--fixed", type=_sides, metavar="HxW", help="height and width of every image (any)")
    how = p.add_mutually_exclusive_group()
    how.add_argument("-s", "--scale", type=spellings.scale, help="of every result; a whole number without --fixed")
    how.add_argument("--size", type=spellings.both_sides, metavar="WIDTHxHEIGHT", help="of every result")
    p.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the weights (%(default)s)")
    p.add_argument("--opset", type=int, default=18, metavar="N", help="of ONNX, 18 or later (%(default)s)")
    p.add_argument("--overwrite", action="store_true", help="replace the file if there is one")


def _sides(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6}) ?[x*×] ?(\d{1,6})", text.strip().lower())
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(sides):
        raise argparse.ArgumentTypeError(f"{text}: HEIGHTxWIDTH of the images is wanted, e.g. 480x640")
    return sides
