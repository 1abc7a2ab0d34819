"""Trained open weights into the package: NAME.safetensors in float16 and NAME.md, their card, for each finished run.

    python tools/open_weights/ship.py build/open/work

WORK is the working folder of runs.py, in which all its runs lie. Only weights that the pieces have trained to the end
are taken; --trial takes those of a trial (--tiny, --steps, --batch) too, into a folder other than the package's.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import cards
import numpy as np
import torch
from moving import FINISHED
from PIL import Image
from runs import RUNS
from torch import nn

from liif_fast.quality.evaluate import to_tensor
from liif_fast.training.loop import LAST
from liif_fast.weights import checkpoints, pretrained

MOST = 3_500_000  # bytes of a file
# dB between what the weights give in float16 and as trained: at 60 an image of 35 dB loses less than 0.02 dB
CLOSE = 60.0
NEAR = 0.3  # dB below the official weights within which ours may be the default


class NotReadyError(Exception):
    """Why a run is not shipped."""


def name_of(run: str) -> str:
    """What ``liif_fast.load`` calls the weights of a run."""
    return f"{RUNS[run].removeprefix('open-')}-open"


def ship(work: Path, run: str, out: Path, trial: bool = False) -> Path:
    """Write a run's weights and card; returns the file of the weights.

    Raises:
        NotReadyError: not trained to its end, made as a trial, too large, or not good enough in float16.
    """
    config, name = RUNS[run], name_of(run)
    save = work / "save"
    last = save / f"_{config}" / LAST
    if not last.is_file() or not last.with_name(FINISHED).exists():
        raise NotReadyError("not trained to its end")
    if json.loads((save / f"{config}.json").read_text(encoding="utf-8"))["trial"] and not trial:
        raise NotReadyError("made as a trial (--tiny, --steps or --batch)")
    file, facts = packed(last, name, work / "load" / "benchmark", out)
    (out / f"{name}.md").write_text(cards.card(work, run, config, facts), encoding="utf-8")
    return file


def packed(checkpoint: Path, name: str, benchmark: Path, out: Path) -> tuple[Path, dict[str, Any]]:
    """The weights of a finished run as NAME.safetensors, and what their card says of it. NotReadyError: as `ship`."""
    model = checkpoints.load(checkpoint)
    half = copy.deepcopy(model).half()
    if (error := distance(model, copy.deepcopy(half).float(), benchmark)) < CLOSE:
        raise NotReadyError(f"in float16 its pictures differ by {error:.1f} dB from those as trained")
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{name}.safetensors"
    checkpoints.save(half, file, credit=f"trained by liif_fast; photos: see {name}.md")
    data = file.read_bytes()
    if len(data) > MOST:
        file.unlink()
        raise NotReadyError(f"{len(data)} bytes, more than {MOST}")
    facts = {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return file, facts | {"parameters": sum(p.numel() for p in model.parameters())}


def distance(a: nn.Module, b: nn.Module, benchmark: Path) -> float:
    """PSNR in dB between the pictures that two models make of Set5 at x4, the worst of them."""
    found = [math.inf]
    for file in sorted((benchmark / "Set5" / "LR_bicubic" / "X4").glob("*.png")):
        with Image.open(file) as image:
            low = to_tensor(np.asarray(image.convert("RGB")))
        mse = (a.upscale(low, scale=4) - b.upscale(low, scale=4)).square().mean().item()
        found.append(-10 * math.log10(mse) if mse else math.inf)
    return min(found)


def verdict(compared: Path) -> str:
    """Whether LIIF's weights may be the default of ``upscale``."""
    results = json.loads(compared.read_text(encoding="utf-8"))["results"] if compared.is_file() else []
    psnr = {(r["data"], r["method"]): r["psnr"] for r in results if r["scale"] == 4}
    try:
        behind = {d: psnr[d, "official"] - psnr[d, "liif"] for d in ("Set5", "Set14")}
    except KeyError:
        return (
            "default of upscale: not to be said before the piece compare has had Set5, Set14 and the official weights"
        )
    text = ", ".join(f"{d}: {x:.2f} dB behind the official weights" for d, x in behind.items())
    return f"default of upscale: {'yes' if max(behind.values()) <= NEAR else 'no'} ({text}; {NEAR} are allowed)"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, default=pretrained.SHIPPED, help="%(default)s")
    parser.add_argument("--trial", action="store_true", help="take weights that are not trained; the card says so")
    args = parser.parse_args(argv)
    if args.trial and args.out.resolve() == pretrained.SHIPPED.resolve():
        parser.error("--trial: no trial goes into the package; give another folder with --out")
    shipped = 0
    for run in RUNS:
        try:
            file = ship(args.work, run, args.out, args.trial)
        except NotReadyError as why:
            print(f"{name_of(run)}: not shipped: {why}")
            continue
        shipped += 1
        print(f"{file}: {file.stat().st_size} bytes, with its card")
    print(verdict(args.work / "save" / "compare" / "compare.json"))
    return 0 if shipped else 1


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
