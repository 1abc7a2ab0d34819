"""A short run of each kind on this machine, whole and in pieces that are moved: both must give the same, to the bit.

    python tools/open_weights/dry_run.py DATA SCRATCH --run liif --steps 200 --batch 2 --seconds 45

DATA: as of photos.py. Each piece of at most so many seconds has a working folder of its own; what it packs is all that
the next one gets, and its folder is deleted. Written: SCRATCH/dry_run.json; the exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import photos
import torch
from moving import FINISHED
from runs import RUNS

from liif_fast.training.journal import METRICS, read_metrics
from liif_fast.training.loop import LAST
from liif_fast.training.state import read

HERE = Path(__file__).resolve().parent


class Pieces:
    """Calls of runs.py, one for a piece."""

    def __init__(self, scratch: Path, run: str, options: list[str]) -> None:
        self.scratch, self.run, self.options = scratch, run, options

    def folder(self, work: Path) -> Path:
        return work / "save" / f"_{RUNS[self.run]}"

    def call(self, work: Path, state: Path, out: Path, seconds: float) -> None:
        arguments = [self.scratch / "data", state, out, f"{self.run}:{seconds / 60:.4f}"]
        execute([*map(str, arguments), "--work", str(work), "--limit", "1e6", *self.options])

    def whole(self) -> Path:
        work = self.scratch / f"{self.run}-whole"
        self.call(work, self.scratch / "none", self.scratch / f"{self.run}-out", 10**5)
        return work

    def moved(self, seconds: float) -> tuple[Path, list[int]]:
        """The last working folder, and the steps that were done at the end of each piece."""
        state, ends = self.scratch / "none", []
        for number in itertools.count(1):
            work, out = (self.scratch / f"{self.run}-{what}-{number}" for what in ("piece", "state"))
            self.call(work, state, out, seconds)
            ends.append(read(self.folder(work) / LAST)["training"]["progress"]["step"])
            if (self.folder(work) / FINISHED).exists():
                return work, ends
            if ends[-1] == max([0, *ends[:-1]]):  # a validation that was stopped begins again
                raise SystemExit(f"{self.run}: a piece came no further: more --seconds are wanted")
            shutil.rmtree(work)
            state = out


def execute(arguments: list[str]) -> None:
    """A process of runs.py."""
    subprocess.run([sys.executable, str(HERE / "runs.py"), *arguments], check=True)


def dry_run(scratch: Path, run: str, seconds: float, options: list[str]) -> dict[str, Any]:
    """Figures of both runs, and whether they are the same."""
    pieces = Pieces(scratch, run, options)
    begun = time.monotonic()
    whole = pieces.whole()
    took = time.monotonic() - begun
    moved, ends = pieces.moved(seconds)
    folders = [pieces.folder(work) for work in (whole, moved)]
    figures = [
        [{k: r[k] for k in r if k not in ("seconds", "waiting")} for r in read_metrics(f / METRICS)] for f in folders
    ]
    checkpoints = [read(f / LAST) for f in folders]
    epochs = [r for r in figures[0] if r["kind"] == "epoch"]
    return {
        "run": run,
        "steps": figures[0][-1]["step"],
        "seconds_of_whole": round(took, 1),
        "steps_at_end_of_piece": ends,
        "loss_of_first_and_last_epoch": [epochs[0]["loss"], epochs[-1]["loss"]],
        "same_figures": figures[0] == figures[1],
        "same_weights": same(checkpoints[0]["model"]["sd"], checkpoints[1]["model"]["sd"]),
        "same_optimizer": same(checkpoints[0]["optimizer"]["sd"], checkpoints[1]["optimizer"]["sd"]),
    }


def same(a: Any, b: Any) -> bool:
    """Whether two nested values are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("scratch", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--run", action="append", choices=[r for r in RUNS if r != "srgan"], help="several times, too")
    parser.add_argument("--steps", type=int, default=200, help="of a whole run (%(default)s)")
    parser.add_argument("--batch", type=int, default=2, help="%(default)s")
    parser.add_argument("--seconds", type=float, default=45, help="of a piece, its start included (%(default)g)")
    parser.add_argument("--device", default="cpu", help="%(default)s")
    parser.add_argument("--tiny", action="store_true", help="small networks")
    args = parser.parse_args()
    args.scratch.mkdir(parents=True)
    scratch = args.scratch.resolve()
    photos.pack(args.data, scratch / "data", 60, None)
    options = ["--steps", str(args.steps), "--batch", str(args.batch), "--device", args.device]
    options += ["--tiny"] if args.tiny else []
    rows = [dry_run(scratch, run, args.seconds, options) for run in args.run or ["liif"]]
    (scratch / "dry_run.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for row in rows:
        print(json.dumps(row))
    return 0 if all(row[key] for row in rows for key in row if key.startswith("same_")) else 1


if __name__ == "__main__":
    sys.exit(main())
