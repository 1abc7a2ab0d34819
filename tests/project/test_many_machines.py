"""examples/many_machines.py, with two workers of Ray on this machine; SLURM's scripts as far as a shell can tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import doc_blocks
import doc_folder
import numpy as np
import pytest
from PIL import Image

import liif_fast

ROOT = doc_blocks.ROOT
pytestmark = pytest.mark.long


def enlarge(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples" / "many_machines.py"), "photos", "large", "--model", "small-liif"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_folder_by_two_workers_and_again(tmp_path):
    pytest.importorskip("ray")
    for i in range(20):
        doc_folder.picture(tmp_path / "photos" / f"part{i % 3}" / f"{i}.png", seed=i)
    (tmp_path / "photos" / "part0" / "0.png").write_bytes(b"no picture")
    done = enlarge(tmp_path)
    assert (done.returncode, done.stdout) == (1, "19 done, 1 failed\n"), done.stderr
    (row,) = (tmp_path / "large" / "failed.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(row)["path"] == "part0/0.png"
    assert "part0/0.png" in json.loads(row)["error"]
    with Image.open(tmp_path / "photos/part1/7.png") as photo, Image.open(tmp_path / "large/part1/7.png") as large:
        expected = liif_fast.load("small-liif").upscale(photo, scale=2)
        np.testing.assert_array_equal(np.asarray(large), np.asarray(expected))
    doc_folder.picture(tmp_path / "photos" / "part0" / "0.png")
    done = enlarge(tmp_path)
    assert (done.returncode, done.stdout) == (0, "1 done, 19 exists\n"), done.stderr


SRUN = '#!/bin/bash\nfor ((r = 0; r < SLURM_NTASKS; r++)); do SLURM_PROCID=$r SLURM_LOCALID=$r "$@" || exit; done\n'


def test_slurms_scripts(tmp_path):
    """By a stand-in of srun that starts the tasks one after the other."""
    doc_folder.build(tmp_path)
    tools = {"srun": SRUN, "liif-fast": f'#!/bin/bash\nexec "{sys.executable}" -m liif_fast "$@" -m small-liif\n'}
    tools["torchrun"] = "#!/bin/bash\nprintf '%s\\n' \"$@\" >> torchrun.txt\n"
    tools["scontrol"] = "#!/bin/bash\necho node-a; echo node-b\n"
    for name, text in tools.items():
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    scripts = [b.code for b in doc_blocks.blocks(ROOT / "docs" / "machines.md", "sh") if "#SBATCH" in b.code]
    train, folder = scripts
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    slurm = {"SLURM_NTASKS": "2", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node-[a-b]"}
    for script in (train, folder):
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=tmp_path, env={**environment, **slurm}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    asked = (tmp_path / "torchrun.txt").read_text(encoding="utf-8").splitlines()
    assert {"--nnodes=2", "--rdzv-id=7", "--rdzv-endpoint=node-a:29500", "liif_fast.train", "--resume"} <= set(asked)
    made = sorted(str(path.relative_to(tmp_path / "large")) for path in (tmp_path / "large").rglob("*.*"))
    assert made == ["a.jpg", "b.png", "inside/c.png"]
