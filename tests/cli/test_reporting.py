"""What cannot be said stops nothing: full, closed and narrow standard streams, and what the exit code tells."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import photo, runner

import liif_fast
from liif_fast.cli import reporting
from liif_fast.training.journal import LOG, Journal
from liif_fast.weights import pretrained

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
NAME = os.fsdecode(b"na\xffm\xc3\xa9\n\x1b[31m.png")  # not UTF-8, two lines, and what colours a terminal


def full():
    return open("/dev/full", "w", encoding="utf-8")


def gone():
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def narrow():
    return io.TextIOWrapper(io.BytesIO(), "ascii")


@pytest.fixture
def folder(tmp_path):
    """Images of which the first has a name that no stream takes as it is."""
    (tmp_path / "in").mkdir()
    for i, name in enumerate((NAME, "b.png")):
        photo(tmp_path / "in" / name, i)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        pytest.param(full, "No space left on device", marks=needs_full),
        (gone, "Broken pipe"),
        (closed, "I/O operation on closed file"),
        (lambda: None, "it is closed"),
    ],
)
@pytest.mark.parametrize("json", [[], ["--json"]], ids=["text", "json"])
def test_all_files_are_done_though_results_cannot_be_written(folder, tiny, monkeypatch, capsys, stream, why, json):
    run = runner(monkeypatch, tiny())
    out = stream()
    monkeypatch.setattr(sys, "stdout", out)
    assert run(folder, "-o", folder.parent / "out", "-s", "2", *json) == 1
    if out is not None and not out.closed:
        out.close()  # nothing of it is left that would complain on the way out
    assert {path.name for path in (folder.parent / "out").iterdir()} == {NAME, "b.png"}
    error = f"liif-fast: error: standard output: {why}: not all results could be written there\n"
    assert capsys.readouterr().err == error
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert run(folder, "-o", folder.parent / "out", "-s", "2", "--overwrite") == 0  # nothing is remembered


def test_names_that_cannot_be_encoded_are_one_escaped_line(folder, tiny, monkeypatch):
    run = runner(monkeypatch, tiny())
    streams = narrow(), io.TextIOWrapper(io.BytesIO(), "utf-8")
    for name, out in zip("xy", streams, strict=True):
        monkeypatch.setattr(sys, "stdout", out)
        assert run(folder, "-o", folder.parent / name, "-s", "2") == 0
    said = [stream.buffer.getvalue().decode().splitlines() for stream in streams]
    assert [len(lines) for lines in said] == [2, 2]
    assert rf"x{os.sep}na\udcffm\xe9\x0a\x1b[31m.png: 14x10 -> 28x20" in said[0][1].replace(r"\n", r"\x0a")
    assert r"na\udcffmé" in said[1][1]
    out = narrow()
    monkeypatch.setattr(sys, "stdout", out)
    assert run(folder, "-o", folder.parent / "z", "-s", "2", "--json") == 0
    rows = [json.loads(line) for line in out.buffer.getvalue().decode().splitlines()]
    assert Path(rows[1]["output"]).name == NAME


@pytest.mark.parametrize("stream", [lambda: None, closed, gone, pytest.param(full, marks=needs_full)])
def test_without_standard_error(folder, tiny, monkeypatch, capsys, stream):
    """Notes, errors, tracebacks and progress have nowhere to go, and do not go to standard output."""
    run = runner(monkeypatch, tiny())
    (folder / "a.png").write_bytes(b"no image")
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(reporting, "FIRST_LINE", 0.0)
    assert run(folder, "-o", folder.parent / "out", "-s", "2", "--debug") == 1
    assert {path.name for path in (folder.parent / "out").iterdir()} == {NAME, "b.png"}
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert run(folder, "--no-such-option") == 2  # argparse says why
    monkeypatch.setattr(pretrained, "_original", lambda *_: Path("x.pth"))
    monkeypatch.setenv("LIIF_FAST_CACHE", str(folder.parent / "cache"))
    pretrained.path("edsr-baseline-liif", lambda original, target, credit: target.write_bytes(b""))
    assert capsys.readouterr().out == ""


@needs_full
@pytest.mark.parametrize("command", ["eval", "compare", "doctor", "--help", "--version"])
def test_every_command_ends_with_1_if_its_result_cannot_be_written(folder, tiny, monkeypatch, capsys, command):
    model = tiny()
    model._spec_args = {"encoder_spec": {"name": "tiny"}, "imnet_spec": None}
    arguments = {
        "eval": ["--data", folder, "-s", "2"],
        "compare": ["--data", folder, "-s", "2", "-m", "x", "-o", folder.parent / "out"],
    }.get(command, [])
    for path in folder.iterdir():
        photo(path, size=(40, 32))
    monkeypatch.setattr(sys, "stdout", full())
    assert runner(monkeypatch, model, command)(*arguments) == 1
    assert "standard output: No space left on device" in capsys.readouterr().err
    assert command != "compare" or (folder.parent / "out" / "compare.md").exists()


@needs_full
def test_lines_of_training(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    monkeypatch.setattr(sys, "stdout", full())
    with reporting.log_as_lines():
        journal.say(f"note: {NAME}")
    journal.close()
    assert (tmp_path / LOG).read_text("utf-8").startswith(r"note: na\udcff")
    assert reporting.finish(0) == 1


def test_a_comparison_with_a_name_that_is_not_text(folder, tiny, monkeypatch, capsys):
    data = folder.parent / os.fsdecode(b"d\xff")
    data.mkdir()
    photo(data / "a.png", size=(40, 32))
    model = tiny()
    model._spec_args = {"encoder_spec": {"name": "tiny"}, "imnet_spec": None}
    run = runner(monkeypatch, model, "compare")
    assert run("--data", data, "-s", "2", "-m", "x", "-o", folder.parent / "out") == 0
    assert r"d\udcff" in (folder.parent / "out" / "compare.md").read_text("utf-8")
    assert run("--data", data, "-s", "2", "-m", "x", "-o", data) == 2  # its pictures would become data
    assert "-o" in capsys.readouterr().err


@needs_full
def test_a_whole_process(tmp_path):
    """Neither Python's own end nor a library says or changes anything."""
    torch_less = "import sys; from liif_fast.cli.main import main; sys.exit(main(['doctor']))"
    env = {**os.environ, "PYTHONPATH": str(Path(liif_fast.__file__).parent.parent)}
    env.pop("PYTHONUNBUFFERED", None)
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >/dev/full', sys.executable, torch_less],
        capture_output=True, text=True, timeout=120, env=env,
    )  # fmt: skip
    wanted = "liif-fast: error: standard output: No space left on device: not all results could be written there\n"
    assert (done.returncode, done.stderr) == (1, wanted)
