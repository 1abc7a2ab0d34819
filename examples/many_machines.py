"""A folder of any number of pictures, enlarged by all machines of a Ray cluster, or all cores of one machine.

    pip install "ray[data]"
    python examples/many_machines.py photos large --scale 2 --workers 8

The folders are on a disk that all machines have. What is there already is passed over, so the same command goes on
where an earlier one ended; what failed is written to ``failed.jsonl`` in the output's folder, and the others are done.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ray.data
import torch

import liif_fast
from liif_fast.upscaling.files import upscale_files
from liif_fast.upscaling.options import Options

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


class Enlarge:
    """A worker: it loads the model once, and enlarges files as the command does (EXIF, profiles, 16 bits, whole or not
    at all)."""

    def __init__(self, folder: str, output: str, scale: float, model: str) -> None:
        self.folder, self.output = Path(folder), Path(output)
        self.options = Options(scale=scale, skip_existing=True)
        cuda = torch.cuda.is_available()  # Ray shows a worker the GPUs that are its own
        self.loaded = liif_fast.load(model, "cuda" if cuda else "cpu"), torch.bfloat16 if cuda else torch.float32

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        rows: dict[str, list[str]] = {"path": [], "status": [], "error": []}
        for path in map(str, batch["path"]):
            target = self.output / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (result,) = upscale_files(lambda: self.loaded, [self.folder / path], target, self.options)
            for name, value in (("path", path), ("status", result.status), ("error", result.error or "")):
                rows[name].append(value)
        return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--model", default="edsr-baseline-liif", help="a name or a checkpoint file")
    parser.add_argument("--workers", type=int, default=2, help="models in all machines together")
    parser.add_argument("--gpus", type=float, default=0, help="of a worker: 1, or a part of one")
    args = parser.parse_args()

    found = (p for p in args.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    files = ray.data.from_items([{"path": str(p.relative_to(args.folder))} for p in found])
    settings = {"folder": args.folder.resolve(), "output": args.output.resolve(), "scale": args.scale}
    done = files.map_batches(
        Enlarge,
        fn_constructor_kwargs={**settings, "model": args.model},
        batch_size=8,
        num_gpus=args.gpus,
        compute=ray.data.ActorPoolStrategy(size=args.workers),
    )
    args.output.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    with open(args.output / "failed.jsonl", "w", encoding="utf-8") as failed:
        for row in done.iter_rows():
            counts[row["status"]] += 1
            if row["status"] == "failed":
                failed.write(json.dumps(row) + "\n")
    print(", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "no pictures")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
