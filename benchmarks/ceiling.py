"""What the processor could do at most: loops of nothing but multiply-adds in registers (ceiling.cpp)."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

KINDS = {"float32": 0, "bfloat16": 1, "int8": 2, "int16": 3}
_NEEDS = {"float32": "avx512f", "bfloat16": "avx512_bf16", "int8": "avx512_vnni", "int16": "avx512_vnni"}


def ceilings(seconds: float = 0.3) -> dict[str, float]:
    """Operations per second (a multiply-add is two) by kind of number; empty where they cannot be measured."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split("flags", 1)[1].split("\n", 1)[0].split()) if info.exists() else set()
    kinds = {name: k for name, k in KINDS.items() if _NEEDS[name] in flags}
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not kinds or compiler is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "ceiling.so")
        source = Path(__file__).with_name("ceiling.cpp")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-pthread", source, "-o", library], check=True)
        function = ctypes.CDLL(str(library)).ceiling
        function.restype = ctypes.c_double
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_double]
        return {name: function(kind, torch.get_num_threads(), seconds) for name, kind in kinds.items()}
