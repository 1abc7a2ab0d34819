"""Files that must be refused at once, in one line and without much memory."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

import liif_fast
from liif_fast import CheckpointError

SECONDS = 10  # of the processor, against a hang; each takes a few hundredths


@contextlib.contextmanager
def little_memory(room=500_000_000):
    """Allocations above what the process has plus ``room`` bytes fail."""
    resource = pytest.importorskip("resource")
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no way to see the address space")
    with open("/proc/self/statm", encoding="utf-8") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def refused(path, words, **args):
    begun = time.process_time()
    with little_memory(), pytest.raises(CheckpointError, match=words) as caught:
        liif_fast.load(path, **args)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 600
    assert time.process_time() - begun < SECONDS
    return text
