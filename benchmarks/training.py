"""Training as a whole on the CPU: the loader beside the step that it feeds, and whether both compute the same losses.

    python benchmarks/training.py loader           # samples a second, and how much of them a step consumes
    python benchmarks/training.py losses --steps 50  # largest difference between the losses of both over a run

The official step is the official program's computation: unfolded features, four grid_samples, the whole MLP for each
corner, Adam; the encoder is the same module. Ours goes through the trainer's own ``Step``. Data: --data, a folder of
images of at least 192 pixels a side, or else images that are made for the purpose.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from rows import about
from torch import Tensor

from liif_fast import reference
from liif_fast.data.loader import Batches, make_loader, workers
from liif_fast.data.samples import expand
from liif_fast.training import setup
from liif_fast.training.config import Config, check
from liif_fast.training.step import Step

CPU = torch.device("cpu")


def configuration(folder: str, batch: int, amp: str | None = None) -> Config:
    """The official EDSR-baseline configuration on this folder."""
    return check(
        {
            "train_dataset": {
                "dataset": {"name": "image-folder", "args": {"root_path": folder, "repeat": 20, "cache": "in_memory"}},
                "wrapper": {
                    "name": "sr-implicit-downsampled",
                    "args": {"inp_size": 48, "scale_max": 4, "augment": True, "sample_q": 2304},
                },
                "batch_size": batch,
            },
            "data_norm": {part: {"sub": [0.5], "div": [0.5]} for part in ("inp", "gt")},
            "model": {
                "name": "liif",
                "args": {
                    "encoder_spec": {"name": "edsr-baseline", "args": {"no_upsampling": True}},
                    "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256, 256, 256, 256]}},
                },
            },
            "optimizer": {"name": "adam", "args": {"lr": 1e-4}},
            "epoch_max": 1,
            "amp": amp,
        }
    )


class Official:
    """A step as ``train_liif.py`` does it."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = copy.deepcopy(model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)

    def __call__(self, batch: dict[str, Tensor], number: int) -> float:
        feat = self.model.encoder((batch["inp"] - 0.5) / 0.5)
        pred = reference.liif(feat, batch["coord"], batch["cell"], self.model.imnet)
        loss = F.l1_loss(pred, (batch["gt"] - 0.5) / 0.5)
        value = loss.item()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return value


class Ours:
    """A step of the trainer."""

    def __init__(self, config: Config, model: torch.nn.Module) -> None:
        model = copy.deepcopy(model)
        optimizer, _ = setup.build_optimizer(config, model)
        self.step = Step(config, model, model, optimizer, CPU, 0)

    def __call__(self, batch: dict[str, Tensor], number: int) -> float:
        return self.step.end(self.step.begin(batch, number)).loss


def batches(folder: str, batch: int) -> Iterator[dict[str, Tensor]]:
    """Without end."""
    config = configuration(folder, batch)
    samples = setup.build_samples("train_dataset", config.train_dataset)
    samples.prepare()
    order = Batches(len(samples), batch, shuffle=True, seed=0)
    while True:
        yield from map(expand, make_loader(samples, order, seed=0, num_workers=0))
        order.epoch += 1


def contenders(folder: str, batch: int) -> dict[str, tuple[Callable, str | None]]:
    model = setup.build_model(configuration(folder, batch), 0)
    return {
        "official": (Official(model), None),
        "liif_fast float32": (Ours(configuration(folder, batch), model), None),
        "liif_fast bfloat16": (Ours(configuration(folder, batch, "bf16"), model), "bf16"),
    }


def loader(args: argparse.Namespace) -> list[dict]:
    """Batches a second with the default number of workers and alone, beside what the fastest step consumes."""
    config = configuration(args.data, args.batch)
    samples = setup.build_samples("train_dataset", config.train_dataset)
    samples.prepare()
    data = next(batches(args.data, args.batch))
    run = contenders(args.data, args.batch)["liif_fast bfloat16"][0]
    run(data, 0)
    start = time.perf_counter()
    for i in range(5):
        run(data, i + 1)
    consumed = 5 * args.batch / (time.perf_counter() - start)
    rows = []
    for n in sorted({0, workers(None)}):
        order = Batches(len(samples), args.batch, shuffle=True, seed=0)
        feed = iter(make_loader(samples, order, seed=0, num_workers=n))
        for _ in range(10):  # workers have started
            next(feed)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < args.seconds:
            batch = next(feed, None)
            if batch is None:
                order.epoch += 1
                feed = iter(make_loader(samples, order, seed=0, num_workers=n))
                continue
            expand(batch)
            count += args.batch
        rate = count / (time.perf_counter() - start)
        rows.append(
            {"contender": f"{n} workers", "samples_per_s": rate, "consumed_per_s": consumed, "ratio": rate / consumed}
        )
    return rows


def losses(args: argparse.Namespace) -> list[dict]:
    """The same run by both: largest relative difference of a step's loss.

    In float32 also of the official program from itself when each batch comes in reverse order: Adam's first steps move
    every weight by the learning rate in the direction of a gradient's sign, so what rounding decides grows from step to
    step, and that is the measure of it. In float64 (--double) rounding stays below what the bar could see.
    """
    found = contenders(args.data, args.batch)
    official = found["official"][0]
    others = {"liif_fast": found["liif_fast float32"][0]} | (
        {} if args.double else {"reversed": Official(official.model)}
    )
    dtype = torch.float64 if args.double else torch.float32
    for model in (official.model, others["liif_fast"].step.module):
        model.to(dtype)
    largest, want = dict.fromkeys(others, 0.0), 0.0
    for i, batch in zip(range(args.steps), batches(args.data, args.batch), strict=False):
        batch = {name: t.to(dtype) for name, t in batch.items()}
        want = official(batch, i)
        for name, run in others.items():
            turned = {k: t.flip(0) for k, t in batch.items()} if name == "reversed" else batch
            largest[name] = max(largest[name], abs(run(turned, i) / want - 1))
    about_run = {"dtype": str(dtype)[6:], "steps": args.steps, "last_loss": want}
    names = {"liif_fast": "liif_fast", "reversed": "official, samples of a batch reversed"}
    return [{"contender": names[name], **about_run, "largest_relative": value} for name, value in largest.items()]


def make_images(folder: Path) -> None:
    """Eight images of 480 x 480 with structure at several sizes."""
    rng = np.random.default_rng(0)
    for i in range(8):
        layers = [
            np.asarray(Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((480, 480)), np.float32)
            for n in (6, 30, 120, 480)
        ]
        image = Image.fromarray((sum(layers) / len(layers)).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
        image.save(folder / f"{i}.png")


def main() -> None:
    cases = {"loader": loader, "losses": losses}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["loader"], help=f"any of {', '.join(cases)}")
    parser.add_argument("--data", metavar="DIR", help="a folder of images")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50, help="of the case losses")
    parser.add_argument("--double", action="store_true", help="the case losses in float64")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of the loader")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(cases):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(cases)}")
    with tempfile.TemporaryDirectory() as scratch:
        if args.data is None:
            make_images(Path(scratch))
            args.data = scratch
        for case in args.cases:
            torch.manual_seed(0)
            for row in cases[case](args):
                print(json.dumps({"case": f"training {case}", "batch": args.batch, **row, **about(CPU)}), flush=True)


if __name__ == "__main__":
    main()
