"""Signals from the command's first moment to its last."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import photo, runner
from PIL import Image

import liif_fast
from liif_fast.base import atomic, interruption
from liif_fast.training.signals import Signals

SIGHUP = getattr(signal, "SIGHUP", None) or pytest.skip("needs POSIX signals", allow_module_level=True)
PACKAGE = Path(liif_fast.__file__).parent.parent

# Stands in for the import of torch: a signal comes, and what Python raises for it is swallowed, as in modules in C.
TORCH = """
import os, signal
try:
    os.kill(os.getpid(), signal.{name})
except BaseException:
    pass
print("went on")
os._exit(0)
"""


def start(tmp_path: Path, torch: str, arguments: list[str], **options) -> tuple[int, str, str]:
    (tmp_path / "torch.py").write_text(torch)
    (tmp_path / "liif-fast").write_text("import sys\nfrom liif_fast.cli.main import main\nsys.exit(main())\n")
    (tmp_path / "program.py").write_text("import liif_fast\n")
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=60,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE}"}, **options,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def handle(**handlers):
    def before() -> None:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # a shell's background jobs have SIGINT ignored
            signal.signal(getattr(signal, name), handlers.get(name, signal.SIG_DFL))

    return before


UPSCALE = ["upscale", "x.png", "-o", "y.png", "-s", "2"]  # a command that needs torch
INTERRUPTED = "liif-fast: interrupted\n"
ENDED = {"SIGINT": (130, "", INTERRUPTED), "SIGTERM": (143, "", ""), "SIGHUP": (129, "", "")}


@pytest.mark.parametrize("name", ENDED)
def test_a_signal_while_modules_are_imported_ends_the_command(tmp_path, name):
    torch = TORCH.format(name=name)
    arguments = ["-m", "liif_fast", *UPSCALE]
    assert start(tmp_path, torch, arguments, preexec_fn=handle()) == ENDED[name]


@pytest.mark.parametrize(
    "arguments", [["-m", "liif_fast.train", "x"], ["-Bmliif_fast", "doctor"], ["liif-fast", *UPSCALE, "-m", "x"]]
)
def test_however_the_command_is_started(tmp_path, arguments):
    assert start(tmp_path, TORCH.format(name="SIGINT"), arguments, preexec_fn=handle()) == ENDED["SIGINT"]


def test_other_programs_and_ignored_signals_are_left_alone(tmp_path):
    torch = TORCH.format(name="SIGINT")
    went_on = (0, "went on\n", "")
    for arguments in (["program.py", "-m", "liif_fast"], ["-c", "import liif_fast", "liif-fast"]):
        assert start(tmp_path, torch, arguments, preexec_fn=handle()) == went_on
    for name in ("SIGINT", "SIGHUP"):  # of a background job; under nohup
        ignored = handle(**{name: signal.SIG_IGN})
        assert start(tmp_path, TORCH.format(name=name), ["-m", "liif_fast", *UPSCALE], preexec_fn=ignored) == went_on


def test_files_do_not_get_the_numbers_of_closed_standard_streams(tmp_path):
    torch = "import os\nprint(open(os.devnull).fileno() > 2, os.fstat(2).st_rdev == os.stat(os.devnull).st_rdev)\n"
    out = start(tmp_path, torch + "os._exit(0)", ["-m", "liif_fast", *UPSCALE], preexec_fn=lambda: os.close(2))
    assert out[:2] == (0, "True True\n")


@pytest.fixture
def two(tmp_path, tiny, monkeypatch):
    """Runs ``upscale`` on two files; ``strike`` is called while the first one is written."""
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)

    def run(strike) -> int:
        save = Image.Image.save

        def slow(self, stream, *args, **kwargs):
            save(self, stream, *args, **kwargs)
            if not struck:
                struck.append(True)
                strike()

        struck: list[bool] = []
        monkeypatch.setattr(Image.Image, "save", slow)
        monkeypatch.setattr(atomic, "_tidied", set())
        command = runner(monkeypatch, tiny())
        return command(tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out", "-s", "2")

    run.out = tmp_path / "out"
    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (SIGHUP, 129)])
def test_a_signal_while_a_file_is_written_leaves_nothing(two, capsys, number, code):
    before = [signal.getsignal(n) for n in interruption.NUMBERS]
    assert two(lambda: signal.raise_signal(number)) == code
    assert capsys.readouterr() == ("", INTERRUPTED if code == 130 else "")
    assert list(two.out.iterdir()) == []
    assert [signal.getsignal(n) for n in interruption.NUMBERS] == before


def test_nohup(two):
    before = signal.signal(SIGHUP, signal.SIG_IGN)
    try:
        assert two(lambda: signal.raise_signal(SIGHUP)) == 0
    finally:
        signal.signal(SIGHUP, before)
    assert len(list(two.out.iterdir())) == 2


def test_an_interrupt_that_is_swallowed_ends_the_work_all_the_same(two, capsys):
    def swallowed():
        with contextlib.suppress(KeyboardInterrupt):  # as a destructor's or a callback's is
            signal.raise_signal(signal.SIGINT)

    assert two(swallowed) == 130
    assert capsys.readouterr().err == INTERRUPTED
    assert [path.name for path in two.out.iterdir()] in ([], ["a.png"])


def test_a_second_interrupt_is_no_traceback(two, capsys, monkeypatch):
    def again(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("liif_fast.cli.reporting.say", again)
    assert two(lambda: signal.raise_signal(signal.SIGINT)) == 130


def test_at_the_end_an_interrupt_changes_nothing(monkeypatch):
    monkeypatch.setattr(interruption, "_command", True)
    before = interruption._install()
    try:
        interruption.over()
        assert [signal.getsignal(n) for n in (signal.SIGINT, SIGHUP)] == [signal.SIG_IGN, signal.SIG_IGN]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_training_takes_a_hangup_as_it_takes_a_termination():
    before = signal.signal(SIGHUP, lambda *_: pytest.fail("must not come through"))
    try:
        with Signals() as signals:
            signal.raise_signal(SIGHUP)
            assert signals
            assert signals.number == SIGHUP
        signal.signal(SIGHUP, signal.SIG_IGN)
        with Signals(time.monotonic() + 3600) as signals:
            signal.raise_signal(SIGHUP)
            assert not signals
    finally:
        signal.signal(SIGHUP, before)
