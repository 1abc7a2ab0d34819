"""What a killed process leaves half-written: removed by the next one that writes there, and nothing else is."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from liif_fast.base import atomic
from liif_fast.head.triton import choices
from liif_fast.images import files as images
from liif_fast.quality import result_folder
from liif_fast.weights import files as weight_files

fcntl = pytest.importorskip("fcntl", reason="without locks only age decides")

# the module alone, without the package and so without torch
WRITER = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("atomic", sys.argv[1])
atomic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(atomic)
with atomic.replacing(sys.argv[2]) as scratch, atomic.scratch_folder(pathlib.Path(sys.argv[2]).parent) as folder:
    for path in (scratch, folder / "x"):
        pathlib.Path(path).write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""
WRITERS = {
    "image": lambda folder: images.write(folder / "x.png", np.zeros((2, 2, 3), np.uint8)),
    "weights": lambda folder: weight_files.write(folder / "x.png", b"whole"),
    "tuning": lambda folder: _tuned(folder),
    "results": lambda folder: result_folder.write(folder, {"x.png": b"whole"}, ["x.png"]),
}


def _tuned(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choices, "path", lambda: folder / "x.png")
        patch.setattr(choices, "card", lambda device=None: "a card")
        choices.save({})


@pytest.fixture(autouse=True)
def _new_process(monkeypatch):
    monkeypatch.setattr(atomic, "_tidied", set())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_leftovers_of_a_killed_process_go_and_a_live_one_is_left_alone(tmp_path, monkeypatch, write):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, atomic.__file__, tmp_path / "old.png"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"writing\n"
    writing = names(tmp_path)
    assert len(writing) == 2
    write(tmp_path)
    assert names(tmp_path) == writing | {"x.png"}
    process.kill()
    process.communicate()
    assert names(tmp_path) == writing | {"x.png"}  # it had no chance to remove them
    (tmp_path / "x.png").unlink()
    monkeypatch.setattr(atomic, "_tidied", set())
    write(tmp_path)
    assert names(tmp_path) == {"x.png"}


def test_only_our_own_names_are_removed_and_those_of_other_machines_when_old(tmp_path):
    other, old = ".liif_fast-00000000-0123456789ab.tmp", ".liif_fast-00000000-ba9876543210.tmp"
    earlier = (".liif_fast-0123456789ab.tmp", f".{'0' * 32}.part", f".{'0' * 12}.part")  # names of earlier versions
    foreign = (".x.part", ".liif_fast-notes.tmp", f".liif_fast-{atomic._host()}-xyz.tmp", f"{'0' * 32}.part", "a.tmp")
    for name in (other, old, *earlier, *foreign):
        (tmp_path / name).write_bytes(b"half")
    for name in (old, *earlier[1:], *foreign):
        past = time.time() - atomic.OLD - 60
        os.utime(tmp_path / name, (past, past))
    os.mkfifo(tmp_path / f".liif_fast-{atomic._host()}-0123456789ab.tmp")  # not waited for
    weight_files.write(tmp_path / "x", b"whole")
    assert names(tmp_path) == {other, earlier[0], *foreign, "x"}


def test_file_systems_without_locks_leave_it_to_age(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    stale = tmp_path / f".liif_fast-{atomic._host()}-0123456789ab.tmp"
    stale.write_bytes(b"half")
    weight_files.write(tmp_path / "x", b"whole")
    assert names(tmp_path) == {stale.name, "x"}
    os.utime(stale, (0, 0))
    monkeypatch.setattr(atomic, "_tidied", set())
    weight_files.write(tmp_path / "x", b"whole")
    assert names(tmp_path) == {"x"}


def test_systems_without_locks_at_all(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    spec = importlib.util.spec_from_file_location("atomic_without_locks", atomic.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.fcntl is None
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for overwrite in (False, True):
        with module.replacing(tmp_path / "x", overwrite=overwrite, sync=True) as scratch:
            Path(scratch).write_bytes(b"whole")
    with pytest.raises(FileExistsError), module.replacing(tmp_path / "x", overwrite=False):
        pass
    with module.scratch_folder(tmp_path) as folder:
        (folder / "y").write_bytes(b"")
    assert names(tmp_path) == {"x"}
    assert before is None or len(os.listdir("/proc/self/fd")) == before


def test_a_leftover_taken_before_it_was_locked_is_written_anew(tmp_path, monkeypatch):
    """A process that tidies up may come between the making of a file and its lock."""
    create, made = atomic._create, []

    def slow(path):
        lock = create(path)
        made.append(path)
        if len(made) == 1:
            os.unlink(path)
        return lock

    monkeypatch.setattr(atomic, "_create", slow)
    with atomic.replacing(tmp_path / "x") as scratch:
        Path(scratch).write_bytes(b"whole")
    assert len(made) == 2
    assert (tmp_path / "x").read_bytes() == b"whole"


def test_replaced_files_keep_their_permissions(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o640)
    weight_files.write(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)


@pytest.mark.parametrize("kind", ["_create", "_create_folder"])
def test_a_signal_between_making_and_writing_leaves_nothing(tmp_path, monkeypatch, kind):
    make = getattr(atomic, kind)

    def interrupted(path):
        os.close(make(path))
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, kind, interrupted)
    block = atomic.replacing(tmp_path / "x") if kind == "_create" else atomic.scratch_folder(tmp_path)
    with pytest.raises(KeyboardInterrupt), block:
        pass
    assert list(tmp_path.iterdir()) == []
