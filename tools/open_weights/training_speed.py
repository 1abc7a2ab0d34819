"""How fast training is on this device: against the reference implementation, by parts, and for which batch and rate.

    cd WORK && python .../tools/open_weights/training_speed.py .../configs/open-edsr-baseline-liif.yaml --steps 200

WORK is a folder in which photos.py has unpacked the photos. Every figure is of a configuration as ``liif-fast train``
takes it, with the data included; no time is taken before the first losses agree. Lines of JSON: the reference, ours in
float32, ours as configured, and the parts of a step.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from liif_fast import reference
from liif_fast.data.loader import Feed
from liif_fast.training import setup
from liif_fast.training.config import check
from liif_fast.training.optimizer import Average
from liif_fast.training.step import Step

Raw = dict[str, Any]
WARM = 10  # steps before the clock starts
# relative, of the first loss, a mean of many values: cuDNN may multiply with 10 bits (tf32), bfloat16 keeps 8
TOLERANCE = {None: 1e-3, "bf16": 1e-2}


class Run:
    """Steps as the trainer does them, without its files."""

    def __init__(self, raw: Raw, device: torch.device) -> None:
        config = check({key: value for key, value in raw.items() if key not in ("val_dataset", "epoch_val")})
        self.parts = setup.setup(config, device, config.seed or 0)
        self.module, self.device = self.parts.module, device
        p = self.parts
        self.step = Step(config, p.module, p.module, p.optimizer, device, p.seed, p.critic)
        self.average = None if config.ema is None else Average(p.module, config.ema)
        self.done = 0
        self.batches = Endless(p, device)

    def go(self, steps: int) -> list[float]:
        """The losses of the next so many steps."""
        losses = []
        for _ in range(steps):
            begun = self.step.begin(self.batches.take(), self.done)
            self.batches.fetch()
            outcome = self.step.end(begun)
            self.done += 1
            if outcome.updated and self.average is not None:
                self.average.update(self.module, self.done)
            losses.append(outcome.loss)
        return losses


class Endless:
    """`Feed` after `Feed`, one for each epoch."""

    def __init__(self, parts: setup.Setup, device: torch.device) -> None:
        self.parts, self.device, self.epoch = parts, device, 0
        self._begin()

    def take(self) -> dict[str, Tensor]:
        if (batch := self.feed.take()) is None:
            self._begin()
            batch = self.feed.take()
        return batch

    def fetch(self) -> None:
        self.feed.fetch()

    def _begin(self) -> None:
        self.epoch += 1
        self.parts.train_batches.epoch = self.epoch
        self.feed = Feed(self.parts.train_loader, self.device)


class Reference:
    """Steps as the official program does them: float32, unfolded features, four grid_samples, samples from workers."""

    def __init__(self, raw: Raw, module: torch.nn.Module, device: torch.device) -> None:
        self.batches = Run(plain(changed(raw, cache="in_memory")), device).batches
        self.model = copy.deepcopy(module)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=raw["optimizer"]["args"]["lr"])

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        feat = self.model.encoder((batch["inp"] - 0.5) / 0.5)
        pred = reference.liif(feat, batch["coord"], batch["cell"], self.model.imnet)
        return F.l1_loss(pred, (batch["gt"] - 0.5) / 0.5)

    def go(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            loss = self.loss(self.batches.take())
            losses.append(loss.item())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.batches.fetch()
        return losses


def changed(raw: Raw, *, batch: int | None = None, lr: float | None = None, **dataset: Any) -> Raw:
    """A copy of a configuration with another batch size, learning rate, or arguments of its training images."""
    raw = copy.deepcopy(raw)
    raw["train_dataset"]["batch_size"] = batch or raw["train_dataset"]["batch_size"]
    raw["optimizer"]["args"]["lr"] = lr or raw["optimizer"]["args"]["lr"]
    raw["train_dataset"]["dataset"]["args"].update(dataset)
    return raw


def plain(raw: Raw) -> Raw:
    """Without what liif_fast adds to the official configurations."""
    return {k: v for k, v in raw.items() if k not in ("amp", "ema", "grad_clip", "channels_last", "compile")}


def throughput(raw: Raw, device: torch.device, steps: int, rounds: int = 4) -> list[Raw]:
    """Rows: steps/s of the reference, of ours in float32, of ours as the configuration says; ``steps`` steps of each,
    in turns, on the same photos, data included.

    Raises:
        RuntimeError: the first losses, from the same weights and samples, are not the same.
    """
    ours = {"as configured": Run(raw, device), "float32": Run(plain(raw), device)}
    first = Reference(raw, ours["float32"].module, device)
    rows = [{"contender": "reference"}]
    for name, run in ours.items():
        with torch.no_grad():
            want = first.loss(run.batches.take()).item()
        got = run.go(1)[0]
        error = abs(got / want - 1)
        amp = run.step.config.amp and "bf16"
        if not error <= TOLERANCE[amp]:
            raise RuntimeError(f"{name}: the first loss is {got:g}, the reference's {want:g}: nothing is timed")
        rows.append({"contender": f"liif_fast, {name}", "first_loss_error": error})
    runs = [first, *ours.values()]
    times = [0.0 for _ in runs]
    for run in runs:
        run.go(WARM)
    each = -(-steps // rounds)
    for _ in range(rounds):
        for i, run in enumerate(runs):
            times[i] += timed(lambda run=run: run.go(each), device)
    batch = raw["train_dataset"]["batch_size"]
    for row, seconds in zip(rows, times, strict=True):
        rate = rounds * each / seconds
        row |= {"steps": rounds * each, "batch": batch, "steps_per_s": rate, "images_per_s": rate * batch}
        row["ratio"] = rate / rows[0]["steps_per_s"]
    return rows


def parts(raw: Raw, device: torch.device, rounds: int = 20) -> Raw:
    """Seconds of a step's parts, each by itself (medians), and of the whole; ``rest``: optimizer, average, checks."""
    run = Run(raw, device)
    run.go(WARM)
    batch, module, step = run.batches.take(), run.module, run.step
    batches = iter(run.parts.train_loader)
    inp = (batch["inp"] - step.inp_sub) / step.inp_div
    if step.config.channels_last:
        inp = inp.contiguous(memory_format=torch.channels_last)
    gt = (batch["gt"] - step.gt_sub) / step.gt_div
    with step._autocast():
        feat = module.encoder(inp).detach()

    def encoder() -> None:
        with step._autocast():
            out = module.encoder(inp)
        out.backward(torch.ones_like(out))

    def head() -> None:
        leaf = feat.clone().requires_grad_()
        with step._autocast():
            pred = module.query(leaf, batch["coord"], batch["cell"])
        step.loss(pred.to(gt.dtype), gt).backward()

    jobs: dict[str, Callable[[], Any]] = {
        "data": lambda: next(batches),
        "encoder": encoder,
        "head": head,
        "step": lambda: run.go(1),
    }
    rounds = min(rounds, len(run.parts.train_batches))
    found = {name: statistics.median(timed(job, device) for _ in range(rounds)) for name, job in jobs.items()}
    return {**found, "rest": max(0.0, found["step"] - found["data"] - found["encoder"] - found["head"])}


