"""Enlarge a photo, or a part of it.

    python examples/photo.py photo.jpg large.png --scale 3.5
    python examples/photo.py photo.jpg face.png --size 600 800 --window 40 60 150 200

The command ``liif-fast photo.jpg -s 3.5`` does that too, and keeps EXIF, profiles, 16 bits and animations.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

import liif_fast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=float, help="a factor, or:")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--window", type=float, nargs=4, metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"), help="a part of it"
    )
    parser.add_argument("--model", default="edsr-baseline-liif", help="a name or a checkpoint file")
    args = parser.parse_args()
    if (args.scale is None) == (args.size is None):
        parser.error("one of --scale and --size is wanted")
    if args.output.exists():
        parser.error(f"{args.output}: is there already; give another name")
    if args.output.suffix.lower() not in Image.registered_extensions():
        parser.error(f"{args.output}: a name that ends in .png, .jpg, ... is wanted")

    model = liif_fast.load(args.model)
    with Image.open(args.photo) as photo:
        large = model.upscale(photo, scale=args.scale, size=args.size, window=args.window)
    if args.output.suffix.lower() in (".jpg", ".jpeg") and large.mode != "L":
        large = large.convert("RGB")  # JPEG has no alpha
    large.save(args.output)
    print(f"{args.output}: {large.width}x{large.height}")


if __name__ == "__main__":
    main()
