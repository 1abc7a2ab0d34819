"""The runs that make the open weights, in pieces of a few minutes; train.sh starts this.

    runs.py DATA STATE OUT PIECE[:MINUTES]...

DATA: the pieces of photos.py, all or (one call each) some of them, with their index. STATE: what an earlier call left
in OUT, copied back; not needed where its working folder is still there. OUT: a folder for what is to be kept, log.txt
and state.tar.1, ... of at most 15 MiB each. Without a piece, DATA and STATE are unpacked, no more. Pieces:

    throughput       steps/s against the reference implementation, shares of encoder, head and data
    sweep            batch size and learning rate of the LIIF run
    srcnn, srresnet, srgan: MINUTES for the whole run; if it needs more, goes on where it is named again (srgan starts
                     from srresnet, and cannot be moved unfinished: its discriminator is too large)
    liif             goes on for MINUTES of the --liif-minutes of the whole run, as often as it is named
    compare          the table on Set5 and Set14, here or where DATA's originals are (--benchmark)

Learning rates follow the epochs, whose length is set once, when a run begins, from the measured speed; in how many
pieces it runs changes nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import sys
import time
import traceback
from pathlib import Path

import moving
import photos
import torch
import training_speed
import yaml

from liif_fast.cli import main as cli
from liif_fast.training.journal import METRICS, read_metrics
from liif_fast.training.loop import LAST

ROOT = Path(__file__).resolve().parents[2]
RUNS = {  # configurations in configs/, without their suffix
    "liif": "open-edsr-baseline-liif",
    "srcnn": "open-srcnn-x4",
    "srresnet": "open-srresnet-x4",
    "srgan": "open-srgan-x4",
}
PIECES = ("throughput", "sweep", *RUNS, "compare")
EPOCH_SECONDS = 1.5  # validation and saving at the end of a validated epoch: an estimate, on the safe side
START_SECONDS = 15.0  # from the start of a piece to its first step, likewise
USED = 0.93  # of the time that is left, for what the measured speed does not hold


class Work:
    """The folder in which everything lies, ``load`` and ``save`` in it, and what pieces do there."""

    def __init__(self, folder: Path, device: torch.device, deadline: float, tiny: bool, batch: int | None) -> None:
        self.folder, self.device, self.deadline, self.tiny, self.batch = folder, device, deadline, tiny, batch

    def path(self, name: str) -> Path:
        return self.folder / "save" / name

    def run_folder(self, run: str) -> Path:
        return self.path(f"_{RUNS[run]}")

    def raw(self, run: str) -> training_speed.Raw:
        """The configuration of the repository, with what the sweep has chosen."""
        raw = yaml.safe_load((ROOT / "configs" / f"{RUNS[run]}.yaml").read_text(encoding="utf-8"))
        if self.tiny:
            raw = tiny(raw)
        if run == "liif" and self.path("sweep.json").is_file():
            chosen = json.loads(self.path("sweep.json").read_text(encoding="utf-8"))
            raw = training_speed.changed(raw, batch=chosen["batch"], lr=chosen["lr"])
        return training_speed.changed(raw, batch=self.batch)

    def plan(self, run: str, minutes: float, steps: int | None) -> Path:
        """The configuration that a run has from its beginning to its end, made when it begins."""
        path = self.path(f"{RUNS[run]}.yaml")
        if path.is_file():
            return path
        raw = self.raw(run)
        epochs, rate = raw["epoch_max"], None
        if steps is None:
            rate = training_speed.rate(raw, self.device, 0.2 if self.tiny else 5.0)
            left = 60 * minutes - START_SECONDS - EPOCH_SECONDS * epochs / raw["epoch_val"]
            steps = math.floor(USED * rate * max(left, 0.1 * 60 * minutes))
        batch, each = raw["train_dataset"]["batch_size"], max(1, round(steps / epochs))
        photos_here = sum(1 for p in (self.folder / "load" / "photos").rglob("*") if p.is_file())
        repeat = max(1, round(each * batch / photos_here))
        first = {"first_k": each * batch} if each * batch < photos_here else {}
        raw = training_speed.changed(raw, repeat=repeat, **first)
        trial = self.tiny or self.batch is not None or steps is not None
        about = {"device": training_speed.device_name(self.device), "torch": torch.__version__, "steps_per_s": rate}
        path.with_suffix(".json").write_text(json.dumps({**about, "trial": trial}), encoding="utf-8")
        path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        each = -(-first.get("first_k", photos_here * repeat) // batch)
        speed = "" if rate is None else f" at {rate:.1f} steps/s"
        say(f"{run}: {epochs} epochs of {each} steps with a batch of {batch}{speed}")
        return path

    def train(self, run: str, minutes: float, whole: float, steps: int | None) -> None:
        """Go on for so many minutes, or until it is finished, or the time of this call is over."""
        if self.finished(run):
            say(f"{run}: finished already")
            return
        begun = time.monotonic()
        path = self.plan(run, whole, steps)
        seconds = min(60 * minutes - (time.monotonic() - begun), self.deadline - time.monotonic())
        if seconds <= 0:
            say(f"{run}: no time is left in this call")
            return
        arguments = ["--resume", "--minutes", f"{seconds / 60:.4f}", "--device", str(self.device)]
        code = cli.main(["train", str(path), "--save", str(self.run_folder(run)), *arguments])
        if code != 0:
            raise RuntimeError(f"{run}: the trainer ended with {code}")
        say(f"{run}: {'finished' if self.finished(run) else 'to be gone on with in another piece'}")

    def finished(self, run: str) -> bool:
        """Whether its last epoch is done; then only the model is packed."""
        figures, mark = (self.run_folder(run) / name for name in (METRICS, moving.FINISHED))
        if figures.is_file() and not mark.exists():
            records, plan = (
                read_metrics(figures),
                yaml.safe_load(self.path(f"{RUNS[run]}.yaml").read_text(encoding="utf-8")),
            )
            # the last thing that an epoch does, when its weights have been saved
            if records and records[-1]["kind"] == "epoch" and records[-1]["epoch"] >= plan["epoch_max"]:
                mark.touch()
        return mark.exists()

    def throughput(self, steps: int) -> None:
        raw = self.raw("liif")
        rows = training_speed.throughput(raw, self.device, steps)
        about = {"device": training_speed.device_name(self.device), "torch": torch.__version__}
        found = {**about, "rows": rows, "parts": training_speed.parts(raw, self.device)}
        self.path("throughput.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        say(json.dumps(found))

    def sweep(self) -> None:
        if self.path("sweep.json").is_file():
            say("sweep: done already")
            return
        raw = self.raw("liif")
        batches, seconds = ([2, 4], 0.2) if self.tiny else ([16, 32, 64], 12.0)
        found = training_speed.sweep(raw, self.device, batches, [2e-4, 4e-4, 8e-4], seconds)
        self.path("sweep.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        say(json.dumps(found))

    def compare(self, benchmark: Path) -> None:
        """Every run that has weights, finished or not, and the official model if its file is beside the data."""
        models = [f"{run}={self.run_folder(run) / LAST}" for run in RUNS]
        models = [m for m in models if Path(m.partition("=")[2]).is_file()]
        official = benchmark.parent / "weights" / "edsr-baseline-liif.pth"
        if official.is_file():
            models.append(f"official={official}")
        sets = [benchmark / name for name in ("Set5", "Set14") if (benchmark / name / "HR").is_dir()]
        arguments = [x for s in sets for x in ("--data", str(s))] + [x for m in models for x in ("-m", m)]
        for scale in ("4",) if self.tiny else ("2", "3", "4"):
            arguments += ["-s", scale]
        out = ["-o", str(self.path("compare")), "--overwrite", "--dtype", "float32", "--device", str(self.device)]
        if code := cli.main(["compare", *arguments, *out]):
            raise RuntimeError(f"compare ended with {code}")


def tiny(raw: training_speed.Raw) -> training_speed.Raw:
    """The same configuration in sizes that a CPU trains in seconds, to try the pieces out."""
    raw = copy.deepcopy(raw)
    raw["train_dataset"]["wrapper"]["args"]["inp_size"] = 12
    raw["train_dataset"]["batch_size"] = 2
    raw |= {"epoch_max": 4, "epoch_val": 2, "multi_step_lr": {"milestones": [2], "gamma": 0.5}, "log_steps": 1}
    model = raw["model"]["args"]
    if raw["model"]["name"] == "liif":
        raw["train_dataset"]["wrapper"]["args"]["sample_q"] = 64
        model["encoder_spec"]["args"] |= {"n_resblocks": 1, "n_feats": 8}
        model["imnet_spec"]["args"]["hidden_list"] = [16, 16]
    elif raw["model"]["name"] == "srcnn":
        model["width"] = [8, 4]
    else:
        model |= {"n_resblocks": 1, "n_feats": 8}
    if "gan" in raw:
        raw["gan"]["discriminator"]["args"] = {"n_feats": 4, "hidden": 8}
    return raw


def say(text: str) -> None:
    print(f"open weights: {text}", flush=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "state", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("pieces", nargs="*", metavar="PIECE[:MINUTES]")
    parser.add_argument("--work", type=Path, default=ROOT / "build/open/work", help="working folder (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=float, default=540, help="seconds that this call may take (%(default)g)")
    parser.add_argument("--liif-minutes", type=float, default=13.5, help="of the whole LIIF run (%(default)s)")
    parser.add_argument("--steps", type=int, help="of a whole run, in place of what its minutes allow")
    parser.add_argument("--batch", type=int, help="in place of the configuration's, or of what the sweep has chosen")
    parser.add_argument("--bench-steps", type=int, default=200, help="of throughput (%(default)s)")
    parser.add_argument("--benchmark", type=Path, help="folder with Set5 and Set14 for compare")
    parser.add_argument("--tiny", action="store_true", help="sizes to try the pieces out with")
    args = parser.parse_intermixed_args(argv)  # options may stand between pieces
    args.pieces = [piece.partition(":") for piece in args.pieces]
    for name, _, minutes in args.pieces:
        if name not in PIECES:
            parser.error(f"{name}: no such piece; there are {', '.join(PIECES)}")
        if name in RUNS and not (minutes.replace(".", "", 1).isdecimal() and float(minutes) > 0):
            parser.error(f"{name}: minutes are wanted, {name}:2.5 say")
    return args


def main(argv: list[str] | None = None) -> int:
    begun = time.monotonic()
    args = parse(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    for name in ("out", "data", "state", "work"):
        setattr(args, name, getattr(args, name).resolve())
    args.out.mkdir(parents=True, exist_ok=True)
    if (missing := photos.unpack(args.data, args.work)) and args.pieces:
        sys.exit(f"photos: {', '.join(missing)} must be unpacked first: call with DATA holding it and without a piece")
    say(f"photos: {'still missing: ' + ', '.join(missing) if missing else 'all there'}")
    moving.restore(args.state, args.work)
    (args.work / "save").mkdir(exist_ok=True)
    deadline = begun + args.limit - min(30, 0.1 * args.limit)  # the rest is for packing and copies
    work = Work(args.work, torch.device(args.device), deadline, args.tiny, args.batch)
    code, device = 0, training_speed.device_name(work.device)
    benchmark = (args.benchmark or args.work / "load" / "benchmark").resolve()
    os.chdir(args.work)  # the configurations name ./load and ./save
    try:
        for name, _, minutes in args.pieces:
            say(f"--- {name} {minutes} ({device}, {time.monotonic() - begun:.0f} s so far)")
            try:
                if name in RUNS:
                    whole = args.liif_minutes if name == "liif" else float(minutes)
                    work.train(name, float(minutes), whole, args.steps)
                elif name == "throughput":
                    work.throughput(args.bench_steps)
                elif name == "sweep":
                    work.sweep()
                else:
                    work.compare(benchmark)
            except Exception:  # the other pieces do not depend on it, and the time is dear
                traceback.print_exc()
                code = 1
    finally:
        if args.pieces:
            moving.pack(work.folder, args.out)
    say(f"{time.monotonic() - begun:.0f} s in all")
    return code


if __name__ == "__main__":
    sys.exit(main())