def rate(raw: Raw, device: torch.device, seconds: float) -> float:
    """Steps a second, data included, from a measurement of about so many seconds."""
    run = Run(raw, device)
    run.go(WARM)
    once = timed(lambda: run.go(WARM), device) / WARM
    steps = max(WARM, round(seconds / once))
    return steps / timed(lambda: run.go(steps), device)


def sweep(raw: Raw, device: torch.device, batches: list[int], rates: list[float], seconds: float) -> Raw:
    """Batch size and learning rate for a run of limited time.

    The smallest batch that gives at least 80 % of the most images a second; then the rate with the lowest mean loss
    over the last third of the same ``seconds`` of steps on the same samples. (By the loss of training: choosing by Set5
    would be choosing by the test.)
    """
    found = [(batch, rate(changed(raw, batch=batch), device, seconds / 2)) for batch in batches]
    most = max(batch * r for batch, r in found)
    batch, steps_per_s = next((b, r) for b, r in found if b * r >= 0.8 * most)
    steps = max(3, round(steps_per_s * seconds))
    tried = []
    for lr in rates:
        losses = Run(changed(raw, batch=batch, lr=lr), device).go(steps)[-(steps // 3) :]
        tried.append((lr, statistics.fmean(losses)))
    finite = [t for t in tried if math.isfinite(t[1])]
    return {
        "batches": [{"batch": b, "steps_per_s": r, "images_per_s": b * r} for b, r in found],
        "rates": [{"lr": lr, "steps": steps, "loss": loss if math.isfinite(loss) else None} for lr, loss in tried],
        "batch": batch,
        "lr": min(finite, key=lambda t: t[1])[0] if finite else min(rates),
    }


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def timed(job: Callable[[], Any], device: torch.device) -> float:
    """Seconds until the device has done it."""
    _wait(device)
    start = time.perf_counter()
    job()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="of a LIIF, with the loss l1")
    parser.add_argument("--steps", type=int, default=200, help="of each contender (%(default)s)")
    parser.add_argument("--batch", type=int, help="in place of the configuration's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="%(default)s")
    args = parser.parse_args()
    raw, device = (
        changed(yaml.safe_load(args.config.read_text(encoding="utf-8")), batch=args.batch),
        torch.device(args.device),
    )
    about = {"device": device_name(device), "torch": torch.__version__}
    for row in throughput(raw, device, args.steps):
        print(json.dumps({**row, **about}), flush=True)
    print(json.dumps({"seconds": parts(raw, device), **about}), flush=True)


if __name__ == "__main__":
    main()
