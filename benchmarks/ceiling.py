"""What the machine could do at most, measured in the same run as everything else.

A processor: loops of nothing but multiply-adds in registers (ceiling.cpp), "amx ..." on its matrix unit. A CUDA device:
torch's products of square matrices and its copy.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import processor
import torch
from gauge import medians
from measure import Clock

# the number that ceiling.cpp knows it by, and the processor's flags that it needs
_KINDS: dict[str, tuple[int, set[str]]] = {
    "float32": (0, {"avx512f"}),
    "bfloat16": (1, {"avx512_bf16"}),
    "int8": (2, {"avx512_vnni"}),
    "int16": (3, {"avx512_vnni"}),
    "amx bfloat16": (4, set(processor.AMX)),
    "amx int8": (5, set(processor.AMX)),
}


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
    """What cannot be measured of AMX, where the processor has it, is said on standard error."""
    flags = processor.flags()
    kinds = {name: number for name, (number, needs) in _KINDS.items() if needs <= flags}
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not kinds or compiler is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path, amx = Path(folder, "ceiling.so"), flags >= processor.AMX
        missing = "" if not amx or build(compiler, path, amx=True) else f"{compiler}'s assembler does not know it"
        if not amx or missing:
            build(compiler, path)
        library = ctypes.CDLL(str(path))
        if amx and not missing and library.amx_permission():
            missing = "the system does not permit it"
        if missing:
            print(f"ceilings: AMX not measured: {missing}", file=sys.stderr)
            kinds = {name: number for name, number in kinds.items() if not name.startswith("amx")}
        library.ceiling.restype = ctypes.c_double
        library.ceiling.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_double]
        return {name: library.ceiling(number, torch.get_num_threads(), seconds) for name, number in kinds.items()}


def build(compiler: str, path: Path, amx: bool = False) -> bool:
    """ceiling.cpp as a library at ``path``; False where with ``amx`` it cannot be: the assembler is too old.

    Raises:
        subprocess.CalledProcessError: it cannot be without.
    """
    command = [compiler, "-O2", "-shared", "-fPIC", "-pthread", Path(__file__).with_name("ceiling.cpp"), "-o", path]
    done = subprocess.run([*command, *(["-DWITH_AMX"] if amx else [])], check=not amx, capture_output=amx)
    return done.returncode == 0


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
