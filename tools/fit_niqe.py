"""Fits the model of natural images that ``liif_fast.quality.niqe`` compares with, to folders of photos.

python tools/fit_niqe.py DATA/train/clic2025 DATA/train/cid22_train DATA/train/budgie_cc0
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from liif_fast.quality import niqe
from liif_fast.quality.evaluate import to_tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=niqe.MODEL, help="%(default)s")
    args = parser.parse_args()
    files = [file for folder in args.folders for file in sorted(folder.iterdir())]
    model = niqe.fit(to_tensor(np.asarray(Image.open(file).convert("RGB")))[0] for file in files)
    np.savez(args.out, **{name: value.astype(np.float32) for name, value in model.items()})
    print(f"{args.out}: {int(model['blocks'])} blocks of {len(files)} photos")


if __name__ == "__main__":
    main()
