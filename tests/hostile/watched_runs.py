"""Runs of the command that something befalls meanwhile, and how to see how far they are."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from forkserver import Client, Request
from PIL import Image

PATIENCE = 60.0  # seconds until something must have happened, on a busy machine too


def noise(path: Path, width: int, height: int) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path, compress_level=0)
    return path


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "what was waited for has not happened"
        time.sleep(0.002)


def hidden(folder: Path) -> list[str]:
    """Files that begin with a dot: what is being written, or was left behind."""
    with contextlib.suppress(FileNotFoundError):
        return [name for name in os.listdir(folder) if name.startswith(".")]
    return []


def text_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    assert "Traceback" not in text, text
    return text


class Run:
    """A run of the command in the server, in a folder of its own."""

    def __init__(self, client: Client, folder: Path, *argv: object, **options: object) -> None:
        self.client, self.folder = client, folder
        self.out, self.err = folder / "stdout.txt", folder / "stderr.txt"
        for path in (self.out, self.err):
            path.unlink(missing_ok=True)
        streams = {"stdout": str(self.out), "stderr": str(self.err)}
        request = Request(
            [str(a) for a in argv], cwd=str(folder), **{**streams, "wall": PATIENCE, "cpu": 30.0, **options}
        )
        self.pid = client.start(request)

    def end(self):
        self.outcome = self.client.finish()
        self.errors = [x for x in text_of(self.err).splitlines() if x.startswith("liif-fast: error: ")]
        text_of(self.out)
        assert self.outcome.killed is None, (self.outcome, text_of(self.err))
        assert not self.outcome.survivors
        return self.outcome.code
