"""What tests compile, kept under build/tests by the hash of all that went into it: made once, by one process."""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "tests"


def version(compiler: str) -> str:
    """What a compiler says of itself."""
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout


def processor() -> str:
    """What -march=native compiles for."""
    words = ("vendor_id", "cpu family", "model", "flags", "Features")
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return "\n".join(sorted({line for line in lines if line.startswith(words)})) or platform.processor()


def sources(*folders: str) -> list[Path]:
    """Every source file in these folders of the repository."""
    return sorted(p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in (".h", ".cpp", ".cu", ".py"))


def built_once(name: str, inputs: Iterable[Path | str], make: Callable[[Path], None]) -> Path:
    """A folder that ``make(folder)`` filled, from these files and words (flags, versions) and no others.

    Other processes wait for the first; what a build that raised left is made anew.
    """
    digest = hashlib.sha256(f"{sys.version} {torch.__version__}".encode())
    for item in inputs:
        content = item.read_bytes() if isinstance(item, Path) else item.encode()
        digest.update(f"\n{item} {len(content)}\n".encode() + content)
    target = KEPT / f"{name}-{digest.hexdigest()[:16]}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            making = KEPT / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)  # of a process that was killed
            making.mkdir()
            make(making)
            making.rename(target)
    return target
