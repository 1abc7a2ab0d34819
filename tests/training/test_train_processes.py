"""Several processes: training, upscaling and evaluation under torchrun, with gloo on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import training_files as files
from PIL import Image

from liif_fast.cli import main as cli

pytestmark = pytest.mark.long


def torchrun(*arguments, processes: int = 2) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_two_processes_are_one_with_twice_the_batch(images, tmp_path, capsys):
    """Losses, validation and weights of 2 x 3 are those of 1 x 6, with an uneven last batch in each epoch.

    The sums of a batch are split in two, so float32 rounds them in another order: 1e-7 of the gradients in each step.
    Adam moves a weight by up to lr = 1e-3 whatever the size of its gradient, so a gradient that is nearly 0 may carry
    that to 1e-5 of a weight in 9 steps.
    """
    changes = {"train_dataset__dataset__args__repeat": 5, "epoch_max": 2, "grad_clip": 1.0}  # 20 samples
    one = files.write(tmp_path / "one.yaml", files.configuration(images, train_dataset__batch_size=6, **changes))
    two = files.write(tmp_path / "two.yaml", files.configuration(images, train_dataset__batch_size=3, **changes))
    assert cli.main(["train", str(one), "--save", str(tmp_path / "one")]) == 0
    capsys.readouterr()
    done = torchrun("liif_fast.train", two, "--save", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert "batches of 3 x 2 processes, 4 steps an epoch" in done.stdout
    assert done.stdout.count("epoch 2/2") == 1
    a, b = (files.losses(tmp_path / name) for name in ("one", "two"))
    assert len(a) == 8
    assert max(abs(b[i] / a[i] - 1) for i in a) < 1e-5
    a, b = (files.weights(tmp_path / name) for name in ("one", "two"))
    assert max((a[k] - b[k]).abs().max().item() for k in a) < 1e-5
    assert min((a[k] != 0).float().mean().item() for k in a if "weight" in k and "mean" not in k) > 0.9
    psnr = [
        [json.loads(x)["psnr"] for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines() if "psnr" in x]
        for name in ("one", "two")
    ]
    assert psnr[1] == pytest.approx(psnr[0], abs=1e-3)  # dB, of weights that differ by 1e-5


def test_sigterm_to_all(images, tmp_path):
    """torchrun passes it on; the processes agree on a step to stop behind, and the first one saves."""
    config = files.write(tmp_path / "c.yaml", files.configuration(images, epoch_max=4000, epoch_val=None))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "liif_fast.train"]
    process = subprocess.Popen([*command, str(config), "--save", str(tmp_path / "run")], stderr=subprocess.DEVNULL)
    metrics = tmp_path / "run" / "metrics.jsonl"
    for _ in range(6000):
        if metrics.exists() and metrics.read_text().count("\n") > 5:
            break
        time.sleep(0.01)
    process.terminate()
    process.wait(60)
    done = files.losses(tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "epoch-last.pth", weights_only=True)["training"]["progress"]
    assert saved["step"] == len(done) >= 5
    assert "--resume" in (tmp_path / "run" / "log.txt").read_text()


def test_upscale_shares_out_its_files(images, tmp_path):
    done = torchrun("liif_fast", "upscale", images, "-o", tmp_path / "out", "-s", "2", "--json", "-m", _model(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sorted(Path(r["input"]).name for r in rows) == [f"0{i}.png" for i in range(4)]  # each once
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_eval_shares_out_its_files(images, tmp_path, capsys):
    arguments = ["eval", "--data", str(images), "-s", "2", "-m", "bicubic", "--json"]
    assert cli.main(arguments) == 0
    want = json.loads(capsys.readouterr().out)
    done = torchrun("liif_fast", *arguments, processes=3)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert json.loads(line) == want


def test_eval_of_a_test_configuration(tmp_path, capsys):
    """The official figure: mean of the images' PSNR on luma with a border, here of a model that is plain arithmetic."""
    images = files.make_images(tmp_path / "images", sizes=((40, 48), (44, 40), (64, 52)))
    path, model = files.write(tmp_path / "test.yaml", files.eval_configuration(images)), _model(tmp_path)
    assert cli.main(["eval", "--config", str(path), "-m", str(model)]) == 0
    got = float(capsys.readouterr().out.removesuffix(" dB\n"))
    assert got == pytest.approx(_official_psnr(images, model), abs=1e-4)
    done = torchrun("liif_fast", "eval", "--config", path, "-m", model)
    assert [line for line in done.stdout.splitlines() if line.endswith("dB")] == [f"{got:.4f} dB"]


def _official_psnr(images: Path, model_file: Path) -> float:
    """utils.calc_psnr(dataset='benchmark', scale=2) of every image, averaged; with reduction and LIIF done anew."""
    import plain_liif

    state = torch.load(model_file, weights_only=True)["model"]["sd"]
    found = []
    for file in sorted(images.iterdir()):
        hr = np.array(Image.open(file))
        h, w = hr.shape[0] // 2, hr.shape[1] // 2
        hr = hr[: 2 * h, : 2 * w]
        lr = np.array(Image.fromarray(hr).resize((w, h), Image.Resampling.BICUBIC))
        inp, gt = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255 for x in (lr, hr))
        coord = torch.cartesian_prod(plain_liif.grid(2 * h), plain_liif.grid(2 * w))[None]
        cell = torch.ones_like(coord) * torch.tensor([2 / (2 * h), 2 / (2 * w)])
        pred = plain_liif.liif(state, plain_liif.encode(state, (inp - 0.5) / 0.5, 1), coord, cell)
        diff = (pred * 0.5 + 0.5).clamp(0, 1).transpose(1, 2).reshape(gt.shape) - gt
        luma = (diff * torch.tensor([65.738, 129.057, 25.064]).view(1, 3, 1, 1) / 256).sum(1)[:, 2:-2, 2:-2]
        found.append(-10 * luma.square().mean().log10().item())
    return sum(found) / len(found)


def _model(tmp_path: Path) -> Path:
    import liif_fast
    from liif_fast.weights import checkpoints

    torch.manual_seed(0)
    path = tmp_path / "model.pth"
    checkpoints.save_official(liif_fast.make(files.TINY_LIIF), path)
    return path
