"""Faults put into the command, each against one property: what does not see them sees nothing."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from liif_fast.cli import main as cli
from liif_fast.images import files as images
from liif_fast.training import run as train


def _behind(act: Callable[[], int | None]) -> None:
    """The command as it is, then something more; its exit code, if any, in place of the command's."""
    main = cli.main

    def planted(argv: list[str]) -> int:
        code = main(argv)
        other = act()
        return code if other is None else other

    cli.main = planted


def _shown(text: str) -> None:
    _behind(lambda: print(text, file=sys.stderr))


def exit_code() -> None:
    _behind(lambda: 3)


def crash() -> None:
    _behind(lambda: os.kill(os.getpid(), signal.SIGSEGV))


def trace() -> None:
    _behind(lambda: 1 // 0)


def foreign_line() -> None:
    _shown("warning: something")


def long_line() -> None:
    _shown("liif-fast: note: " + "x" * 10_000)


def wordless() -> None:
    _behind(lambda: print("liif-fast: error: ", file=sys.stderr) or 1)


def second_line() -> None:
    _behind(lambda: print("liif-fast: error: p.png: again", file=sys.stderr) or 1)


def silent_failure() -> None:
    _behind(lambda: os.unlink("out.png") or 1)


def lost_output() -> None:
    _behind(lambda: os.unlink("out.png"))


def part_file() -> None:
    _behind(lambda: Path(".abc.part").touch())


def half_output() -> None:
    _behind(lambda: os.truncate("out.png", os.path.getsize("out.png") // 2))


def changed_input() -> None:
    _behind(lambda: Path("p.png").write_bytes(b"lost"))


def code_run() -> None:
    _behind(lambda: Path("../canary").touch())


def wrong_pixel() -> None:
    write = images.write

    def changed(path, photo, **options):
        photo.pixels[0, 0] ^= 1
        return write(path, photo, **options)

    images.write = changed


def memory() -> None:
    _behind(lambda: len(b"x" * (700 << 20)) and None)


def address_space() -> None:
    _behind(lambda: mmap.mmap(-1, 3 << 30).close())


def processor_time() -> None:
    def spin() -> None:
        while True:
            pass

    _behind(spin)


def waiting() -> None:
    _behind(lambda: time.sleep(60))


def survivor() -> None:
    _behind(lambda: subprocess.Popen(["sleep", "30"]) and None)


def dry_run_agrees() -> None:
    train.dry_run = lambda *args: ("the configuration is in order", True)
