"""The small weights that two cores train in hours, into the package: NAME.safetensors in float16, NAME.md, their card.

    liif-fast train configs/small-liif.yaml        # likewise small-srcnn-x4, small-srresnet-x4, small-srgan-x4
    liif-fast compare ... --niqe -o save/compare   # the table of the README, whose rows go into the cards
    python tools/open_weights/small.py WORK

WORK is the folder in which that was done, with load/photos, load/benchmark and save/. Runs that have not come to the
end of their configuration are left out, and said.
"""

from __future__ import annotations

import argparse
import sys
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


def ship(work: Path, name: str, out: Path, device: str) -> Path:
    """Write weights and card; returns the file of the weights. NotReadyError: the run has not come to its end."""
    method, runs = RUNS[name]
    folder = work / "save" / f"_{name}"
    if not (folder / LAST).is_file():
        raise NotReadyError("not trained")
    plans = [file.read_text(encoding="utf-8") for file in (CONFIGS / f"{name}.yaml", folder / "config.yaml")]
    config, used = map(yaml.safe_load, plans)
    if config != used:
        raise NotReadyError(f"trained by another configuration than {name}.yaml")
    done = torch.load(folder / LAST, map_location="cpu", weights_only=True)["epoch"]
    if done != config["epoch_max"]:
        raise NotReadyError(f"{done} epochs of {config['epoch_max']}")
    file, facts = packed(folder / LAST, name, work / "load" / "benchmark", out)
    commands = "\n".join(f"OMP_NUM_THREADS=1 liif-fast train configs/{run}.yaml" for run in runs)
    card = cards.written(
        facts,
        name,
        plans[0],
        read_metrics(folder / METRICS),
        trial=False,
        device=device,
        torch=torch.__version__.partition("+")[0],
        photos=cards.photos({"sources": SOURCES, "images": photos(work / "load" / "photos")}),
        copy="the files as they are",
        psnr="",
        command=cards.SMALL_COMMAND.format(commands=commands),
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
    total = 0
    for name in RUNS:
        try:
            file = ship(args.work, name, args.out, processor())
        except NotReadyError as why:
            print(f"{name}: not shipped: {why}")
            continue
        total += file.stat().st_size
        print(f"{file}: {file.stat().st_size} bytes, with its card")
    if total > MOST:
        print(f"{total} bytes together, more than {MOST}: too many for the package")
    return 0 if 0 < total <= MOST else 1


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
