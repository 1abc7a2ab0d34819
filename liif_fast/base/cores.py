"""How many cores this process may use."""

from __future__ import annotations

import os


def cores() -> int:
    """Those that the system lets it run on (``taskset``, a container's cpuset), not all that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
