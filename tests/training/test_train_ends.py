"""Every way out of a run with worker processes: all is saved that can be, the workers end, exit code 1 in seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_files as files
from PIL import Image

from liif_fast.cli import main as cli
from liif_fast.data import loader as loaders
from liif_fast.training.journal import Journal
from liif_fast.training.loop import Trainer
from liif_fast.training.signals import Signals

SECONDS = 60  # a generous bound: importing torch takes 3 s alone, and without the cure nothing ever ends


def jpegs(folder: Path) -> Path:
    """Ten images of 160 x 160, one of which is cut in half."""
    files.make_images(folder, sizes=((160, 160),) * 10)
    for file in folder.iterdir():
        Image.open(file).save(file.with_suffix(".jpg"), quality=95)
        file.unlink()
    cut = folder / "07.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    return folder


def configuration(folder: Path, **changes):
    dataset = {"name": "image-folder", "args": {"root_path": str(folder), "cache": "none"}}
    changes = {"train_dataset__dataset": dataset, "train_dataset__batch_size": 1, "num_workers": 1, **changes}
    return files.configuration(folder, **changes)


def progress(run: Path) -> dict:
    return torch.load(run / "epoch-last.pth", weights_only=True)["training"]["progress"]


def nobody(group: int) -> bool:
    """Whether no process is left of a group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("processes", [1, 2])
