"""What befalls a process from outside: signals at any moment, full disks, folders that vanish, streams that are closed.

Most runs are children of a server that has imported torch, see ``forkserver``; what happens while modules are being
imported needs interpreters of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import identity_model
import pytest
import training_files
from forkserver import ROOT, Client
from PIL import Image
from watched_runs import PATIENCE, Run, hidden, noise, text_of, until


@pytest.fixture(scope="module")
def client():
    client = Client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return identity_model.write_identity(tmp_path_factory.mktemp("model") / "identity.pth")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGHUP", "SIGTERM", "SIGINT"])
def test_ended_while_it_writes(client, model, tmp_path, name):
    """Nothing half-written has the output's name; all but kill -9 tidy up, and the next run does it for kill -9."""
    noise(tmp_path / "p.png", 700, 700)
    argv = ("upscale", "p.png", "-o", "out/p.png", "-s", 3, "-m", model)
    number = getattr(signal, name)
    run = Run(client, tmp_path, *argv)
    until(lambda: hidden(tmp_path / "out"))
    os.kill(run.pid, number)
    run.outcome = client.finish()
    assert run.outcome.code == 128 + number
    text_of(run.err)
    assert not (tmp_path / "out" / "p.png").exists()
    if name != "SIGKILL":
        assert hidden(tmp_path / "out") == []
        return
    assert hidden(tmp_path / "out")
    assert Run(client, tmp_path, *argv).end() == 0
    assert os.listdir(tmp_path / "out") == ["p.png"]
    with Image.open(tmp_path / "out" / "p.png") as image:
        assert image.size == (2100, 2100)
        image.load()


PICTURES = 320  # seconds of work behind the last of these moments, however late a busy machine sees it
# (what the process has mapped or written, seconds after that)
MOMENTS = (
    ("libtorch_cpu", 0.0),
    ("libtorch_cpu", 0.15),
    ("libtorch_python", 0.0),
    ("libtorch_python", 0.3),
    ("libtorch_python", 0.7),
    ("_C.abi3", 0.0),
    ("p0.png", 0.0),
    ("p0.png", 0.05),
    ("p1.png", 0.02),
    ("p2.png", 0.0),
)


def test_ctrl_c_at_ten_moments(model, tmp_path):
    """Wherever it is, the run ends with 130, nothing is half-written, and no trace is shown."""
    for i in range(PICTURES):
        noise(tmp_path / f"p{i}.png", 150, 150)

    def interrupted(at: int, attempt: int = 1) -> str:
        mark, delay = MOMENTS[at]
        out, errors = tmp_path / f"out{at}-{attempt}", tmp_path / f"{at}-{attempt}.txt"
        inputs = [str(tmp_path / f"p{i}.png") for i in range(PICTURES)]
        argv = ["upscale", *inputs, "-o", str(out), "-s", "4", "-m", str(model)]
        with errors.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "liif_fast", *argv],
                stdout=subprocess.DEVNULL,
                stderr=stream,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                # a shell's background jobs ignore it, and so would what pytest starts
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        until(lambda: process.poll() is not None or _reached(process.pid, mark, out))
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        if code == 0 and attempt < 3 and len(os.listdir(out)) == PICTURES:
            return interrupted(at, attempt + 1)  # on a starved machine the run was over before the moment was seen
        if code not in (130, -signal.SIGINT):  # -2: the shell's 130, before Python had its own handler
            return f"{MOMENTS[at]}: exit code {code}: {errors.read_text()[-300:]}"
        if "Traceback" in errors.read_text():
            return f"{MOMENTS[at]}: {errors.read_text()[-500:]}"
        if hidden(out):
            return f"{MOMENTS[at]}: left behind: {hidden(out)}"
        for file in out.glob("*") if out.exists() else ():
            with Image.open(file) as image:
                image.load()
        return ""

    with ThreadPoolExecutor(2) as pool:
        found = [text for text in pool.map(interrupted, range(len(MOMENTS))) if text]
    assert not found, "\n".join(found)


def _reached(pid: int, mark: str, out: Path) -> bool:
    if mark.endswith(".png"):
        return (out / mark).exists()
    with contextlib.suppress(OSError):
        return mark in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    return False


def test_a_file_that_cannot_be_written_whole(client, model, tmp_path):
    """A limit for files: one is too large, the others are written; nothing is left of the one."""
    for name, side in (("a", 8), ("b", 300), ("c", 8)):
        noise(tmp_path / f"{name}.png", side, side)
    argv = ("upscale", "a.png", "b.png", "c.png", "-o", "out", "-s", 2, "-m", model)
    run = Run(client, tmp_path, *argv, file_size=200_000)
    assert run.end() == 1
    assert len(run.errors) == 1
    assert "b.png" in run.errors[0]
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "c.png"]


