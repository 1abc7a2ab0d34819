"""Enlarge every picture of a folder; what cannot be read is said, and the others are done.

    python examples/folder.py photos large --scale 2

The command ``liif-fast photos -o large -s 2`` does that too; this is for programs that do something of their own with
each result.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

import liif_fast


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--model", default="edsr-baseline-liif", help="a name or a checkpoint file")
    args = parser.parse_args()

    known = Image.registered_extensions()
    files = sorted(path for path in args.folder.iterdir() if path.suffix.lower() in known)
    args.output.mkdir(parents=True, exist_ok=True)
    model, failed = liif_fast.load(args.model), 0
    for path in files:
        output = args.output / f"{path.name}.png"  # a.jpg and a.png are two pictures
        if output.exists():
            continue  # of an earlier run
        try:
            with Image.open(path) as photo:
                large = model.upscale(photo, scale=args.scale)
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed += 1
            continue
        unfinished = output.with_suffix(".tmp")
        large.save(unfinished, format="PNG")
        unfinished.replace(output)  # whole, or not there
        print(f"{output}: {large.width}x{large.height}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
