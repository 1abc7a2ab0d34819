"""What AMX's kernels are made of: tiles in plain C++ against exact arithmetic, their vectors on AVX-512 against plain
C++ to the bit, their instructions in what the compiler makes."""

from __future__ import annotations

import ctypes
import itertools
import os
import platform
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from built_once import built_once, processor, sources, version

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AVX512_BF16 = ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16"]


def compiled(name, make, *inputs):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    return built_once(name, [*sources("csrc"), *inputs, version(compiler), processor()], lambda to: make(compiler, to))


@pytest.fixture(scope="module")
def products():
    source, flags = HERE / "tiles_module.cpp", ["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]

    def make(compiler, folder):
        command = [compiler, *flags, "-include", ROOT / "csrc" / "corners.h", source, "-o", folder / "tiles.so"]
        subprocess.run(command, check=True)

    function = ctypes.CDLL(str(compiled("tiles", make, source, *flags) / "tiles.so")).products

    def call(a, b, c, c8):
        arrays = [np.ascontiguousarray(x).copy() for x in (a, b, c, c8)]
        function(*(ctypes.c_void_p(x.ctypes.data) for x in arrays))
        return arrays[2:]

    return call


def rounded(x):
    """To float32, ties to even; what is below 2^-126 after rounding to 24 bits becomes zero."""
    if x == 0:
        return Fraction(0)
    exponent = max(x.numerator.bit_length() - x.denominator.bit_length() - 24, -400)
    while abs(x) >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while abs(x) < Fraction(2) ** (exponent + 23):
        exponent -= 1
    y = round(x / Fraction(2) ** exponent) * Fraction(2) ** exponent  # Python rounds ties to even
    return y if abs(y) >= Fraction(2) ** -126 else Fraction(0)


def flushed(x):
    return Fraction(float(x)) if abs(float(x)) >= 2.0**-126 else Fraction(0)


def specified(a, b, c):
    """tdpbf16ps for one output: chains over even and odd inputs, their sum, c."""
    chains = [Fraction(0), Fraction(0)]
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        chains[k % 2] = rounded(flushed(x) * flushed(y) + chains[k % 2])
    return rounded(flushed(c) + rounded(chains[0] + chains[1]))


@pytest.mark.parametrize("kind", ["normal", "many magnitudes", "around the smallest", "few values"])
def test_plain_bfloat16_products_round_as_amx(products, kind):
    torch.manual_seed(0)
    a, b, c = torch.randn(16, 32), torch.randn(32, 16), torch.randn(16, 16)
    if kind == "many magnitudes":
        a, b, c = (x * 2.0 ** torch.randint(-20, 20, x.shape) for x in (a, b, c))
    elif kind == "around the smallest":  # products and sums around 2^-126, and inputs that are subnormal
        a, b = (x * 2.0 ** torch.randint(-66, -60, x.shape) for x in (a, b))
        a[:, ::5] = 1e-39
        c = c * 2.0 ** torch.randint(-130, -122, c.shape)
    elif kind == "few values":  # ties
        a, b = (torch.randint(0, 2, x.shape) * 2 + 1 + 2.0**-7 * torch.randint(-1, 2, x.shape) for x in (a, b))
    a, b = a.bfloat16(), b.bfloat16()
    pairs = b.view(16, 2, 16).transpose(1, 2).contiguous()
    got, _ = products(*(x.view(torch.int16).numpy() for x in (a, pairs)), c.numpy(), np.zeros((16, 16), np.int32))
    for m, n in itertools.product(range(16), range(16)):
        want = specified(a[m].tolist(), b[:, n].tolist(), c[m, n].item())
        assert Fraction(float(got[m, n])) == want, (m, n)


def test_plain_integer_products_are_exact(products):
    a, b = np.random.default_rng(0).integers(-128, 128, (2, 16, 64), dtype=np.int8)
    start = np.full((16, 16), 2**31 - 1000, np.int32)
    _, got = products(a, b, np.zeros((16, 16), np.float32), start)
    weights = b.reshape(16, 16, 4).transpose(0, 2, 1).reshape(64, 16).astype(np.int64)
    exact_sum = start + a.view(np.uint8).astype(np.int64) @ weights
    assert (exact_sum != exact_sum.astype(np.int32)).any()  # 32 bits wrap
    np.testing.assert_array_equal(got, exact_sum.astype(np.int32))


def test_vectors_of_avx512_on_plain_tiles_give_the_bits_of_plain_kernels():
    if not os.path.exists("/proc/cpuinfo") or "avx512_bf16" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this processor has no AVX-512-BF16")
    source, flags = HERE / "amx_on_cpu.cpp", ["-std=c++17", "-O1", "-ffp-contract=off", "-w"]
    plain = ROOT / "csrc" / "cpu" / "kernels_plain_amx.cpp"

    def make(compiler, folder):
        tiles = '-DLIIF_TILES="tiles_plain.h"'
        jobs = [[*AVX512_BF16, tiles, "-c", source, "-o", folder / "1.o"], ["-Os", "-c", plain, "-o", folder / "2.o"]]
        for job in jobs:
            subprocess.run([compiler, *flags, *job], check=True)
        subprocess.run([compiler, folder / "1.o", folder / "2.o", "-o", folder / "amx"], check=True)

    done = subprocess.run([compiled("amx", make, source, *flags) / "amx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout == "0 of 114 wrong\n"


def test_instructions_are_compiled_and_left_out_where_the_compiler_does_not_know_them():
    source, flags = ROOT / "csrc" / "cpu" / "kernels_amx.cpp", ["-std=c++17", "-O1", "-ffp-contract=off", "-w"]

    def make(compiler, folder):
        tiles = [*AVX512_BF16, "-mamx-tile", "-mamx-bf16", "-mamx-int8"]
        known = subprocess.run([compiler, *flags, *tiles, "-S", source, "-o", folder / "amx.s"]).returncode == 0
        (folder / "known").write_text(str(known))
        subprocess.run([compiler, *flags, "-DLIIF_FAST_SKIP", "-S", source, "-o", folder / "skipped.s"], check=True)

    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("not a processor of x86")
    folder = compiled("amx_code", make, source, *flags)
    tables = ("path_amx_bf16", "path_amx_int8")
    assert all(name in (folder / "skipped.s").read_text() for name in tables)
    if (folder / "known").read_text() == "False":
        pytest.skip("this compiler does not know AMX")
    code = (folder / "amx.s").read_text()
    assert all(name in code for name in tables)
    for instruction in ("tdpbf16ps", "tdpbusd", "tileloadd", "tileloaddt1", "tilestored"):
        assert re.search(rf"\b{instruction}\b.*%tmm\d", code), instruction
    assert code.count("ldtilecfg") == code.count("tilerelease")
