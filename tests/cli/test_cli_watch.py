"""``--watch``: what is in folders and what appears there, each once, and never a result."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import command
import pytest
from PIL import Image

import liif_fast
from liif_fast.cli import common
from liif_fast.cli import main as cli
from liif_fast.upscaling import watching
from liif_fast.upscaling.options import Options

pytestmark = pytest.mark.usefixtures("no_matrix_units")


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    command.photo(tmp_path / "in" / "a.png")
    return tmp_path / "in"


def looks(folders, output, options, changes, recursive=False):
    """What each of len(changes) + 1 looks finds to be done, the changes made between them; and what is said."""
    found, said, rest = [[]], [], list(changes)

    def wait(seconds):
        assert seconds == watching.PERIOD == 1.0
        if not rest:
            raise KeyboardInterrupt
        rest.pop(0)()
        found.append([])

    with contextlib.suppress(KeyboardInterrupt):  # else it has no end
        for ready, everything in watching.batches(
            folders, output, options, recursive=recursive, say=said.append, wait=wait
        ):
            assert {source for source, _ in ready} <= set(everything)
            found[-1] += [str(relative) for _, relative in ready]
    return found, said


def nothing():
    pass


def test_a_file_is_done_once_it_stands_still_and_again_when_it_changes(folder, tmp_path):
    new = folder / "new.png"
    changes = [
        lambda: new.write_bytes(b"one"),
        lambda: new.write_bytes(b"one and"),
        lambda: os.utime(new, ns=(1, 1)),  # of the same size
        nothing,
        nothing,
        lambda: new.write_bytes(b"another"),
        nothing,
        new.unlink,
        lambda: new.write_bytes(b"another"),
        nothing,
    ]
    found, said = looks([folder], tmp_path / "out", Options(scale=2), changes)
    assert found == [[], ["a.png"], [], [], ["new.png"], [], [], ["new.png"], [], [], ["new.png"]]
    assert said == []


def test_results_are_no_inputs_even_without_their_sources(folder, tmp_path):
    for name in ("a_x2.png", "gone_x2.png", "b_x3.png"):
        command.photo(folder / name)
    options = Options(scale=2, suffix="_x2")
    assert looks([folder], None, options, [nothing])[0][1] == ["a.png", "b_x3.png"]
    assert looks([folder], folder, options, [nothing])[0][1] == ["a.png", "b_x3.png"]
    # elsewhere they are none
    whole = ["a.png", "a_x2.png", "b_x3.png", "gone_x2.png"]
    assert looks([folder], tmp_path / "out", options, [nothing])[0][1] == whole
    # an output folder within the watched one
    shutil.copytree(folder, folder / "out")
    assert looks([folder], folder / "out", Options(scale=2), [nothing], recursive=True)[0][1] == whole


def test_kinds_and_problems_are_said_once(folder, tmp_path):
    (folder / "notes.txt").write_text("hello")
    moved = tmp_path / "moved"
    changes = [
        lambda: (folder / "more.txt").write_text("hello"),
        lambda: (folder / "film.mp4").write_text("hello"),
        lambda: folder.rename(moved),
        nothing,
        lambda: moved.rename(folder),
        nothing,
        lambda: folder.rename(moved),
    ]
    found, said = looks([folder], tmp_path / "out", Options(scale=2), changes)
    gone = f"error: {folder}: cannot be listed (No such file or directory); check its permissions"
    assert said == ["note: 1 skipped: 1 .txt", "note: 1 skipped: 1 .mp4", gone, gone]
    assert found[1] == ["a.png"]
    assert found[6] == ["a.png"]  # it was away: its result will be there


@pytest.fixture
def run(model_file, capsys, monkeypatch):
    """run(changes, *arguments): the command, with the changes between its looks and Ctrl-C after them."""

    def call(changes, *arguments):
        rest = list(changes)

        def wait(_):
            if not rest:
                raise KeyboardInterrupt
            rest.pop(0)()

        monkeypatch.setattr(watching.batches, "__kwdefaults__", {**watching.batches.__kwdefaults__, "wait": wait})
        return command.outcome(capsys, *arguments, "--watch", "-s", "2", "-m", model_file)

    return call


def test_done_failed_and_mended_and_a_restart(run, folder, tmp_path, monkeypatch):
    bad = folder / "bad.png"
    changes = [lambda: bad.write_text("hello"), nothing, nothing, nothing, lambda: command.photo(bad), nothing]
    code, stdout, stderr = run(changes, folder)
    assert code == 1
    assert [line.split(": ")[0] for line in stdout.splitlines()] == [
        str(folder / "a_x2.png"),
        str(folder / "bad_x2.png"),
    ]
    said = stderr.splitlines()
    assert said[0] == f"liif-fast: watching {folder}; Ctrl-C ends it"
    assert "bad.png: not an image of a known format" in said[1]
    assert said[2:] == ["liif-fast: stopped"]
    (folder / "bad.png").unlink()  # its result stays one
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    code, stdout, stderr = run([nothing, nothing], folder)
    assert (code, stdout) == (0, "")
    assert "liif-fast: note: 1 skipped: their results are there" in stderr.splitlines()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_folder_for_the_results_with_the_sub_folders_kept(run, folder, tmp_path):
    (folder / "deep").mkdir()
    change = lambda: command.photo(folder / "deep" / "b.jpg")  # noqa: E731
    assert run([nothing, change, nothing, nothing], folder, "-r", "-o", folder / "out")[0] == 0
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*g")} == {
        "a.png", "deep/b.jpg", "out/a.png", "out/deep/b.jpg"
    }  # fmt: skip


def test_with_overwrite_a_changed_image_is_done_again(run, folder):
    larger = lambda: command.photo(folder / "a.png", size=(20, 10))  # noqa: E731
    for flags, width in (([], 28), (["--overwrite"], 40)):
        command.photo(folder / "a.png")
        assert run([nothing, larger, nothing, nothing], folder, *flags)[0] == 0
        with Image.open(folder / "a_x2.png") as image:
            assert image.width == width


def test_no_result_replaces_an_image_of_the_folder(run, folder):
    """c.gif becomes c.png, which a.png is under another name, though it is not new."""
    before, out = (folder / "a.png").read_bytes(), folder.parent / "out"
    out.mkdir()
    gif = lambda: Image.open(folder / "a.png").save(folder / "c.gif")  # noqa: E731
    link = lambda: ((out / "a.png").unlink(), os.link(folder / "a.png", out / "c.png"), gif())  # noqa: E731
    code, _, stderr = run([nothing, nothing, link, nothing, nothing], folder, "-o", out, "--overwrite")
    assert code == 1
    assert "c.png: is another input of this run" in stderr
    assert (folder / "a.png").read_bytes() == before


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_no_result_replaces_that_of_another_image(run, folder, flags):
    """Which came earlier; a name is free again where nothing was written."""
    other, out = folder.parent / "other", folder.parent / "out"
    other.mkdir()
    (folder / "b.png").write_text("hello")
    changes = [
        nothing,
        lambda: [command.photo(other / name, size=(20, 10)) for name in ("a.png", "b.png")],
        nothing,
        lambda: command.photo(folder / "a.png", 2),
        nothing,
        nothing,
    ]
    code, stdout, stderr = run(changes, folder, other, "-o", out, *flags)
    assert code == 1
    assert f"error: {other / 'a.png'}: {out / 'a.png'} was already written for another input" in stderr
    assert f"{out / 'b.png'}: 20x10 -> 40x20" in stdout
    assert stdout.count(f"{out / 'a.png'}: 14x10") == 1 + len(flags)  # again as it changed
    assert stderr.count("error: ") == 2
    with Image.open(out / "a.png") as image:
        assert image.size == (28, 20)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("in/a.png", "--watch in/a.png: is no folder"),
        ("in missing", "--watch missing: is no folder"),
        ("in --dry-run", "--watch: not together with --dry-run"),
        ("in --in-place", "--watch: not together with --in-place"),
        ("in --suffix= --format webp", "--watch: results beside the images are told by --suffix; give one, or "),
        ("in -o in/../in --format webp", "--watch: results beside the images are told by --suffix"),
        ("in -o out.png", "-o out.png: several inputs need a folder"),
        ("", "INPUT"),
    ],
)
def test_wrong_uses(capsys, folder, monkeypatch, arguments, words):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(common, "load", lambda *_: pytest.fail("the model is loaded"))
    code, stdout, stderr = command.outcome(capsys, "--watch", *arguments.split(), "-s", "2")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert words in stderr


def test_not_under_torchrun(capsys, folder, monkeypatch):
    monkeypatch.setattr(cli.distributed, "world", lambda: 2)
    code, _, stderr = command.outcome(capsys, "--watch", folder, "-s", "2", "--device", "cpu")
    assert (code, stderr) == (2, "liif-fast: error: --watch: not under torchrun; start it as one process\n")


def test_a_wrong_model_is_said_at_once(capsys, tmp_path):
    code, _, stderr = command.outcome(capsys, "--watch", tmp_path, "-s", "2", "-m", "no-such-model")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "no-such-model" in stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_whole_process(folder, model_file, number, code):
    arguments = [sys.executable, "-m", "liif_fast", "--watch", folder, "-s", "2", "-m", model_file]
    env = {**os.environ, "PYTHONPATH": str(Path(liif_fast.__file__).parents[1])}
    process = subprocess.Popen(
        list(map(str, arguments)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert "a_x2.png: 14x10 -> 28x20" in process.stdout.readline()
    command.photo(folder / "b.png")
    assert "b_x2.png: 14x10 -> 28x20" in process.stdout.readline()
    time.sleep(0.1)  # it waits again
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (code, "")
    assert ("liif-fast: stopped" in stderr) is (code == 0)
    assert "Traceback" not in stderr
