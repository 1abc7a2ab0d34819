"""docs/machines.md: its SLURM scripts with stand-ins for SLURM, and its example on Ray Data on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import secrets
import subprocess
import sys
from pathlib import Path

import doc_blocks
import doc_folder
import pytest
import torch
import training_files as files
from PIL import Image

from liif_fast.cli import main as cli

ROOT = doc_blocks.ROOT
PAGE = ROOT / "docs" / "machines.md"
# two nodes in one: each task runs the command itself
SRUN = """#!/bin/bash
"$@" & one=$!
"$@" & two=$!
wait $one && wait $two
"""
SCONTROL = """#!/bin/bash
[ "$*" = "show hostnames node[1-2]" ] && printf 'localhost\\nlocalhost\\n'
"""
TWICE = """
import runpy, sys
for _ in range(2):
    try:
        runpy.run_path({script!r}, run_name="__main__")
    except SystemExit as stop:
        print("exit code", stop.code)
"""


def script(name: str) -> str:
    """The page's file of this name."""
    (found,) = [b.code for b in doc_blocks.blocks(PAGE, "sh") if doc_folder.file_named(b.before) == name]
    return found


def run(text: str, folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """A job's script, as SLURM runs it."""
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    torchrun = f'#!/bin/bash\nexec {sys.executable} -m torch.distributed.run "$@"\n'
    command = f'#!/bin/bash\nexec {sys.executable} -m liif_fast "$@"\n'
    for name, body in {"srun": SRUN, "scontrol": SCONTROL, "torchrun": torchrun, "liif-fast": command}.items():
        (stubs / name).write_text(body, encoding="utf-8")
        (stubs / name).chmod(0o755)
    path = os.pathsep.join([str(stubs), os.environ["PATH"]])
    python = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": python, "OMP_NUM_THREADS": "1", **variables}
    job = folder / "job.sh"
    job.write_text(text, encoding="utf-8")
    subprocess.run(["bash", "-n", job], check=True)
    return subprocess.run(["bash", job], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.long
def test_training_over_nodes(images, tmp_path):
    """Two nodes with a process each find each other, save, and a second job has nothing left to do."""
    files.write(tmp_path / "mine.yaml", files.configuration(images, epoch_max=1, epoch_val=None))
    job = {
        "SLURM_JOB_ID": str(random.SystemRandom().randrange(10**6)),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
    }
    done = run(script("train.sbatch"), tmp_path, **job)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("x 2 processes") == 1
    saved = tmp_path / "run" / "epoch-last.pth"
    progress = torch.load(saved, weights_only=True)["training"]["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 2)  # 16 samples in steps of 2 x 4
    again = cli.main(["train", str(tmp_path / "mine.yaml"), "--save", str(tmp_path / "run"), "--resume"])
    assert again == 0
    assert torch.load(saved, weights_only=True)["training"]["progress"]["step"] == 2


@pytest.mark.long
def test_job_array(tmp_path):
    """Two jobs share the folder's files out; a job that is run again has nothing left to do."""
    for i in range(5):
        doc_folder.picture(tmp_path / "photos" / ("inside" if i % 2 else ".") / f"{i}.png", seed=i)
    text = script("enlarge.sbatch").replace("--scale 4", "--scale 4 -m small-liif")
    told = []
    for task in ("0", "1", "1"):
        job = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
        done = run(text, tmp_path, **job)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / f"enlarge-{task}.jsonl").read_text(encoding="utf-8").splitlines()
        told.append({Path(r["input"]).name: r["status"] for r in map(json.loads, lines)})
    assert sorted([*told[0], *told[1]]) == [f"{i}.png" for i in range(5)]
    assert set(told[0].values()) == set(told[1].values()) == {"done"}
    assert told[2] == dict.fromkeys(told[1], "exists")
    assert {Image.open(p).size for p in (tmp_path / "large").rglob("*.png")} == {(80, 64)}


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra 'many' is not installed")
def test_ray_enlarges_a_folder(tmp_path):
    """In two workers: a damaged file and two of one name fail, the others are done; again, all of these are there."""
    folder, output = tmp_path / "photos", tmp_path / "large"
    for i in range(18):
        doc_folder.picture(folder / ("inside" if i % 2 else ".") / f"{i}.png", seed=i)
    whole = (folder / "0.png").read_bytes()
    (folder / "damaged.png").write_bytes(whole[: len(whole) // 2])
    doc_folder.picture(folder / "0.bmp")  # has a result of its own
    doc_folder.picture(folder / "inside" / "1.ppm")  # its result would be 1.png
    token = tmp_path / "token"  # Ray makes one in the home folder where none is named
    token.write_text(secrets.token_hex(32), encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    example = str(ROOT / "examples" / "many_machines.py")
    arguments = [str(folder), str(output), "--scale", "2", "--model", "small-liif", "--workers", "2"]
    command = [sys.executable, "-c", TWICE.format(script=example), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    said = [line for line in done.stdout.splitlines() if " lost" in line or "exit code" in line]
    assert said == [
        "19 done, 0 there already, 2 failed, 0 lost",
        "exit code 1",
        "0 done, 19 there already, 2 failed, 0 lost",
        "exit code 1",
    ], done.stderr
    lines = (output / "results.jsonl").read_text(encoding="utf-8").splitlines()
    failed = {Path(row["input"]).name: row["error"] for row in map(json.loads, lines)}
    assert set(failed) == {"damaged.png", "1.ppm"}
    assert "cannot be decoded" in failed["damaged.png"]
    assert "was already written for another input" in failed["1.ppm"]
    assert len(list(output.rglob("*.png"))) == 18
    assert {Image.open(p).size for p in output.rglob("*.png")} == {(40, 32)}
