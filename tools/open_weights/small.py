"""The small weights that two cores train in hours, into the package: NAME.safetensors in float16, NAME.md, their card.

    liif-fast train configs/small-liif.yaml        # likewise small-srcnn-x4, small-srresnet-x4, small-srgan-x4
    liif-fast compare ... --niqe -o save/compare   # the table of docs/evaluation.md, whose rows go into the cards
    python tools/open_weights/small.py WORK

WORK is the folder in which that was done, with load/photos, load/benchmark and save/. To be run on the machine that
trained them: the card names its processor and its torch. Runs that have not come to the end of their configuration are
left out, and said.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import cards
import torch
import yaml
from photos import SOURCES
from ship import NotReadyError, packed

from liif_fast.training.journal import METRICS, read_metrics
from liif_fast.training.loop import LAST
from liif_fast.weights import pretrained

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MOST = 2_000_000  # bytes of all of them together
# by name: the method of compare.json, and the runs that make it, the last of which has the weights
RUNS = {
    "small-liif": ("small LIIF", ("small-liif",)),
    "small-srcnn-x4": ("SRCNN", ("small-srcnn-x4",)),
    "small-srgan-x4": ("SRGAN", ("small-srresnet-x4", "small-srgan-x4")),
}


def finished(work: Path, run: str) -> tuple[str, list]:
    """Configuration and records of a run; NotReadyError: it has not come to its end, or is of another configuration."""
    folder = work / "save" / f"_{run}"
    if not (folder / LAST).is_file():
        raise NotReadyError(f"{run} is not trained")
    plans = [file.read_text(encoding="utf-8") for file in (CONFIGS / f"{run}.yaml", folder / "config.yaml")]
    config, used = map(yaml.safe_load, plans)
    if config != used:
        raise NotReadyError(f"{run} is trained by another configuration than {run}.yaml")
    done = torch.load(folder / LAST, map_location="cpu", weights_only=True)["epoch"]
    if done != config["epoch_max"]:
        raise NotReadyError(f"{run} has {done} epochs of {config['epoch_max']}")
    return plans[0], read_metrics(folder / METRICS)


def ship(work: Path, name: str, out: Path, device: str) -> Path:
    """Write weights and card; returns the file of the weights. NotReadyError: as `finished`, of any run behind it."""
    method, runs = RUNS[name]
    found = {run: finished(work, run) for run in runs}
    plan, records = found[name]
    file, facts = packed(work / "save" / f"_{name}" / LAST, name, work / "load" / "benchmark", out)
    lengths = [
        f"{run}: {cards.length(of_run, yaml.safe_load(text)['train_dataset']['batch_size'])}"
        for run, (text, of_run) in found.items()
    ]
    card = cards.written(
        facts,
        name,
        plan,
        records,
        trial=False,
        length="; ".join(lengths),
        device=device,
        torch=torch.__version__.partition("+")[0],
        photos=cards.photos({"sources": SOURCES, "images": photos(work / "load" / "photos")}),
        copy="the files as they are",
        psnr="",
        command=cards.SMALL_COMMAND.format(
            commands="\n".join(f"OMP_NUM_THREADS=1 liif-fast train configs/{run}.yaml" for run in runs)
        ),
        figures=cards.figures(work / "save" / "compare" / "compare.json", method),
    )
    (out / f"{name}.md").write_text(card, encoding="utf-8")
    return file


def photos(folder: Path) -> list[dict[str, str]]:
    """The source of each photo."""
    return [{"source": source} for source in SOURCES for file in (folder / source).glob("*") if file.is_file()]


def processor() -> str:
    """One core of what this machine has."""
    sys.path.append(str(CONFIGS.parent / "benchmarks"))
    from processor import about  # type: ignore[import-not-found]

    return f"one core of {about()['cpu']}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, default=pretrained.SHIPPED, help="%(default)s")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        for name in RUNS:
            try:
                print(f"{name}: {ship(args.work, name, made, processor()).stat().st_size} bytes, with its card")
            except NotReadyError as why:
                print(f"{name}: not shipped: {why}")
        new = {file.name for file in made.glob("*.safetensors")}
        kept = [f for f in (args.out / f"{name}.safetensors" for name in RUNS) if f.name not in new and f.is_file()]
        total = sum(file.stat().st_size for file in (*made.glob("*.safetensors"), *kept))
        if total > MOST:
            print(f"nothing is shipped: {total} bytes together are more than {MOST}")
            return 1
        for file in made.iterdir():
            args.out.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, args.out / file.name)
    return 0 if new else 1


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
