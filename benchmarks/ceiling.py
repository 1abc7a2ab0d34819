"""What the machine could do at most, measured in the same run as everything else.

A processor: loops of nothing but multiply-adds in registers (ceiling.cpp). A CUDA device: torch's products of square
matrices and its copy.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from gauge import medians
from measure import Clock

_KINDS = {"float32": 0, "bfloat16": 1, "int8": 2, "int16": 3}
_NEEDS = {"float32": "avx512f", "bfloat16": "avx512_bf16", "int8": "avx512_vnni", "int16": "avx512_vnni"}


@contextlib.contextmanager
def tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def ceilings(device: torch.device, tiny: bool = False) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Operations per second (a multiply-add is two) by kind of number, and on CUDA "copy": bytes read and written per
    second. Empty where they cannot be measured. And the card's clock and power meanwhile, see ``gauge.py``."""
    return _cuda(device, tiny) if device.type == "cuda" else (_cpu(0.02 if tiny else 0.3), {})


def _cpu(seconds: float) -> dict[str, float]:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    flags = set(text.split("flags", 1)[1].split("\n", 1)[0].split()) if "flags" in text else set()
    kinds = {name: k for name, k in _KINDS.items() if _NEEDS[name] in flags}
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


def _cuda(device: torch.device, tiny: bool) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Medians; the better of two sizes for products. On random numbers: zeros take less power and run faster."""
    clock, found, card = Clock(device), {}, {}
    for kind in ("bfloat16", "float16", "float32", "tf32", "int8"):
        best = 0.0
        for n in (256,) if tiny else (4096, 8192):
            if kind == "int8":
                (a, b), multiply = torch.randint(-128, 128, (2, n, n), device=device).to(torch.int8), torch._int_mm
            else:
                dtype = torch.float32 if kind == "tf32" else getattr(torch, kind)
                (a, b), multiply = torch.randn(2, n, n, device=device).to(dtype), torch.mm
            with tf32() if kind == "tf32" else contextlib.nullcontext():
                times = [clock(lambda m=multiply, a=a, b=b: m(a, b.t())) for _ in range(12)][3:]
            best = max(best, 2 * n**3 / statistics.median(times))
        found[kind], card[kind] = best, medians(clock.gauge.take())
    source = torch.empty(1 << (20 if tiny else 30), dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    times = [clock(lambda: target.copy_(source)) for _ in range(12)][3:]
    found["copy"], card["copy"] = 2 * source.nbytes / statistics.median(times), medians(clock.gauge.take())
    return found, card
