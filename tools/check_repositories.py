"""Run by check_repositories.sh: each program once as it is and once with docs/repositories.md's line, and compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

import liif_fast
from liif_fast.weights import checkpoints

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "repositories"
# The programs are for a GPU: what sends things there does nothing here. Both runs draw the same random numbers.
SITE = """
import random
import numpy, torch
# torchvision's own operators want CUDA's libraries; its transforms do not need them
fake = torch.library.register_fake
torch.library.register_fake = lambda name, *rest, **more: (
    (lambda function: function) if str(name).startswith("torchvision::") else fake(name, *rest, **more)
)
torch.Tensor.cuda = lambda self, *args, **kwargs: self
torch.nn.Module.cuda = lambda self, *args, **kwargs: self
random.seed(0), numpy.random.seed(0), torch.manual_seed(0)
"""
# losses are printed with four digits, and three steps of training on float32's roundings stay below one of the last
LOSS = 1.01e-4
PSNR = 1.01e-3  # dB: printed with four digits; the folded first layer rounds otherwise
LEVELS = 1  # of 255: a rounding at the border of two levels


def recipe() -> dict[str, str]:
    """The lines of the page, by repository."""
    text = (ROOT / "docs" / "repositories.md").read_text(encoding="utf-8")
    return dict(zip(("liif", "lte"), re.findall(r"^python -c .*$", text, re.M), strict=True))


def pictures(folder: Path, count: int, side: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        y, x = np.mgrid[:side, :side]
        waves = [np.sin(x / 5 + i), np.cos(y / 4), np.sin((x + y) / 7)]
        Image.fromarray((128 + 90 * np.stack(waves, -1)).astype(np.uint8)).save(folder / f"{i}.png")


def run(folder: Path, *command: str) -> str:
    path = os.pathsep.join([str(WORK / "site"), os.environ["PYTHONPATH"]])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{folder.name}: {' '.join(command)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def spec(name: str) -> dict:
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 2, "n_feats": 16, "no_upsampling": True}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [32, 32]}}
    extra = {"liif": {"imnet_spec": imnet}, "lte": {"imnet_spec": imnet, "hidden_dim": 32}}
    return {"name": name, "args": {"encoder_spec": encoder, **extra[name]}}


def training(name: str) -> dict:
    data = {
        "dataset": {"name": "image-folder", "args": {"root_path": "data", "repeat": 4, "cache": "in_memory"}},
        "wrapper": {"name": "sr-implicit-downsampled", "args": {"inp_size": 12, "scale_max": 4, "sample_q": 64}},
        "batch_size": 4,
    }
    half = {"sub": [0.5], "div": [0.5]}
    return {
        "train_dataset": data,
        "val_dataset": data,
        "data_norm": {"inp": half, "gt": half},
        "model": spec(name),
        "optimizer": {"name": "adam", "args": {"lr": 1e-3}},
        "epoch_max": 3,
        "epoch_val": 1,
        "epoch_save": 1,
        **({"resume": "none.pth"} if name == "lte" else {}),  # LTE's begins afresh where there is no such file
    }


def programs(folder: Path, name: str) -> dict[str, object]:
    """Losses of training, the figure of test.py, and the picture of demo.py."""
    pictures(folder / "data", 3, 64)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(training(name)), encoding="utf-8")
    train = "train_liif.py" if name == "liif" else "train.py"
    log = run(folder, train, "--config", "tiny.yaml", "--name", "tiny")
    torch.manual_seed(1)
    checkpoints.save_official(liif_fast.make(spec(name)), folder / "random.pth")
    half = {"sub": [0.5], "div": [0.5]}
    test = {"test_dataset": training(name)["val_dataset"], "eval_type": "div2k-2", "eval_bsize": 500}
    test["test_dataset"] = {
        "dataset": {"name": "image-folder", "args": {"root_path": "data"}},
        "wrapper": {"name": "sr-implicit-downsampled", "args": {"scale_min": 2, "scale_max": 2}},
        "batch_size": 1,
    }
    (folder / "test.yaml").write_text(
        yaml.safe_dump({**test, "data_norm": {"inp": half, "gt": half}}), encoding="utf-8"
    )
    said = run(folder, "test.py", "--config", "test.yaml", "--model", "random.pth")
    size = ["--resolution", "90,100"] if name == "liif" else ["--scale", "2"]
    run(folder, "demo.py", "--input", "data/0.png", "--model", "random.pth", *size, "--output", "out.png")
    with Image.open(folder / "out.png") as out:
        picture = np.asarray(out).astype(int)
    losses = [float(x) for x in re.findall(r"loss=([\d.]+)", log)]
    return {"losses": losses, "psnr": float(re.findall(r"result: ([\d.-]+)", said)[0]), "picture": picture}


def main() -> None:
    repositories = dict(zip(("liif", "lte"), map(Path, sys.argv[1:]), strict=True))
    shutil.rmtree(WORK / "site", ignore_errors=True)
    (WORK / "site").mkdir(parents=True)
    (WORK / "site" / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    for name, path in repositories.items():
        found = {}
        for kind in ("as it is", "with liif_fast"):
            folder = WORK / f"{name} {kind}".replace(" ", "-")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(path, folder)
            if kind != "as it is":
                command = recipe()[name].replace("python", f'"{sys.executable}"', 1)
                subprocess.run(["bash", "-c", command], cwd=folder, check=True)
            found[kind] = programs(folder, name)
            made = (
                "import models, yaml; print(type(models.make(yaml.safe_load(open('tiny.yaml'))['model'])).__module__)"
            )
            module = run(folder, "-c", made).strip()
            if module.startswith("liif_fast.") != (kind != "as it is"):
                raise SystemExit(f"{name}, {kind}: the model is of {module}")
        theirs, ours = found.values()
        loss = max(abs(a - b) for a, b in zip(theirs["losses"], ours["losses"], strict=True))
        psnr, levels = abs(theirs["psnr"] - ours["psnr"]), int(np.abs(theirs["picture"] - ours["picture"]).max())
        print(
            f"{name}: losses {ours['losses']}, at most {loss:.1e} off; test.py {psnr:.1e} dB; demo.py {levels} of 255"
        )
        if not theirs["losses"] or loss > LOSS or psnr > PSNR or levels > LEVELS:
            raise SystemExit(f"{name}: losses {theirs['losses']}, PSNR {theirs['psnr']} as it is: not the same")


if __name__ == "__main__":
    main()
