"""What the system tells of a process that runs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def group_lives(group: int) -> bool:
    """Whether a process of this group still runs."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def memory(pid: int) -> tuple[int, int]:
    """Bytes in memory, and the largest address space so far."""
    found = {"VmRSS": 0, "VmPeak": 0}
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return found["VmRSS"], found["VmPeak"]


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time so far."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
