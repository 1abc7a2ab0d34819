"""The model card of open weights: data, licences and credits, command, curve, figures; nothing that no file holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from liif_fast.training import journal
from liif_fast.training.journal import METRICS, read_metrics

METHODS = ("bicubic", "official")  # rows of the comparison beside the weights' own
LICENCE = "BSD-3-Clause, as liif_fast; whoever passes them on, please keep the credits below"
WHAT = {
    "liif": "LIIF with EDSR-baseline, for any scale",
    "srcnn": "SRCNN 9-5-5, on top of bicubic interpolation, trained at scale 4",
    "srresnet": "SRResNet for scale 4, the generator of SRGAN before the adversarial training",
    "srgan": "SRGAN's generator for scale 4: sharper than SRResNet, with a lower PSNR",
    "small-liif": "A small LIIF (8 EDSR blocks of 48 channels, an MLP of 3 layers of 128), for any scale",
    "small-srcnn-x4": "SRCNN 9-5-5, on top of bicubic interpolation, for scale 4",
    "small-srgan-x4": "SRGAN's generator (8 blocks of 40 channels) for scale 4: sharper than what a pixel loss gives, "
    "with a lower PSNR, and with detail that is invented",
}
_POINTS = 12  # rows of the curve

_TEMPLATE = """\
# {name}

{what}. Trained from scratch by liif_fast, on photos whose licences allow it. `liif_fast.load("{name}")` or
`liif-fast upscale --model {name}`.
{trial}
| | |
|---|---|
| licence of the weights | {licence} |
| file | {name}.safetensors, float16, {size} bytes, sha256 {sha256} |
| parameters | {parameters} |
| trained on | {device}, torch {torch} |
| length | {length} |

## Photos

{photos}

They were trained from {copy}.{psnr}

## Made by

{command}

The configuration of the run:

```yaml
{configuration}```

## Curve

PSNR on luma of Set5 at x4 (border 4) while it was trained, of the moving average; the weights are those of the last
step, so nothing was chosen by it.

{curve}

## Figures

{figures}

## Limits

Trained for photos that were reduced by Pillow's bicubic filter: noise and the traces of JPEG are not removed but
enlarged.
"""
SMALL_COMMAND = """\
```sh
{commands}
python tools/open_weights/small.py .
```

in the repository's folder, with the photos above in `load/photos` and Set5 in `load/benchmark`. On such a processor the
run is repeated bit for bit, elsewhere to rounding."""
COMMAND = """\
```sh
python tools/open_weights/photos.py pack DATA build/open/data
for n in 1 2 3 4; do tools/open_weights/piece-$n.sh build/open/data build/open/out-$((n - 1)) build/open/out-$n; done
python tools/open_weights/ship.py build/open/work
```"""


def card(work: Path, run: str, config: str, facts: Mapping[str, Any]) -> str:
    """The card of a run.

    Args:
        work: the working folder of runs.py, with load/index.json and save/.
        config: stem of the configuration.
        facts: ``name``, ``size`` and ``sha256`` of the file, ``parameters``.
    """
    save, index = work / "save", json.loads((work / "load" / "index.json").read_text(encoding="utf-8"))
    plan, about = (
        (save / f"{config}.yaml").read_text(encoding="utf-8"),
        json.loads((save / f"{config}.json").read_text(encoding="utf-8")),
    )
    records = read_metrics(save / f"_{config}" / METRICS)
    psnr = index["psnr"]
    return written(
        facts,
        run,
        plan,
        records,
        length=length(records, yaml.safe_load(plan)["train_dataset"]["batch_size"]),
        device=about["device"],
        torch=about["torch"],
        trial=about["trial"],
        photos=photos(index),
        copy=index["copy"],
        psnr="" if psnr is None else " PSNR against the originals: {mean:.1f} dB, {least:.1f} at least.".format(**psnr),
        command=COMMAND,
        figures=figures(save / "compare" / "compare.json", run),
    )


def written(
    facts: Mapping[str, Any], run: str, plan: str, records: Sequence[Mapping[str, Any]], trial: bool, **texts: str
) -> str:
    """A card of what `card` knows, or another program.

    Args:
        plan: the configuration's text.
        records: of the run's metrics.jsonl.
        texts: ``length``, ``device``, ``torch``, ``photos``, ``copy``, ``psnr``, ``command``, ``figures`` of it.
    """
    return _TEMPLATE.format(
        **facts,
        **texts,
        what=WHAT[run],
        trial="\n**A trial of the program that makes these weights: not trained.**\n" if trial else "",
        licence=LICENCE,
        configuration=plan,
        curve=curve([r for r in records if r["kind"] == "epoch" and "psnr" in r]),
    )


def length(records: Sequence[Mapping[str, Any]], batch: int) -> str:
    """Of a run with these records."""
    speed = journal.steps_per_second(records)
    return f"{records[-1]['step']} steps with batches of {batch}" + ("" if speed is None else f", {speed:.1f} steps/s")


def photos(index: Mapping[str, Any]) -> str:
    """The table of the sources."""
    count = {source: sum(image["source"] == source for image in index["images"]) for source in index["sources"]}
    rows = [(s["what"], count[name], s["from"], s["licence"], s["credit"]) for name, s in index["sources"].items()]
    return table(("photos", "number", "from", "licence", "credit"), rows)


def curve(epochs: Sequence[Mapping[str, Any]]) -> str:
    """Some of the validated epochs, evenly spread, the first and the last among them."""
    if not epochs:
        return "No epoch was validated."
    last = len(epochs) - 1
    chosen = sorted({round(i * last / (_POINTS - 1)) for i in range(_POINTS)})
    rows = [(e["epoch"], e["step"], f"{e['loss']:.4f}", f"{e['psnr']:.3f}") for e in (epochs[i] for i in chosen)]
    return table(("epoch", "step", "loss", "PSNR (dB)"), rows)


def figures(file: Path, method: str) -> str:
    """A method's rows of the comparison, and bicubic interpolation's and the official model's of the same scales."""
    if not file.is_file():
        return "Not compared yet."
    rows, notes = [], []
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    with_niqe = any(r.get("niqe") is not None for r in results)
    scales = {r["scale"] for r in results if r["method"] == method and r["psnr"] is not None}
    for r in results:
        if r["method"] in (method, *METHODS) and r["scale"] in scales:
            found = [(r["psnr"], ".3f"), (r["ssim"], ".4f"), *([(r["niqe"], ".2f")] if with_niqe else [])]
            texts = ["" if value is None else format(value, form) for value, form in found]
            rows.append((r["data"], f"x{r['scale']:g}", r["method"], *texts))
            notes.append(f"x{r['scale']:g}: {r['protocol_text']}; low resolution: {r['lr_text']}.")
    head = ("data", "scale", "method", "PSNR (dB)", "SSIM", *(["NIQE"] if with_niqe else []))
    return "\n".join([table(head, rows), "", *(f"- {n}" for n in dict.fromkeys(notes))])


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
