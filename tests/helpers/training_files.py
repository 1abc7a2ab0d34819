"""Small images and configurations for the tests of training."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from command import outcome
from PIL import Image, ImageFilter

TINY_LIIF = {
    "name": "liif",
    "args": {
        "encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}},
    },
}
SRCNN = {"name": "srcnn", "args": {"kernels": [5, 1, 3], "width": [8, 4]}}
SRRESNET = {"name": "srresnet", "args": {"scale": 2, "n_resblocks": 1, "n_feats": 8}}
METASR = {"name": "metasr", "args": {"encoder_spec": TINY_LIIF["args"]["encoder_spec"]}}


def make_images(folder: Path, sizes=((60, 70), (64, 61), (66, 80), (58, 58)), mode: str = "RGB") -> Path:
    """Smooth random images, (height, width) each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, (h, w) in enumerate(sizes):
        image = Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
        image.convert(mode).save(folder / f"{i:02}.png")
    return folder


def make_pairs(folder: Path) -> Path:
    """HR images and LR_bicubic/X2, whose LR images no filter made."""
    make_images(folder / "HR", ((60, 70), (51, 61)))
    (folder / "LR_bicubic" / "X2").mkdir(parents=True)
    for name, (h, w) in {"00": (30, 35), "01": (25, 30)}.items():
        noise = np.random.default_rng(1).integers(0, 256, (h, w, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "LR_bicubic" / "X2" / f"{name}x2.png")
    return folder


def configuration(folder: Path, **changes: Any) -> dict[str, Any]:
    """The official EDSR-baseline configuration, much smaller. ``changes``: of keys; a dotted name reaches deeper with
    ``__`` in place of dots; None removes the key."""
    dataset = {"name": "image-folder", "args": {"root_path": str(folder), "repeat": 4, "cache": "in_memory"}}
    args = {"inp_size": 12, "scale_max": 4, "augment": True, "sample_q": 64}
    config = {
        "train_dataset": {
            "dataset": dataset,
            "wrapper": {"name": "sr-implicit-downsampled", "args": args},
            "batch_size": 4,
        },
        "val_dataset": {
            "dataset": {"name": "image-folder", "args": {"root_path": str(folder), "first_k": 2, "repeat": 2}},
            "wrapper": {"name": "sr-implicit-downsampled", "args": {"inp_size": 12, "scale_max": 4, "sample_q": 64}},
            "batch_size": 2,
        },
        "data_norm": {part: {"sub": [0.5], "div": [0.5]} for part in ("inp", "gt")},
        "model": TINY_LIIF,
        "optimizer": {"name": "adam", "args": {"lr": 1e-3}},
        "epoch_max": 3,
        "multi_step_lr": {"milestones": [2], "gamma": 0.5},
        "epoch_val": 1,
        "epoch_save": 2,
        "seed": 5,
        "log_steps": 1,
        "num_workers": 0,
    }
    config = copy.deepcopy(config)
    for name, value in changes.items():
        *path, last = name.split("__")
        at = config
        for key in path:
            at = at[key]
        if value is None:
            at.pop(last)
        else:
            at[last] = value
    return config


def eval_configuration(folder: Path) -> dict[str, Any]:
    """A test configuration of the official program: PSNR on luma with a border at scale 2."""
    return {
        "test_dataset": {
            "dataset": {"name": "image-folder", "args": {"root_path": str(folder)}},
            "wrapper": {"name": "sr-implicit-downsampled", "args": {"scale_min": 2}},
            "batch_size": 1,
        },
        "eval_type": "benchmark-2",
        "eval_bsize": 300,
        "data_norm": {part: {"sub": [0.5], "div": [0.5]} for part in ("inp", "gt")},
    }


def write(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def runner(images: Path, where: Path, capsys):
    """run(*arguments, **changes of the configuration) -> (exit code, standard output, standard error); in
    where/"run"."""

    def call(*arguments, folder: str = "run", **changes: Any) -> tuple[int, str, str]:
        config = write(where / f"{folder}.yaml", configuration(images, **changes))
        return outcome(capsys, "train", config, "--save", where / folder, *arguments)

    return call


def losses(run: Path) -> dict[int, float]:
    """Loss of each step from metrics.jsonl; a step that stands there twice fails."""
    found: dict[int, float] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "step":
            assert record["step"] not in found
            found[record["step"]] = record["loss"]
    return found


def epochs(run: Path) -> list[dict[str, Any]]:
    """The records of the epochs in metrics.jsonl."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if r["kind"] == "epoch"]


def weights(run: Path, name: str = "epoch-last.pth") -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint."""
    return torch.load(run / name, weights_only=True)["model"]["sd"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
