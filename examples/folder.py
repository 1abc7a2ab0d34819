"""Enlarge every picture of a folder; what fails is said, and the others are done.

    python examples/folder.py photos large --scale 2

The command ``liif-fast photos -o large -s 2`` does that too, and keeps EXIF, profiles, 16 bits and animations; this is
for programs that do something of their own with each result.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

import liif_fast

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--model", default="edsr-baseline-liif", help="a name or a checkpoint file")
    args = parser.parse_args()
    if not args.folder.is_dir():
        parser.error(f"{args.folder}: no such folder")
    if args.output.resolve() == args.folder.resolve():
        parser.error(f"{args.output}: results among the pictures would be enlarged, too; give another folder")
    files = sorted(path for path in args.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        parser.error(f"{args.folder}: no pictures ({', '.join(sorted(SUFFIXES))})")

    args.output.mkdir(parents=True, exist_ok=True)
    model, failed = liif_fast.load(args.model), 0
    for path in files:
        output = args.output / f"{path.name}.png"  # a.jpg and a.png are two pictures
        if output.exists():
            continue  # of an earlier run
        unfinished = output.with_suffix(".tmp")
        try:
            with Image.open(path) as photo:
                if getattr(photo, "n_frames", 1) > 1:
                    print(f"{path}: the first of its pictures alone", file=sys.stderr)
                large = model.upscale(photo, scale=args.scale)
            large.save(unfinished, format="PNG")
            unfinished.replace(output)  # whole, or not there
        except Exception as error:  # whatever is the matter with one picture, the others are done
            unfinished.unlink(missing_ok=True)
            print(f"{path}: {error}", file=sys.stderr)
            failed += 1
        else:
            print(f"{output}: {large.width}x{large.height}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