def test_a_broken_image_ends_the_run(processes, tmp_path):
    """Alone and under torchrun: the steps before it are saved, one process says which file it is, all end."""
    images = jpegs(tmp_path / "images")
    config = files.write(tmp_path / "c.yaml", configuration(images, val_dataset=None, epoch_val=None, seed=2))
    start = ["-m"] if processes == 1 else ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    command = [sys.executable, *start, "liif_fast.train", str(config), "--save", str(tmp_path / "run")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 1
        assert err.count("07.jpg: cannot be decoded") == 1
        assert "stopped after step" in out
        steps = progress(tmp_path / "run")["step"]
        assert steps == len(files.losses(tmp_path / "run")) > 0
        assert nobody(process.pid)
    finally:
        if not nobody(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert cli.main(["train", str(config), "--save", str(tmp_path / "run"), "--resume"]) == 1  # from there, to the same


@pytest.fixture
def watched(monkeypatch):
    """The worker processes of all loaders; they must have ended behind each run."""
    workers = []
    make = loaders.DataLoader._get_iterator

    def watched(self):
        iterator = make(self)
        workers.extend(getattr(iterator, "_workers", []))
        return iterator

    monkeypatch.setattr(loaders.DataLoader, "_get_iterator", watched)
    return workers


def train(tmp_path, config, *arguments) -> int:
    path = files.write(tmp_path / "c.yaml", config)
    return cli.main(["train", str(path), "--save", str(tmp_path / "run"), *arguments])


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """A configuration, its images and the folder of a whole run."""
    folder = tmp_path_factory.mktemp("unharmed")
    images = files.make_images(folder / "images", sizes=((160, 160),) * 5)
    config = configuration(images, epoch_max=3)
    assert cli.main(["train", str(files.write(folder / "c.yaml", config)), "--save", str(folder / "run")]) == 0
    return config, images, folder / "run"


@pytest.mark.parametrize("where", ["data", "step", "validation", "validation's data", "pictures", "saving"])
def test_every_error_saves_and_ends_the_workers(where, unharmed, tmp_path, capsys, monkeypatch, watched):
    """Whatever fails in the second epoch: the run can be gone on with, and gives what one without the fault gives."""
    from liif_fast.training import loop, state
    from liif_fast.training.step import Step

    config, images, whole = unharmed
    with monkeypatch.context() as patch:

        def after(n, real, error):
            calls = iter(range(10**6))

            def call(*args, **kwargs):
                if next(calls) == n:
                    raise error
                return real(*args, **kwargs)

            return call

        targets = {
            "step": (Step, "begin", 7, RuntimeError("out of memory, say")),
            "validation": (loop, "mean_psnr", 1, RuntimeError("out of memory, say")),
            "pictures": (loop, "views", 1, ValueError("no picture")),
            "saving": (state, "write", 3, state.TrainingError("the disk is full")),
        }
        if where in targets:
            module, name, n, error = targets[where]
            patch.setattr(module, name, after(n, getattr(module, name), error))
        elif where == "data":
            gone = images / "03.png"
            patch.setattr(
                Trainer, "_epoch_end", lambda self, s, real=Trainer._epoch_end: (real(self, s), hide(gone))[0]
            )
        else:
            patch.setattr(loop, "mean_psnr", lambda *a, real=loop.mean_psnr: (hide(images / "01.png"), real(*a))[1])
        capsys.readouterr()
        assert train(tmp_path, config) == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "--resume goes on from there" in out.splitlines()[-1]
    assert len(watched) == 2  # of training and of validation
    assert not any(worker.is_alive() for worker in watched)
    for file in images.parent.glob("hidden-*"):
        file.rename(images / file.name.removeprefix("hidden-"))
    assert train(tmp_path, config, "--resume") == 0
    assert files.losses(tmp_path / "run") == files.losses(whole)
    assert files.same(files.weights(tmp_path / "run"), files.weights(whole))


def hide(file: Path) -> None:
    if file.exists():
        file.rename(file.parents[1] / f"hidden-{file.name}")


def test_half_an_update_is_not_saved(tmp_path, capsys, monkeypatch):
    """An error between two weights' changes: the last checkpoint stays as it was."""
    images = files.make_images(tmp_path / "images")
    config = files.configuration(images, epoch_max=3)
    real, calls = torch.optim.Adam.step, iter(range(100))

    def step(self, *args):
        result = real(self, *args)
        if next(calls) == 5:
            raise RuntimeError("in between")
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    assert train(tmp_path, config) == 1
    assert "in between" in capsys.readouterr().err
    assert progress(tmp_path / "run")["step"] == 4


def test_evaluation_ends_its_workers(tmp_path, capsys, watched):
    import liif_fast
    from liif_fast.weights import checkpoints

    images = jpegs(tmp_path / "images")
    checkpoints.save_official(liif_fast.make(files.TINY_LIIF), tmp_path / "m.pth")
    wrapper = {"name": "sr-implicit-downsampled", "args": {"scale_min": 4}}
    dataset = {"name": "image-folder", "args": {"root_path": str(images)}}
    config = {"test_dataset": {"dataset": dataset, "wrapper": wrapper, "batch_size": 1}, "eval_bsize": 30000}
    path = files.write(tmp_path / "t.yaml", config)
    assert cli.main(["eval", "--config", str(path), "-m", str(tmp_path / "m.pth")]) == 1
    err = capsys.readouterr().err
    assert err.count("07.jpg: cannot be decoded") == 1
    assert watched
    assert not any(worker.is_alive() for worker in watched)


def test_workers_obey_once_they_are_not_needed(watched, tmp_path, monkeypatch):
    """A signal to all processes of a group leaves them at work; one that does not end in time is killed."""
    images = files.make_images(tmp_path / "images")
    samples = loaders_samples(images)
    batches = loaders.Batches(16, 1, shuffle=False, seed=0)
    loader = loaders.make_loader(samples, batches, seed=0, num_workers=2)
    feed = loaders.Feed(loader, torch.device("cpu"))
    feed.fetch()  # the second batch, of the second worker: both have begun
    for worker in watched:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(worker.pid, number)
    for _ in range(15):
        assert feed.take()["inp"].shape == (1, 3, 12, 12)
        feed.fetch()
    assert feed.take() is None
    assert all(worker.is_alive() for worker in watched)
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.3)  # 5 s
    os.kill(watched[1].pid, signal.SIGSTOP)  # cannot answer any more
    loaders.close(loader)
    assert not any(worker.is_alive() for worker in watched)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_are_wishes(name):
    """A hangup too; but what is ignored, as SIGHUP is under nohup, stays ignored."""
    number = getattr(signal, name)
    before = signal.getsignal(number)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), number)
            assert signals.number == number
        signal.signal(number, signal.SIG_IGN)
        with Signals() as signals:
            os.kill(os.getpid(), number)
            assert not signals
    finally:
        signal.signal(number, before)


def test_metrics_that_are_not_ours_stay(tmp_path):
    """Going on takes out what will be done again, and what a kill left half written; nothing else."""
    ours = [{"kind": "step", "step": i, "epoch": 1, "lr": 0.1, "loss": 1.0} for i in (1, 2, 3)]
    other = ["mine", '{"kind": "note", "step": 9}', '{"kind": "step", "step": "9"}', '{"kind": "step", "step": 9}']
    lines = [json.dumps(ours[0]), *other, json.dumps(ours[1]), json.dumps(ours[2])]
    (tmp_path / "metrics.jsonl").write_bytes(("\n".join(lines) + "\n").encode() + b"\xff\xfe\n" + b'{"kind": "st')
    journal = Journal(tmp_path, step=2, pending=False)
    assert journal.records() == ours[:2]
    journal.draw()
    journal.close()
    text = (tmp_path / "metrics.jsonl").read_bytes()
    assert text == "\n".join(lines[:-1]).encode() + b"\n\xff\xfe\n"


def loaders_samples(images: Path):
    from liif_fast.training.config import check
    from liif_fast.training.setup import build_samples

    return build_samples("train_dataset", check(files.configuration(images)).train_dataset)