def test_a_full_disk(client, model, tmp_path):
    """As above on a disk of 300 KB; a file that was there before stays as it was."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk needs the right to mount: {mounted.stderr.decode().strip()}")
    try:
        for name, side in (("a", 8), ("b", 300), ("c", 8)):
            noise(tmp_path / f"{name}.png", side, side)
        (disk / "b.png").write_bytes(b"earlier")
        argv = ("upscale", "a.png", "b.png", "c.png", "-o", disk, "-s", 2, "-m", model, "--overwrite")
        run = Run(client, tmp_path, *argv)
        assert run.end() == 1
        assert len(run.errors) == 1
        assert "the disk is full" in run.errors[0]
        assert sorted(os.listdir(disk)) == ["a.png", "b.png", "c.png"]
        assert (disk / "b.png").read_bytes() == b"earlier"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_output_folder_vanishes(client, model, tmp_path):
    """Whether it is made again or missed, each file has its one line, and what was written is whole."""
    for i in range(6):
        noise(tmp_path / f"p{i}.png", 200, 200)
    inputs = [f"p{i}.png" for i in range(6)]
    run = Run(client, tmp_path, "upscale", *inputs, "-o", "out", "-s", 3, "-m", model)
    until(lambda: (tmp_path / "out" / "p1.png").exists())
    (tmp_path / "out").rename(tmp_path / "gone")
    assert run.end() in (0, 1)
    done = [x for x in text_of(run.out).splitlines() if " -> " in x]
    assert len(done) + len(run.errors) == 6
    files = [*(tmp_path / "gone").iterdir(), *((tmp_path / "out").iterdir() if (tmp_path / "out").exists() else ())]
    assert {f.name for f in files} >= {Path(x.partition(": ")[0]).name for x in done}
    for file in files:
        with Image.open(file) as image:
            image.load()


STREAMS = {
    "stdout closed": {"stdout": "closed"},
    "stderr closed": {"stderr": "closed"},
    "all closed": {"stdin": "closed", "stdout": "closed", "stderr": "closed"},
    "stdout full": {"stdout": "/dev/full"},
    "stderr full": {"stderr": "/dev/full"},
}


@pytest.mark.parametrize("case", STREAMS)
def test_streams_that_take_nothing(client, model, tmp_path, case):
    """Reporting never stops the work: the good files are written, the bad one makes it 1."""
    for i in (0, 2):
        noise(tmp_path / f"p{i}.png", 9, 9)
    (tmp_path / "p1.png").write_bytes(b"no picture")
    argv = ("upscale", "p0.png", "p1.png", "p2.png", "-o", "out", "-s", 2, "-m", model)
    assert Run(client, tmp_path, *argv, **STREAMS[case]).end() == 1
    assert sorted(os.listdir(tmp_path / "out")) == ["p0.png", "p2.png"]


def test_closed_streams_of_a_real_process(model, tmp_path):
    """The shell's 2>&- and >&-: the interpreter has no such streams then; and a reader that goes away."""
    noise(tmp_path / "p.png", 9, 9)
    command = f"{sys.executable} -m liif_fast upscale p.png -s 2 -m {model}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = f"{command} -o a.png 2>&- >&- <&-; {command} -o b.png | true; exit 0"
    done = subprocess.run(script, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"p.png", "a.png", "b.png"}


def test_little_memory(client, model, tmp_path):
    """A picture that needs more than there is fails alone, in one line that says so.

    There is not enough for the result's 60 MB. (With less missing, oneDNN may crash in its convolution.)
    """
    noise(tmp_path / "a.png", 9, 9)
    noise(tmp_path / "b.png", 1500, 1500)
    argv = ("upscale", "b.png", "a.png", "-o", "out", "-s", 3, "-m", model, "--tile", 0)
    run = Run(client, tmp_path, *argv, address_space=50 << 20)
    assert run.end() == 1
    assert len(run.errors) == 1
    assert "memory" in run.errors[0]
    assert re.search(r"b\.png", run.errors[0])
    assert os.listdir(tmp_path / "out") == ["a.png"]


def test_the_trainers_data_vanish(client, tmp_path):
    """Workers that cannot read: the run saves what it has, says why and ends with 1. With the data back it goes on,
    also without its last checkpoint; nothing of it is deleted unasked."""
    images = training_files.make_images(tmp_path / "images")
    changes = {"train_dataset__dataset__args__cache": "none", "num_workers": 1, "epoch_max": 4000, "epoch_val": None}
    training_files.write(tmp_path / "c.yaml", training_files.configuration(images, epoch_save=1, **changes))
    run = Run(client, tmp_path, "train", "c.yaml", "--save", "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    until(lambda: metrics.exists() and '"epoch"' in metrics.read_text())
    images.rename(tmp_path / "moved")
    assert run.end() == 1
    assert len(run.errors) == 1
    done = training_files.losses(tmp_path / "run")
    assert (tmp_path / "run" / "epoch-last.pth").exists()
    (tmp_path / "moved").rename(images)

    (tmp_path / "run" / "epoch-last.pth").unlink()
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file()}
    assert Run(client, tmp_path, "train", "c.yaml", "--save", "run").end() == 2
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file()} == before
    again = Run(client, tmp_path, "train", "c.yaml", "--save", "run", "--resume", "--minutes", 0.02)
    assert again.end() == 0
    assert len(training_files.losses(tmp_path / "run")) > 0
    assert len(done) > 0


def test_the_trainers_image_is_cut(client, tmp_path):
    """A damaged image ends the run within seconds, with the file's name."""
    images = training_files.make_images(tmp_path / "images")
    for file in images.iterdir():
        with Image.open(file) as image:
            image.save(file.with_suffix(".jpg"))
        file.unlink()
    first = sorted(images.iterdir())[0]
    first.write_bytes(first.read_bytes()[:-400])
    changes = {"train_dataset__dataset__args__cache": "none", "num_workers": 1, "val_dataset": None, "epoch_val": None}
    training_files.write(tmp_path / "c.yaml", training_files.configuration(images, **changes))
    run = Run(client, tmp_path, "train", "c.yaml", "--save", "run")
    assert run.end() == 1
    assert len(run.errors) == 1
    assert first.name in run.errors[0]
