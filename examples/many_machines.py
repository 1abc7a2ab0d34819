"""A folder of any number of pictures enlarged by Ray Data, on this machine's cores or on all machines of a cluster.

``python examples/many_machines.py photos large --scale 4``; all machines see both folders under these names.
Only names go through Ray: a worker reads and writes its pictures itself, as ``liif-fast upscale --skip-existing`` does.
What exists is skipped, so the same command goes on where an earlier run ended. ``large/results.jsonl`` has a line for
each picture that was done or failed.
"""

import argparse
import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import ray
import torch

import liif_fast
from liif_fast.images.finding import images_in
from liif_fast.upscaling.files import upscale_found
from liif_fast.upscaling.options import Options


def listed(folder: Path) -> Iterator[dict[str, str]]:
    """Names of the pictures; those whose results may have one name (a.png, a.ppm) go to one worker, which sees it."""
    for at, inside, _ in os.walk(folder):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        found, errors = images_in(Path(at))
        if errors:
            sys.exit(f"error: {errors[0]}")
        same: dict[str, list[str]] = {}
        for path in found:
            same.setdefault(path.stem, []).append(str(path.relative_to(folder)))
        yield from ({"names": json.dumps(names)} for names in same.values())  # any name is text in JSON


class Enlarge:
    """One in each worker; the model is loaded once, before its first picture that is not there yet."""

    def __init__(self, folder: Path, output: Path, options: Options, model: str, device: str) -> None:
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self.load = functools.cache(lambda: (liif_fast.load(model, device), dtype))
        self.folder, self.output, self.options = folder, output, options

    def __call__(self, row: dict[str, str]) -> list[dict[str, str]]:
        found = [(self.folder / name, Path(name)) for name in json.loads(row["names"])]
        results = upscale_found(self.load, found, self.output, False, self.options)  # a failure is a result, too
        return [{"result": json.dumps(asdict(result))} for result in results]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=lambda name: Path(name).resolve())
    parser.add_argument("output", type=lambda name: Path(name).resolve())
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--model", default="edsr-baseline-liif")
    parser.add_argument("--workers", type=int, default=2, help="on all machines together (%(default)s)")
    parser.add_argument("--cpus", type=int, default=1, help="cores of a worker (%(default)s)")
    parser.add_argument("--gpus", type=float, default=0.0, help="of a worker: 1, or 0.5 for two on a GPU (%(default)s)")
    parser.add_argument("--block", type=int, default=64, help="pictures that a worker gets at once (%(default)s)")
    args = parser.parse_args()
    if args.folder in (args.output, *args.output.parents):
        parser.error(f"{args.output}: is inside the pictures' folder; choose an output outside of it")
    liif_fast.load(args.model)  # what is wrong with it is said now; fetched once, not by each worker
    rows = list(listed(args.folder))
    waiting = {str(args.folder / name) for row in rows for name in json.loads(row["names"])}
    if not rows:
        parser.error(f"{args.folder}: no pictures in this folder")
    ray.data.DataContext.get_current().max_errored_blocks = -1  # a worker that ends costs its block, not the run
    options, device = Options(scale=args.scale, skip_existing=True), "cuda" if args.gpus else "cpu"
    blocks = min(len(rows), max(len(rows) // args.block, 4 * args.workers))
    results = ray.data.from_items(rows, override_num_blocks=blocks).flat_map(
        Enlarge,
        fn_constructor_args=(args.folder, args.output, options, args.model, device),
        compute=ray.data.ActorPoolStrategy(size=args.workers),
        num_cpus=args.cpus,
        num_gpus=args.gpus or None,
        max_task_retries=1,  # by default a picture that memory is too small for is tried for ever
    )
    said = Counter[str]()
    args.output.mkdir(parents=True, exist_ok=True)
    with open(args.output / "results.jsonl", "w", encoding="utf-8", buffering=1) as table:
        for row in results.iter_rows():
            result = json.loads(row["result"])
            waiting.discard(result["input"])
            said[result["status"]] += 1
            if result["status"] != "exists":
                table.write(row["result"] + "\n")
        for name in sorted(waiting):
            table.write(json.dumps({"input": name, "status": "lost", "error": "a worker ended over its block"}) + "\n")
    print(f"{said['done']} done, {said['exists']} there already, {said['failed']} failed, {len(waiting)} lost")
    return 1 if said["failed"] or waiting else 0


if __name__ == "__main__":
    sys.exit(main())
